"""A model as Triton wants it: NAME/config.pbtxt, each setting with its reason, 1/model.onnx, 1/model.py if need be.

The config is made from the model repository, so that names, shapes and the digest always agree with what the sidecar
reads. Which backend runs it is the operator's choice:

  cpu         the onnxruntime backend on processors
  cuda        the onnxruntime backend on GPUs
  tensorrt    TensorRT through the onnxruntime backend, on GPUs
  python      the Python backend with ONNX Runtime from the interpreter's packages: where no other backend is at hand
"""

import os
import shutil
from pathlib import Path
from string import Template
from typing import Final

from sidecar import limits
from sidecar.engines.triton_endpoint import ONNX_PARAMETER
from sidecar.releases import publish
from sidecar.repository import Repository

BACKENDS: Final = ("cpu", "cuda", "tensorrt", "python")
TEMPLATES: Final = Path(__file__).parent / "deploy" / "triton"


def config_text(repository: Repository, backend: str, name: str) -> str:
    """The config.pbtxt of the model `name` for one of BACKENDS."""
    manifest = repository.manifest
    head = Template((TEMPLATES / "model.pbtxt").read_text(encoding="utf-8"))
    tail = Template((TEMPLATES / f"{backend}.pbtxt").read_text(encoding="utf-8"))
    values = {
        "name": name,
        "outputs": repository.calibration.outputs,
        "rows": limits.BATCH_ROWS,
        "parameter": ONNX_PARAMETER,
        "onnx_sha256": manifest.files["1/model.onnx"],
        "window": manifest.tokens.window,
        "middle": max(8, manifest.tokens.window // 4),
        "middle_rows": max(1, limits.BATCH_TOKENS // max(8, manifest.tokens.window // 4)),
        "window_rows": max(1, limits.BATCH_TOKENS // manifest.tokens.window),
    }
    return head.substitute(values) + tail.substitute(values)


def write_triton_model(repository: Repository, triton_directory: Path, backend: str, name: str) -> Path:
    """Makes `triton_directory`/`name` in one step, unless it is there; returns it. Triton never sees a part of it."""

    def fill(draft: Path) -> None:
        (draft / "config.pbtxt").write_text(config_text(repository, backend, name), encoding="utf-8")
        version = draft / "1"
        version.mkdir()
        link_or_copy(repository.onnx_path, version / "model.onnx")
        if backend == "python":
            shutil.copyfile(TEMPLATES / "model.py", version / "model.py")

    publish(triton_directory / name, fill)
    return triton_directory / name


def link_or_copy(source: Path, target: Path) -> None:
    """The same bytes under another name, without taking their space twice where the file system can."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
