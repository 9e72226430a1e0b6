"""Training, calibration and export of a tiny model with a user's own taxonomy."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tokenizers import processors

from sidecar.repository import RepositoryError, file_digest, open_repository, read_taxonomy
from tests.unit.trainer.tiny import corpus, save_decoder, save_encoder, tiny_tokenizer, write_config
from trainer.answer import open_model
from trainer.bases import load_base
from trainer.config import Config, read_config
from trainer.errors import TrainerError
from trainer.predict import token_ids
from trainer.texts import Example, write_examples
from trainer.train import corpus_split, read_trained, train

pytestmark = pytest.mark.filterwarnings("ignore")


def test_the_exported_repository_is_complete_and_lists_every_file(exported: Path) -> None:
    repository = open_repository(exported)
    assert repository.manifest.labels == ("refund", "delivery", "defect")
    assert repository.manifest.variant == "source"
    assert "MODEL_CARD.md" in repository.manifest.files
    assert "[ -1 ]" in (exported / "config.pbtxt").read_text()


def test_the_exported_model_names_no_path_of_the_machine(exported: Path) -> None:
    data = (exported / "1" / "model.onnx").read_bytes()
    assert str(Path.cwd()).encode() not in data
    assert b"site-packages" not in data


def test_exported_answers_equal_torch_and_do_not_depend_on_neighbours(
    trained: tuple[Config, Path], exported: Path
) -> None:
    from trainer.export import trained_logits

    texts = [e.text for e in corpus(1000)]
    model = open_model(exported)
    calibration = model.repository.calibration
    torch_scores = calibration.primary_scores(trained_logits(read_trained(trained[1]), texts, 32))
    together = model.logits(texts)
    assert (torch_scores.argmax(1) == calibration.primary_scores(together).argmax(1)).all()
    assert np.abs(torch_scores - calibration.primary_scores(together)).max() <= 1e-3
    alone = np.concatenate([model.logits([text]) for text in texts[:50]])
    backwards = model.logits(texts[::-1])[::-1]
    for other in (alone, backwards[:50]):
        assert np.abs(calibration.probabilities(other) - calibration.probabilities(together[:50])).max() <= 1e-3


def test_long_texts_are_calibrated_and_compared_as_they_are_served_in_windows(
    trained: tuple[Config, Path], exported: Path
) -> None:
    from trainer.export import served_logits, trained_logits

    config, read = trained[0], read_trained(trained[1])
    long = [" ".join(e.text for e in corpus()[i : i + 12]) for i in range(0, 48, 12)]
    theirs = open_model(exported).logits(long)
    assert np.allclose(served_logits(read, long, config.release), theirs, atol=1e-3)
    assert not np.allclose(trained_logits(read, long, config.release.window), theirs, atol=1e-1)


def test_the_same_seed_gives_the_same_weights(tiny_base: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, tiny_base, epochs=1.0)
    train(config, tmp_path / "a")
    train(config, tmp_path / "b")
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"pooling": "labels", "consistency": 0.5},
        {"layers": [0], "average": 0.9, "freeze_embedding": True},
        {"trim_vocabulary": True, "class_balance": 0.5},
        {"patience": 1, "epochs": 2.0},
        {"precision": "bf16"},
    ],
    ids=["label attention, R-drop", "one layer, running average", "trimmed, balanced", "early stopping", "bf16"],
)
def test_every_lever_trains(tiny_base: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    config = write_config(tmp_path, tiny_base, **{"epochs": 1.0, **changes})
    figures = train(config, tmp_path / "model")
    assert np.isfinite(figures["train_loss"])
    assert read_trained(tmp_path / "model").taxonomy.codes == ("refund", "delivery", "defect")


@pytest.mark.parametrize("lora_rank", [0, 4], ids=["full", "low rank"])
def test_a_decoder_trains_with_its_last_token(tmp_path: Path, lora_rank: int) -> None:
    config = write_config(tmp_path, save_decoder(tmp_path / "gpt"), epochs=1.0, lora_rank=lora_rank)
    train(config, tmp_path / "model")
    trained = read_trained(tmp_path / "model")
    assert trained.model.pooling == "last"
    ids = torch.tensor([[5, 6, 7]])
    padded = torch.tensor([[5, 6, 7, 2, 2]])
    with torch.no_grad():
        a = trained.model(ids, torch.ones_like(ids))
        b = trained.model(padded, torch.tensor([[1, 1, 1, 0, 0]]))
    assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "xlm-roberta", "albert", "deberta-v2", "modernbert"])
def test_other_families_train_and_export_with_parity(tmp_path: Path, family: str) -> None:
    from trainer.export import export

    base = save_decoder(tmp_path / "base") if family == "gpt2" else save_encoder(tmp_path / "base", family)
    config = write_config(tmp_path, base, epochs=1.0)
    train(config, tmp_path / "model")
    assert export(config, tmp_path / "model", tmp_path / "tickets") <= 1e-3
    model = open_model(tmp_path / "tickets")
    texts = [e.text for e in corpus(40)]
    together = model.logits(texts)
    alone = np.concatenate([model.logits([text]) for text in texts])
    assert np.abs(together - alone).max() <= 1e-3


def test_layers_that_share_their_weights_cannot_be_left_out(tmp_path: Path) -> None:
    config = write_config(tmp_path, save_encoder(tmp_path / "base", "albert"), layers=[0])
    with pytest.raises(TrainerError, match="of the kind albert cannot be told apart; take layers out"):
        train(config, tmp_path / "model")


def test_a_base_that_is_too_large_to_export_is_refused_before_training_unless_it_is_a_teacher(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(p.numel() * p.element_size() for p in load_base(str(tiny_base)).model.parameters())
    monkeypatch.setattr("trainer.train.MOST_BYTES", size - 1)
    config = write_config(tmp_path, tiny_base, epochs=0.1)
    with pytest.raises(TrainerError, match=r"an ONNX file holds \d+; set trim_vocabulary = true, name fewer layers"):
        train(config, tmp_path / "model")
    train(config, tmp_path / "teacher", to_export=False)
    monkeypatch.setattr("trainer.train.read_pieces", frozenset)
    train(write_config(tmp_path, tiny_base, epochs=0.1, trim_vocabulary=True), tmp_path / "model")
    monkeypatch.setattr("trainer.train.MOST_BYTES", 1)
    with pytest.raises(TrainerError, match=r"an ONNX file holds \d+; name fewer layers"):
        train(write_config(tmp_path, tiny_base, trim_vocabulary=True), tmp_path / "model")


def test_a_text_that_is_cut_keeps_its_beginning_and_only_special_tokens_of_its_end() -> None:
    tokenizer, text = tiny_tokenizer(), "money back refund return cash"
    whole = tokenizer.encode(text).ids
    assert token_ids(tokenizer, [text], 4) == [[*whole[:3], whole[-1]]]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    assert token_ids(tokenizer, [text], 4) == [whole[:4]]


def test_low_rank_adapters_train_and_are_merged(tiny_base: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, tiny_base, epochs=1.0, lora_rank=4)
    train(config, tmp_path / "model")
    assert not [name for name, _ in read_trained(tmp_path / "model").model.named_parameters() if "lora" in name]


def test_training_goes_on_from_the_last_checkpoint(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import TrainerCallback

    from trainer import learn

    class Stop(TrainerCallback):
        def on_epoch_begin(self, args: object, state: object, control: object, **_: object) -> None:
            if state.epoch >= 2:  # type: ignore[attr-defined]
                raise KeyboardInterrupt

    config = write_config(tmp_path, tiny_base, epochs=3.0)
    with monkeypatch.context() as patch:
        patch.setattr(learn, "callbacks", lambda options: [Stop()])
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    train(config, tmp_path / "model", resume=True)
    train(config, tmp_path / "straight")
    a, b = (read_trained(tmp_path / name).model.state_dict() for name in ("model", "straight"))
    assert all(torch.allclose(a[key], b[key], atol=1e-6) for key in a)


# What must not train, and says why in one sentence.


def test_a_label_without_a_text_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, tiny_base)
    write_examples(tmp_path / "corpus.jsonl", [e for e in corpus() if "defect" not in e.motives])
    with pytest.raises(TrainerError, match="no training text bears 'defect'"):
        train(config, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_one_class_alone_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, tiny_base)
    same = [Example(f"text {i}", ("refund", "delivery", "defect")) for i in range(60)]
    write_examples(tmp_path / "corpus.jsonl", same)
    with pytest.raises(TrainerError, match="nothing to tell apart"):
        train(config, tmp_path / "model")


def test_a_loss_that_is_no_number_stops_the_training(tiny_base: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, tiny_base, learning_rate=1e30)
    with pytest.raises(TrainerError, match="lower learning_rate"):
        train(config, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_full_disk_exports_nothing(
    trained: tuple[Config, Path], exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer import export as module

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_onnx", full)
    with pytest.raises(TrainerError, match="No space left on device"):
        module.export(*trained, tmp_path / "tickets")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_parity_exports_nothing(
    trained: tuple[Config, Path], exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer import export as module

    def other_weights(model: object, path: Path) -> None:
        altered = onnx.load(exported / "1" / "model.onnx")
        weights = next(t for t in altered.graph.initializer if len(t.dims) == 2)
        weights.raw_data = bytes(len(weights.raw_data))
        onnx.save(altered, path)

    monkeypatch.setattr(module, "write_onnx", other_weights)
    with pytest.raises(TrainerError, match="nothing was exported"):
        module.export(*trained, tmp_path / "tickets")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["repository.write_manifest", "atomic.sync", "atomic.put_in_place"])
def test_an_export_that_is_killed_leaves_the_old_repository_whole(exported: Path, tmp_path: Path, moment: str) -> None:
    """F62: nothing that a server would load appears beside the old version, whenever the kill comes."""
    target = tmp_path / "tickets"
    shutil.copytree(exported, target)
    script = (
        "import os, shutil, signal, sys\n"
        "from pathlib import Path\n"
        "from sidecar.repository import atomic, open_repository\n"
        "from trainer import repository\n"
        "old, target, moment = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]\n"
        "opened = open_repository(old)\n"
        "contents = repository.Contents('tickets', '2.0.0', 'source', 'base', old / 'taxonomy.toml',\n"
        "    old / 'tokenizer.json', opened.calibration, opened.manifest.tokens, '# card')\n"
        "module, name = moment.split('.')\n"
        "module = {'atomic': atomic, 'repository': repository}[module]\n"
        "setattr(module, name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))\n"
        "repository.write_repository(target, contents, lambda path: shutil.copyfile(opened.onnx_path, path))\n"
    )
    command = [sys.executable, "-c", script, str(exported), str(target), moment]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert open_repository(target).model_version == open_repository(exported).model_version
    leftovers = [p for p in tmp_path.iterdir() if p != target]
    assert leftovers
    assert all(p.name.startswith(".") for p in leftovers)


def test_no_gpu_is_said_in_one_sentence(tiny_base: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(TrainerError, match="no CUDA device"):
        train(write_config(tmp_path, tiny_base, device="cuda"), tmp_path / "model")


@pytest.mark.parametrize("change", ["removed", "renamed", "reordered", "defined otherwise"])
def test_a_label_that_is_changed_makes_another_taxonomy_and_the_old_model_refused(
    exported: Path, tmp_path: Path, change: str
) -> None:
    """F63: the digest is another one, and a model is not served under labels it was not trained for."""
    altered = tmp_path / "tickets"
    shutil.copytree(exported, altered)
    head, *tables = (altered / "taxonomy.toml").read_text(encoding="utf-8").split("[[motive]]")
    if change == "removed":
        tables.pop(0)
    elif change == "renamed":
        tables[0] = tables[0].replace('"refund"', '"money_back"')
    elif change == "reordered":
        tables[0], tables[1] = tables[1], tables[0]
    else:
        tables[0] = tables[0].replace("wants money back", "wants a voucher")
    (altered / "taxonomy.toml").write_text("[[motive]]".join([head, *tables]), encoding="utf-8")
    before, after = (read_taxonomy(path / "taxonomy.toml") for path in (exported, altered))
    assert after.digest != before.digest
    with pytest.raises(RepositoryError):
        open_repository(altered)
    manifest = json.loads((altered / "manifest.json").read_text())
    manifest["files"]["taxonomy.toml"] = file_digest(altered / "taxonomy.toml")
    (altered / "manifest.json").write_text(json.dumps(manifest))
    same_codes = change == "defined otherwise"
    with pytest.raises(RepositoryError, match="not the one the model was trained for" if same_codes else "labels"):
        open_repository(altered)


def test_equal_texts_never_part(tiny_base: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, tiny_base)
    doubled = [dataclasses.replace(e, text=t) for e in corpus() for t in (e.text, e.text.upper() + "!")]
    write_examples(tmp_path / "corpus.jsonl", doubled)
    from trainer.split import split_key

    parts = corpus_split(config, read_taxonomy(tmp_path / "taxonomy.toml"))
    keys = [{split_key(e) for e in part} for part in (parts.train, parts.calibration, parts.test)]
    assert not keys[0] & keys[1]
    assert not keys[0] & keys[2]
    assert not keys[1] & keys[2]


def test_an_unknown_key_in_the_config_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[optimisation]\nepoch = 3\n")
    with pytest.raises(TrainerError, match="no key epoch"):
        read_config(tmp_path / "c.toml")


def test_the_command_prints_one_sentence_and_no_traceback(tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "trainer.cli", "train", "--config", str(tmp_path / "none.toml")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().startswith("motive-train: ")
    assert len(done.stderr.strip().splitlines()) == 1


def test_training_notes_say_what_was_used(trained: tuple[Config, Path]) -> None:
    notes = json.loads((trained[1] / "training.json").read_text())
    assert notes["texts"]["train"] > 100
    assert notes["optimisation"]["seed"] == 17
