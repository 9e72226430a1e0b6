"""A training that was killed goes on from the last checkpoint that is whole, whatever the kill cut off."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from tests.unit.trainer.conftest import run
from tests.unit.trainer.tiny import write_config
from trainer import learn
from trainer.bases import load_base
from trainer.checkpoints import is_whole, last_whole
from trainer.classifier import MotiveClassifier
from trainer.config import Config, Optimisation
from trainer.train import new_classifier, read_trained, train

pytestmark = pytest.mark.filterwarnings("ignore")


class Stop(TrainerCallback):
    """A kill when the third epoch begins."""

    def on_epoch_begin(self, args: object, state: object, control: object, **_: object) -> None:
        if state.epoch >= 2:  # type: ignore[attr-defined]
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def killed(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path, Path]:
    """A config, the checkpoints of a training by it that was killed, and what an undisturbed training gives."""
    folder = tmp_path_factory.mktemp("killed")
    config = write_config(folder, tiny_base, epochs=3.0)
    train(config, folder / "straight")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learn, "callbacks", lambda options: [Stop()])
        with pytest.raises(KeyboardInterrupt):
            train(config, folder / "model")
    return config, folder / "model.checkpoints", folder / "straight"


def test_the_running_average_goes_on_where_it_was(tiny_base: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, tiny_base, epochs=3.0, average=0.99)
    train(config, tmp_path / "straight")
    with pytest.MonkeyPatch.context() as patch:
        with_average = learn.callbacks
        patch.setattr(learn, "callbacks", lambda options: [*with_average(options), Stop()])
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "model")
    train(config, tmp_path / "model", resume=True)
    a, b = (read_trained(tmp_path / name).model.state_dict() for name in ("model", "straight"))
    assert all(torch.allclose(a[key], b[key], atol=1e-6) for key in a)


class WithoutAverage(learn.Learner):
    """Of a version that kept the average elsewhere."""

    def __init__(self, classifier: MotiveClassifier, weight: torch.Tensor, options: Optimisation) -> None:
        super().__init__(classifier, weight, options)
        self.average = torch.nn.ParameterList()


def test_checkpoints_that_lack_the_running_average_are_refused(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The average would go on from untrained weights."""
    config = write_config(tmp_path, tiny_base, epochs=3.0, average=0.99)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learn, "Learner", WithoutAverage)
        patch.setattr(learn, "callbacks", lambda options: [Stop()])
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "model")
    assert run("train", "--config", config.path, "--to", tmp_path / "model", "--resume") == 1
    assert "are of another config or corpus; train without --resume" in capsys.readouterr().err


def test_the_running_average_is_of_trained_parameters_alone(tiny_base: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, tiny_base, average=0.99, lora_rank=4)
    classifier = new_classifier(config, load_base(config.network.base), 3)
    learner = learn.Learner(classifier, torch.ones(4), config.optimisation)
    trained = [value.shape for value in classifier.parameters() if value.requires_grad]
    assert [value.shape for value in learner.average.parameters()] == trained
    assert len(trained) < len(list(classifier.parameters())) / 2


def halve(path: Path) -> None:
    """Cuts a file off in its middle."""
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size // 2)


def blank(path: Path) -> None:
    """Zeros where the middle should be, as a crash of the machine may leave them."""
    size = path.stat().st_size
    with path.open("r+b") as stream:
        stream.seek(size // 3)
        stream.write(bytes(size // 3))


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("model.safetensors", halve),
        ("optimizer.pt", halve),
        ("optimizer.pt", blank),
        ("scheduler.pt", Path.unlink),
        ("rng_state.pth", halve),
        ("trainer_state.json", halve),
        ("trainer_state.json", Path.unlink),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_checkpoint_that_is_cut_off_is_told_from_a_whole_one(
    killed: tuple[Config, Path, Path], tmp_path: Path, name: str, spoil: Callable[[Path], None]
) -> None:
    shutil.copytree(killed[1], tmp_path / "checkpoints")
    older, newer = sorted(
        (tmp_path / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2])
    )
    assert is_whole(older)
    assert is_whole(newer)
    spoil(newer / name)
    assert not is_whole(newer)
    assert last_whole(tmp_path / "checkpoints") == (older, [newer.name])


def test_training_goes_on_from_the_checkpoint_before_one_that_is_cut_off(
    killed: tuple[Config, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, checkpoints, straight = killed
    shutil.copytree(checkpoints, tmp_path / "model.checkpoints")
    newest = last_whole(tmp_path / "model.checkpoints")[0]
    assert newest is not None
    halve(newest / "model.safetensors")
    assert run("train", "--config", config.path, "--to", tmp_path / "model", "--resume") == 0
    said = capsys.readouterr().err
    assert f"{newest.name} in" in said
    assert "was cut off while it was written; going on from checkpoint-" in said
    a, b = (read_trained(path).model.state_dict() for path in (tmp_path / "model", straight))
    assert all(torch.allclose(a[key], b[key], atol=1e-6) for key in a)


def test_training_begins_anew_where_no_checkpoint_is_whole(
    killed: tuple[Config, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, checkpoints, straight = killed
    shutil.copytree(checkpoints, tmp_path / "model.checkpoints")
    for checkpoint in (tmp_path / "model.checkpoints").glob("checkpoint-*"):
        halve(checkpoint / "optimizer.pt")
    assert run("train", "--config", config.path, "--to", tmp_path / "model", "--resume") == 0
    assert "was cut off while it was written; training begins anew" in capsys.readouterr().err
    a, b = ((path / "model.safetensors").read_bytes() for path in (tmp_path / "model", straight))
    assert a == b


def test_resuming_without_any_checkpoint_trains_and_says_so(
    killed: tuple[Config, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, _, straight = killed
    assert run("train", "--config", config.path, "--to", tmp_path / "model", "--resume") == 0
    assert "holds no checkpoint; training begins anew" in capsys.readouterr().err
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == (straight / "model.safetensors").read_bytes()


@pytest.mark.parametrize("change", [{"pooling": "labels"}, {"pooling": "last"}, {"epochs": 4.0}])
def test_checkpoints_of_another_training_are_refused_in_one_sentence(
    killed: tuple[Config, Path, Path],
    tiny_base: Path,
    tmp_path: Path,
    change: dict[str, object],
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(killed[1], tmp_path / "model.checkpoints")
    other = write_config(tmp_path, tiny_base, **{"epochs": 3.0, **change})
    assert run("train", "--config", other.path, "--to", tmp_path / "model", "--resume") == 1
    assert "are of another config or corpus; train without --resume" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
