"""The engine's URL: which engine, where it computes, and where its model repository lies.

onnx:PATH
triton://HOST:PORT[,HOST:PORT...]/MODEL?repository=PATH

PATH is a model repository or a directory of releases (sidecar.releases). Triton too needs one: taxonomy, tokenizer and
calibration are read from it, so that the sidecar can start, and say which model it waits for, while Triton is away.
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs

from sidecar.config import parse_address
from sidecar.errors import ConfigError

_REMEDY = "Write triton://HOST:PORT/MODEL?repository=PATH."


@dataclass(frozen=True)
class EngineUrl:
    """What an engine URL says."""

    path: Path
    """A model repository or a directory of releases."""
    addresses: tuple[str, ...] = ()
    """HOST:PORT of each Triton server; none for the embedded engine."""
    model: str = ""
    """The model's name in Triton, unless a directory of releases gives each release its own."""


def parse_engine(text: str) -> EngineUrl:
    """Reads an engine URL; raises ConfigError with the remedy."""
    if text.startswith("onnx:"):
        return EngineUrl(_path(text.removeprefix("onnx:")))
    # By hand, as the library would take a list of addresses for one, and refuse IPv6 in it.
    where, _, question = text.removeprefix("triton://").partition("?")
    listed, _, model = where.partition("/")
    if not text.startswith("triton://") or not model or "/" in model:
        raise ConfigError(f"engine {text!r} names no model", _REMEDY)
    query = parse_qs(question)
    if set(query) != {"repository"}:
        raise ConfigError(f"engine {text!r} needs repository=PATH and nothing else after the question mark", _REMEDY)
    addresses = tuple(listed.split(","))
    for address in addresses:
        parse_address(address, "engine")
    if len(set(addresses)) != len(addresses):
        raise ConfigError(f"engine {text!r} names an address twice", _REMEDY)
    return EngineUrl(_path(query["repository"][0]), addresses, model)


def _path(text: str) -> Path:
    if not text:
        raise ConfigError("the engine names no model repository", "Give the directory of one: onnx:PATH.")
    return Path(text).absolute()
