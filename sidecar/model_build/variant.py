"""A variant of a model repository: the same labels and calibration around a graph made for one kind of processor."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import onnx
from onnx import ModelProto

from sidecar.errors import ConfigError
from sidecar.model_build.fuse import fuse
from sidecar.model_build.halve import halve
from sidecar.model_build.rows import quantize_rows
from sidecar.model_build.straighten import straighten
from sidecar.model_build.widen import widen
from sidecar.repository import Repository, RepositoryError, atomic, copy_files, file_digest, open_repository

MODEL: Final = "1/model.onnx"


class BuildError(ConfigError):
    """A variant cannot be built."""


VARIANTS: Final[dict[str, Callable[[ModelProto], ModelProto]]] = {
    "cpu-fp32": lambda model: fuse(straighten(widen(model))),
    "cpu-int8": lambda model: quantize_rows(fuse(straighten(widen(model, grid=False)))),
    # Standard operators only: TensorRT knows no others.
    "gpu-fp16": lambda model: halve(straighten(widen(model))),
}
"""By name, what turns the source's graph into the variant's. The part behind the dash joins the version."""


def build_variant(source: Path, variant: str, target: Path) -> Repository:
    """Derives `variant` from the source repository and writes it to `target`, replacing an older one in one step.

    Raises BuildError where there is no such variant, `source` is none to derive from, `target` is something else than
    a model repository, or the disk is full; RepositoryError where `source` cannot be read. A build that is killed
    leaves the old repository, and nothing that could be taken for a new one.
    """
    if variant not in VARIANTS:
        raise BuildError(f"there is no variant {variant!r}", f"Choose one of {', '.join(VARIANTS)}.")
    repository = open_repository(source)
    if repository.manifest.variant != "source":
        raise BuildError(
            f"{source} is already a variant ({repository.manifest.variant})", "Give the source repository it came from."
        )
    if target.exists() and not _is_repository(target):
        raise BuildError(f"{target} exists and is no model repository", "Choose another directory.")

    def fill(draft: Path) -> None:
        _fill(repository, variant, draft)
        _seal(repository, variant, draft)
        open_repository(draft)

    try:
        atomic.replace(target, fill)
    except OSError as error:
        raise BuildError(
            f"cannot write {target}: {error.strerror}", "Free some room or choose another directory."
        ) from None
    return open_repository(target, verify=False)


def _is_repository(path: Path) -> bool:
    try:
        open_repository(path, verify=False)
    except RepositoryError:
        return False
    return True


def _fill(repository: Repository, variant: str, draft: Path) -> None:
    copy_files(repository, [name for name in repository.manifest.files if name != MODEL], draft)
    (draft / MODEL).parent.mkdir(parents=True, exist_ok=True)
    save_graph(VARIANTS[variant](onnx.load(str(repository.onnx_path))), draft / MODEL)


def save_graph(model: ModelProto, path: Path) -> None:
    """Writes the graph to `path`."""
    onnx.save(model, str(path))


def _seal(repository: Repository, variant: str, draft: Path) -> None:
    """Writes the manifest, without which a directory is no repository."""
    files = {path.relative_to(draft).as_posix(): path for path in sorted(draft.rglob("*")) if path.is_file()}
    source = repository.manifest
    replace(
        source,
        variant=variant,
        version=f"{source.version}+{variant.partition('-')[2]}",
        files={name: file_digest(path) for name, path in files.items()},
    ).write(draft)
