"""Writing a model repository: whole, checked, and put in place by one rename."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sidecar.repository import Calibration, Manifest, Tokens, atomic, file_digest, open_repository, read_taxonomy
from trainer.errors import TrainerError


@dataclass(frozen=True)
class Contents:
    """What a repository is made of, but for the ONNX file, which `write_repository` has written in place."""

    name: str
    version: str
    variant: str
    base: str
    taxonomy: Path
    tokenizer: Path
    calibration: Calibration
    tokens: Tokens
    card: str


def write_repository(path: Path, contents: Contents, write_model: Callable[[Path], None]) -> None:
    """Writes the repository to `path`, replacing an older one only once all of it lies on disk and opens.

    `write_model` writes the ONNX file to the path it is given. A killed export leaves a folder `.NAME.*`, in which no
    server would find a model, and at `path` the old repository as it was, but for the gap that `atomic.replace` names.
    """

    def fill(draft: Path) -> None:
        (draft / "1").mkdir()
        write_model(draft / "1" / "model.onnx")
        shutil.copyfile(contents.taxonomy, draft / "taxonomy.toml")
        shutil.copyfile(contents.tokenizer, draft / "tokenizer.json")
        contents.calibration.write(draft / "calibration.json")
        outputs = contents.calibration.outputs
        (draft / "config.pbtxt").write_text(triton_config(contents.name, outputs), encoding="utf-8")
        (draft / "MODEL_CARD.md").write_text(contents.card, encoding="utf-8")
        write_manifest(draft, contents)
        open_repository(draft)

    try:
        atomic.replace(path, fill)
    except OSError as error:
        raise TrainerError(
            f"{path} could not be written ({error.strerror}); make room or choose another folder"
        ) from None


def write_manifest(folder: Path, contents: Contents) -> None:
    """Writes manifest.json with the digest of every other file of `folder`."""
    taxonomy = read_taxonomy(folder / "taxonomy.toml")
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json")
    Manifest(
        contents.name,
        contents.version,
        contents.variant,
        contents.base,
        taxonomy.codes,
        contents.calibration.primary,
        contents.tokens,
        taxonomy.digest.hex(),
        {p.relative_to(folder).as_posix(): file_digest(p) for p in files},
    ).write(folder)


def triton_config(name: str, outputs: int) -> str:
    """config.pbtxt for Triton's ONNX Runtime backend; `motive release` writes the one that is served."""
    tensors = "".join(f"  {{ name: {json.dumps(n)} data_type: TYPE_INT64 dims: [ -1 ] }},\n" for n in INPUTS)[:-2]
    return (
        f"name: {json.dumps(name)}\n"
        'backend: "onnxruntime"\n'
        "max_batch_size: 128\n"
        f"input [\n{tensors}\n]\n"
        f'output [\n  {{ name: "logits" data_type: TYPE_FP32 dims: [ {outputs} ] }}\n]\n'
        "dynamic_batching { max_queue_delay_microseconds: 500 }\n"
        "instance_group [ { count: 1 kind: KIND_AUTO } ]\n"
    )


INPUTS = ("input_ids", "attention_mask")
