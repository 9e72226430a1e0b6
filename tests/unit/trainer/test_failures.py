"""What must not train or be exported says why in one sentence, with exit status 1, and leaves nothing behind."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.unit.trainer.conftest import run
from tests.unit.trainer.tiny import corpus, save_encoder, write_config
from trainer import commands
from trainer.bases import load_base
from trainer.config import Config, read_config
from trainer.errors import TrainerError
from trainer.texts import Example, write_examples
from trainer.train import new_classifier


def without_defect(folder: Path) -> None:
    """A label that no text bears."""
    write_examples(folder / "corpus.jsonl", [e for e in corpus() if "defect" not in e.motives])


def of_one_class(folder: Path) -> None:
    """Every text alike."""
    write_examples(folder / "corpus.jsonl", [Example(f"text {i}", ("refund", "delivery", "defect")) for i in range(60)])


def without_texts(folder: Path) -> None:
    """An empty file."""
    (folder / "corpus.jsonl").write_text("")


def of_other_labels(folder: Path) -> None:
    """A label that the taxonomy lacks."""
    write_examples(folder / "corpus.jsonl", [*corpus(), Example("x", ("pizza",))])


def no_json(folder: Path) -> None:
    """A file of another kind."""
    (folder / "corpus.jsonl").write_text("text,label\na,refund\n")


def no_taxonomy(folder: Path) -> None:
    """The taxonomy is gone."""
    (folder / "taxonomy.toml").unlink()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (without_defect, "no training text bears 'defect'"),
        (of_one_class, "nothing to tell apart"),
        (without_texts, "texts leave none for training"),
        (of_other_labels, "'pizza'"),
        (no_json, "line 1: no labelled text"),
        (no_taxonomy, "taxonomy.toml"),
    ],
)
def test_a_corpus_that_cannot_be_learnt_from_is_refused(
    tiny_base: Path, tmp_path: Path, spoil: Callable[[Path], None], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, tiny_base)
    spoil(tmp_path)
    assert run("train", "--config", config.path, "--to", tmp_path / "model") == 1
    assert sentence in only_line(capsys)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"learning_rate": 1e30}, "lower learning_rate"),
        ({"device": "cuda"}, "no CUDA device"),
        ({"device": "tpu"}, "none of auto, cpu, cuda"),
        ({"precision": "fp8"}, "none of fp32, bf16"),
        ({"pooling": "max"}, "none of mean, last, labels"),
        ({"layers": [7]}, "has 2 layers"),
        ({"base": "no/such-model"}, "cannot be loaded"),
        ({"teacher": "none.jsonl"}, "votes"),
    ],
)
def test_a_config_that_cannot_be_followed_is_refused(
    tiny_base: Path, tmp_path: Path, changes: dict[str, object], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    if changes.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    config = write_config(tmp_path, **{"base": tiny_base, **changes})  # type: ignore[arg-type]
    assert run("train", "--config", config.path, "--to", tmp_path / "model") == 1
    assert sentence in only_line(capsys)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("section", "line", "sentence"),
    [
        ("optimisation", "batch = 0", "batch = 0 should be above 0"),
        ("optimisation", "epochs = nan", "should be a number from 0 up"),
        ("optimisation", "label_smoothing = 1.5", "should be a share"),
        ("optimisation", "patience = 1\naverage = 0.9", "set one of them to 0"),
        ("data", "calibration_share = 2", "should be a share"),
        ("data", "calibration_share = 0.6\ntest_share = 0.4", "leave no text to train on"),
        ("data", "corpus = [1]", "should hold values of type str"),
        ("network", 'layers = ["a"]', "should hold values of type int"),
        ("network", "layers = [-1]", "should hold numbers from 0 up"),
        ("network", "max_tokens = 2", "should be 8 or more"),
        ("release", "stride = 0", "stride = 0 should be above 0"),
        ("release", 'calibration = "magic"', "is none of platt, isotonic, best"),
    ],
)
def test_a_value_that_cannot_be_is_named_before_any_work(
    tmp_path: Path, section: str, line: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.toml").write_text(f"[{section}]\n{line}\n")
    assert run("train", "--config", tmp_path / "c.toml", "--to", tmp_path / "model") == 1
    assert sentence in only_line(capsys)


def test_early_stopping_without_texts_to_judge_by_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[data]\ncalibration_share = 0\n[optimisation]\npatience = 2\n")
    with pytest.raises(TrainerError, match="raise calibration_share"):
        read_config(tmp_path / "c.toml")


@pytest.mark.parametrize(("kind", "most"), [("bert", 128), ("xlm-roberta", 126)])
@pytest.mark.parametrize("key", ["max_tokens", "window"])
def test_more_tokens_than_the_base_has_positions_are_refused(tmp_path: Path, kind: str, most: int, key: str) -> None:
    config = write_config(tmp_path, save_encoder(tmp_path / "base", kind))
    path = config.path
    path.write_text(path.read_text().replace(f"{key} = 32", f"{key} = {most}"))
    new_classifier(read_config(path), load_base(config.network.base), 3)
    path.write_text(path.read_text().replace(f"{key} = {most}", f"{key} = {most + 1}"))
    with pytest.raises(TrainerError, match=f"{key} = {most + 1}, and .* reads {most} tokens; lower it"):
        new_classifier(read_config(path), load_base(config.network.base), 3)


@pytest.mark.parametrize(
    "command",
    [
        ("train", "--config", "config.toml"),
        ("release", "--config", "config.toml"),
        ("export", "--config", "config.toml", "--model", "precious/model"),
        ("import", "m.onnx", "--tokenizer", "t.json", "--taxonomy", "taxonomy.toml", "--name", "n"),
    ],
    ids=lambda command: command[0],
)
@pytest.mark.parametrize("lies_there", ["a folder", "a file"])
def test_nothing_but_a_model_is_ever_replaced(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    command: Sequence[str], lies_there: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, tiny_base)
    mine = tmp_path / "precious" / "thesis.txt" if lies_there == "a folder" else tmp_path / "precious"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("years of work")
    assert run(*command, "--to", "precious") == 1
    assert "precious exists and" in only_line(capsys)
    assert mine.read_text() == "years of work"


def test_only_the_projects_own_config_is_released_over_the_shipped_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: dict[str, Path] = {}
    monkeypatch.setattr(commands, "train", lambda args: None)
    monkeypatch.setattr(commands, "export", lambda args: called.update(to=args.to))
    monkeypatch.chdir(tmp_path)
    assert run("release", "--config", commands.CONFIG) == 0
    assert called == {"to": commands.SHIPPED}


def test_the_projects_own_config_is_known_by_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package bears a copy of the clone's."""
    called: dict[str, Path] = {}
    monkeypatch.setattr(commands, "train", lambda args: None)
    monkeypatch.setattr(commands, "export", lambda args: called.update(to=args.to))
    clone = commands.CONFIG
    monkeypatch.setattr(commands, "CONFIG", Path(shutil.copy(clone, tmp_path / "installed.toml")))
    monkeypatch.chdir(tmp_path)
    assert run("release", "--config", clone) == 0
    assert called == {"to": commands.SHIPPED}


def test_a_card_of_files_alone_bears_no_foreword_and_readings_of_the_projects_corpus(
    prepared: Config, tmp_path: Path
) -> None:
    folder = prepared.path.parent
    files = ("card", folder / "corpus.jsonl", "--taxonomy", folder / "taxonomy.toml")
    assert run(*files, "--to", tmp_path / "card.md") == 0
    written = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert written.startswith("# The corpus\n\n## ")
    assert "## Agreement" not in written


def test_a_release_says_before_training_that_too_few_texts_are_held_out(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path, tiny_base)
    config.path.write_text(config.path.read_text().replace("calibration_share = 0.2", "calibration_share = 0.02"))
    monkeypatch.setattr(commands, "train", lambda args: pytest.fail("it was trained first"))
    assert run("release", "--config", config.path, "--to", tmp_path / "tickets") == 1
    assert "are too few to calibrate on; give at least 20" in only_line(capsys)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("export", "--model", "none", "--to", "out"), "holds no trained model"),
        (("calibrate", "--model", "none"), "holds no trained model"),
        (("evaluate", "none", "corpus.jsonl"), "is no model repository"),
        (("train", "--config", "none.toml"), "give a config file"),
        (("prepare", "none.csv", "--to", "out"), "does not exist"),
        (("prepare", "--to", "out"), "no text was read"),
        (("prepare", "--dsn", "host=/nowhere", "--to", "out"), "the database gave no texts"),
        (("card", "--corpus", "none"), "holds no .jsonl file"),
        (("card", "corpus.jsonl"), "name the card of these files with --to"),
        (("release",), "name the folder of the new model with --to"),
    ],
)
def test_files_that_are_not_there_are_named(
    prepared: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Sequence[str], sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    config = () if "--config" in command or command[0] in ("prepare", "card") else ("--config", prepared.path)
    assert run(*command, *config) == 1
    assert sentence in only_line(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ModuleNotFoundError("No module named 'peft'", name="peft"), "peft is not installed; in the project's folder"),
        (
            ImportError("Found an incompatible version of torchao"),
            "incompatible version of torchao; upgrade that package",
        ),
        (ImportError("cannot import name 'A' from 'b'", name="b"), "cannot import name 'A' from 'b'; upgrade"),
        (OSError("no answer from the hub"), "a file could not be used: no answer from the hub"),
        (ValueError("a\nb"), "card failed unexpectedly (ValueError: a); motive-train --trace card ... shows where"),
        (NotImplementedError(), "card failed unexpectedly (NotImplementedError); motive-train --trace"),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, Exception) else "",
)
def test_what_others_code_raises_is_said_in_one_sentence_and_traced_when_asked(
    error: Exception, sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(args: object) -> None:
        raise error

    monkeypatch.setattr(commands, "card", fail)
    assert run("card") == 1
    assert sentence in only_line(capsys)
    if "--trace" in sentence:
        with pytest.raises(type(error)):
            run("--trace", "card")


def test_a_full_disk_ends_the_training_in_one_sentence(tiny_base: Path, tmp_path: Path) -> None:
    """A file size limit stands for the disk: the checkpoint cannot be written."""
    config = write_config(tmp_path, tiny_base, epochs=1.0)
    command = [sys.executable, "-m", "trainer.cli", "train", "--config", str(config.path), "--to", str(tmp_path / "m")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("motive-train: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "m").exists()


def only_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said on standard error: one sentence, beside bars and spinners."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("motive-train: ")]
    assert len(lines) == 1
    return lines[0]
