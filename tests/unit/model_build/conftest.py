"""A source repository with a tiny random model, as the trainer would have exported it."""

import json
from pathlib import Path

import onnx
import pytest

from sidecar.repository import Calibration, Manifest, Tokens, file_digest, read_taxonomy
from tests.unit.model_build.tiny_bert import TinyBert

RELEASED = Path(__file__).parents[3] / "sidecar" / "model" / "motive"


@pytest.fixture
def released() -> Path:
    """The released source repository; the test is skipped where this checkout has none."""
    if not (RELEASED / "manifest.json").is_file():
        pytest.skip("this checkout has no released model")
    return RELEASED


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source repository of the released taxonomy around the tiny model."""
    if not (RELEASED / "taxonomy.toml").is_file():
        pytest.skip("this checkout has no taxonomy")
    path = tmp_path / "models" / "tiny"
    (path / "1").mkdir(parents=True)
    (path / "taxonomy.toml").write_bytes((RELEASED / "taxonomy.toml").read_bytes())
    taxonomy = read_taxonomy(path / "taxonomy.toml")
    calibration = Calibration.plain(taxonomy.codes, primary=True)
    calibration.write(path / "calibration.json")
    (path / "tokenizer.json").write_text(json.dumps({"version": "1.0"}), encoding="utf-8")
    (path / "config.pbtxt").write_text("", encoding="utf-8")
    onnx.save(TinyBert(calibration.outputs).build(), str(path / "1" / "model.onnx"))
    files = {file.relative_to(path).as_posix(): file_digest(file) for file in sorted(path.rglob("*")) if file.is_file()}
    labels, digest = taxonomy.codes, taxonomy.digest.hex()
    Manifest("tiny", "1.0.0", "source", "random", labels, True, Tokens(), digest, files).write(path)
    return path
