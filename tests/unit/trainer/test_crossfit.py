"""Cross-fitted votes: nobody votes on what they have learnt, and a run that was killed goes on where it was."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import TrainerCallback

from sidecar.repository import read_taxonomy
from tests.unit.trainer.conftest import run
from tests.unit.trainer.tiny import corpus, write_config
from trainer import crossfit, learn
from trainer.augment import joined, pairs
from trainer.config import Config, read_config
from trainer.crossfit import teachers
from trainer.distill import read_votes, text_key
from trainer.export import trained_logits
from trainer.split import Split, fold, split_key
from trainer.texts import Example, write_examples
from trainer.train import corpus_split, read_trained, train

pytestmark = pytest.mark.filterwarnings("ignore")

CODES = ("refund", "delivery", "defect", "other")
FOLDS = 3


def student_config(folder: Path, base: Path, **changes: object) -> Config:
    """A config whose training part gets joined texts."""
    folder.mkdir(exist_ok=True)
    path = write_config(folder, base, **{"epochs": 2.0, **changes}).path
    path.write_text(path.read_text().replace("test_share = 0.1", "test_share = 0.1\njoined = 0.3"))
    return read_config(path)


def vote(student: Config, to: Path, *more: object) -> int:
    """`distill --folds`, with teachers that learn as the student does."""
    config = ("--config", student.path, "--teacher-config", student.path)
    return run("distill", *config, "--folds", FOLDS, "--to", to, *more)


@pytest.fixture(scope="module")
def student(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    return student_config(tmp_path_factory.mktemp("student"), tiny_base)


@pytest.fixture(scope="module")
def votes(student: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an undisturbed run writes, with one seed."""
    path = tmp_path_factory.mktemp("votes") / "votes.jsonl"
    assert vote(student, path) == 0
    return path


def training_part(config: Config) -> tuple[Example, ...]:
    return corpus_split(config, read_taxonomy(config.path.parent / "taxonomy.toml")).train


def count_trainings(patch: pytest.MonkeyPatch) -> list[set[str]]:
    """A list that receives the training texts of each teacher as it is trained."""
    seen: list[set[str]] = []

    def counted(config: Config, folder: Path, *, parts: Split, **more: Any) -> dict[str, float]:
        seen.append({e.text for e in parts.train})
        return train(config, folder, parts=parts, **more)

    patch.setattr(crossfit, "train", counted)
    return seen


def test_every_text_is_judged_only_by_teachers_that_did_not_train_on_it(
    student: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt = count_trainings(monkeypatch)
    judged: list[set[str]] = []
    real: Callable[..., Any] = trained_logits

    def recorded(trained: object, texts: Sequence[str], window: int) -> Any:
        judged.append(set(texts))
        return real(trained, texts, window)

    monkeypatch.setattr(crossfit, "trained_logits", recorded)
    assert vote(student, tmp_path / "votes.jsonl", "--seeds", 2) == 0
    assert len(learnt) == len(judged) == 2 * FOLDS
    part = training_part(student)
    halves = {joined(a, b).text: {a.text, b.text} for a, b in pairs(part, 0.3, student.data.seed)}
    assert len(halves) > 20
    votes = read_votes(tmp_path / "votes.jsonl", CODES)
    for example in part:
        judges = [known for known, texts in zip(learnt, judged, strict=True) if example.text in texts]
        assert len(judges) == 2
        assert all(example.text not in known for known in judges)
        assert text_key(example.text) in votes
    for text, both in halves.items():
        judges = [known for known, texts in zip(learnt, judged, strict=True) if text in texts]
        assert judges
        assert all(not both <= known for known in judges)
        assert text_key(text) in votes


def test_a_label_does_not_reach_the_votes_on_its_own_text(student: Config, votes: Path, tmp_path: Path) -> None:
    """The proof by effect: another label changes what is said of other texts, and nothing of this one."""
    chosen = training_part(student)[0]
    other = student_config(tmp_path / "other", Path(student.network.base))
    altered = [replace(e, motives=("defect", "delivery")) if e.text == chosen.text else e for e in corpus()]
    assert chosen.motives != ("defect", "delivery")
    write_examples(other.path.parent / "corpus.jsonl", altered)
    assert vote(other, tmp_path / "votes.jsonl") == 0
    before, after = read_votes(votes, CODES), read_votes(tmp_path / "votes.jsonl", CODES)
    assert before.keys() == after.keys()
    key = text_key(chosen.text)
    assert np.array_equal(np.concatenate(before[key]), np.concatenate(after[key]))
    changed = [key for key in before if not np.array_equal(before[key][1], after[key][1])]
    assert len(changed) > len(before) // 4


def test_a_run_that_was_killed_trains_only_the_teachers_that_are_missing(
    student: Config, votes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(TrainerCallback):
        """A kill in the second epoch of the second teacher."""

        def on_epoch_begin(self, args: object, state: object, control: object, **_: object) -> None:
            if state.epoch >= 1 and len(learnt) == 2:  # type: ignore[attr-defined]
                raise KeyboardInterrupt

    learnt = count_trainings(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(learn, "callbacks", lambda options: [Stop()])
        assert vote(student, tmp_path / "votes.jsonl") == 130
    assert not (tmp_path / "votes.jsonl").exists()
    assert vote(student, tmp_path / "votes.jsonl") == 0
    assert len(learnt) == 2 + (FOLDS - 1)
    straight, again = read_votes(votes, CODES), read_votes(tmp_path / "votes.jsonl", CODES)
    assert straight.keys() == again.keys()
    assert all(np.allclose(np.concatenate(straight[k]), np.concatenate(again[k]), atol=0.03) for k in straight)
    assert [path for path in (tmp_path / "votes.jsonl.folds").iterdir() if path.suffix != ".npy"] == []


def test_more_seeds_train_only_the_further_teachers_and_a_changed_corpus_all(
    student: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt = count_trainings(monkeypatch)
    fast = student_config(tmp_path / "fast", Path(student.network.base), epochs=0.2)
    for seeds, trained in ((1, FOLDS), (1, FOLDS), (2, 2 * FOLDS)):
        assert vote(fast, tmp_path / "votes.jsonl", "--seeds", seeds) == 0
        assert len(learnt) == trained
    write_examples(fast.path.parent / "corpus.jsonl", corpus(250))
    assert vote(fast, tmp_path / "votes.jsonl", "--seeds", 1) == 0
    assert len(learnt) == 3 * FOLDS


def test_a_second_generation_learns_from_the_votes_of_the_first(student: Config, votes: Path, tmp_path: Path) -> None:
    base = Path(student.network.base)
    second = student_config(tmp_path / "second", base, teacher=str(votes), teacher_share=0.9)
    assert vote(second, tmp_path / "votes.jsonl") == 0
    first, later = read_votes(votes, CODES), read_votes(tmp_path / "votes.jsonl", CODES)
    assert first.keys() == later.keys()
    assert any(not np.array_equal(first[key][0], later[key][0]) for key in first)
    pupil = student_config(tmp_path / "pupil", base, layers=[0], teacher=str(tmp_path / "votes.jsonl"))
    assert run("train", "--config", pupil.path, "--to", tmp_path / "model") == 0
    assert read_trained(tmp_path / "model").model.backbone.config.num_hidden_layers == 1


def test_a_group_stays_in_one_fold_and_folds_are_about_equal() -> None:
    texts = [Example(f"text {i} of {i}", group=f"author {i % 700}") for i in range(2100)]
    homes: dict[str, set[int]] = {}
    for example in texts:
        homes.setdefault(split_key(example), set()).add(fold(example, 5, 17))
    assert all(len(home) == 1 for home in homes.values())
    sizes = np.bincount([fold(example, 5, 17) for example in texts], minlength=5)
    assert sizes.min() > 300


def test_teachers_take_their_network_from_their_own_config_and_their_texts_from_the_students(
    student: Config, tmp_path: Path
) -> None:
    own = write_config(tmp_path, Path(student.network.base), layers=[1], learning_rate=1e-3, seed=5)
    write_examples(tmp_path / "corpus.jsonl", [])
    _, planned = teachers(student, own, 2, 2)
    assert [(one.fold, one.seed) for one in planned] == [(0, 5), (1, 5), (0, 6), (1, 6)]
    for one in planned:
        assert one.config.network.layers == (1,)
        assert one.config.optimisation.learning_rate == 1e-3
        assert one.config.data.joined == 0.3
    assert {e.text for one in planned for e in one.parts.train} == {e.text for e in training_part(student)}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "whose votes?"),
        (("some-folder", "--folds", 3), "whose votes?"),
        (("--folds", 1), "1 folds and 1 seeds make no cross-fitting"),
        (("--folds", 3, "--seeds", 0), "3 folds and 0 seeds"),
        (("--folds", 100_000), "too few for 100000 folds"),
        (("--folds", 3, "--teacher-config", "none.toml"), "give a config file"),
    ],
)
def test_what_cannot_be_cross_fitted_is_said_in_one_sentence(
    student: Config, tmp_path: Path, arguments: tuple[object, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("distill", "--config", student.path, "--to", tmp_path / "votes.jsonl", *arguments) == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "votes.jsonl").exists()
