"""A model as Triton wants it: NAME/config.pbtxt, each setting with its reason, 1/model.onnx, 1/model.py if need be.

The config is made from the model repository, so that names, shapes and the digest always agree with what the sidecar
reads. Which backend runs it is the operator's choice:

  cpu         the onnxruntime backend on processors
  cuda        the onnxruntime backend on GPUs
  tensorrt    TensorRT through the onnxruntime backend, on GPUs
  python      the Python backend with ONNX Runtime from the interpreter's packages: where no other backend is at hand
"""

import os
import re
import shutil
from pathlib import Path
from string import Template
from typing import Final

from sidecar import limits
from sidecar.engines.triton_endpoint import ONNX_PARAMETER
from sidecar.releases import publish
from sidecar.repository import Repository

CONFIG: Final = "config.pbtxt"
BACKENDS: Final = ("cpu", "cuda", "tensorrt", "python")
GPU_BATCH_TOKENS: Final = 8_192
"""Tokens in one batch of a sidecar whose Triton has a GPU (MOTIVE_BATCH_TOKENS of compose): what is warmed up and tuned
for. Processors get the default, limits.BATCH_TOKENS."""
TEMPLATES: Final = Path(__file__).parent / "deploy" / "triton"


def config_text(repository: Repository, backend: str, name: str) -> str:
    """The config.pbtxt of the model `name` for one of BACKENDS."""
    manifest = repository.manifest
    head = Template((TEMPLATES / "model.pbtxt").read_text(encoding="utf-8"))
    tail = Template((TEMPLATES / f"{backend}.pbtxt").read_text(encoding="utf-8"))
    window, middle = manifest.tokens.window, max(8, manifest.tokens.window // 4)
    tokens = GPU_BATCH_TOKENS if backend in ("cuda", "tensorrt") else limits.BATCH_TOKENS
    values = {
        "name": name,
        "outputs": repository.calibration.outputs,
        "rows": limits.BATCH_ROWS,
        "parameter": ONNX_PARAMETER,
        "onnx_sha256": manifest.files["1/model.onnx"],
        "window": window,
        "middle": middle,
        "middle_rows": min(limits.BATCH_ROWS, max(1, tokens // middle)),
        "window_rows": min(limits.BATCH_ROWS, max(1, tokens // window)),
    }
    return head.substitute(values) + tail.substitute(values)


def write_triton_model(repository: Repository, triton_directory: Path, backend: str, name: str) -> Path:
    """Makes `triton_directory`/`name` in one step; returns it. Triton never sees a part of it.

    One that is there stays, unless it is for another backend or lacks its config: then it is made anew, and a Triton
    that has loaded the old one goes on with that until it is told to load it again, or restarted. Raises ConfigError;
    the old one stays where it does.
    """
    home, config = triton_directory / name, config_text(repository, backend, name)

    def fill(draft: Path) -> None:
        (draft / CONFIG).write_text(config, encoding="utf-8")
        version = draft / "1"
        version.mkdir()
        link_or_copy(repository.onnx_path, version / "model.onnx")
        if backend == "python":
            shutil.copyfile(TEMPLATES / "model.py", version / "model.py")

    if not publish(home, fill) and _config_of(home) != config:
        publish(home, fill, anew=True)
    return home


def backend_of(home: Path) -> str:
    """The backend that the model at `home` was written for, as Triton calls it; empty where there is none."""
    found = re.search(r'^backend: "(\w+)"', _config_of(home), re.MULTILINE)
    return found[1] if found else ""


def _config_of(home: Path) -> str:
    """What stands there; empty where nothing can be read."""
    try:
        return (home / CONFIG).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def link_or_copy(source: Path, target: Path) -> None:
    """The same bytes under another name, without taking their space twice where the file system can."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
