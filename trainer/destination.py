"""Where a command may put the folder that it writes: a new or empty one, or one that the same command wrote before.

Asked before the work begins, for at its end whatever lies there is replaced.
"""

import json
from pathlib import Path

from trainer.errors import TrainerError


def check_for_trained(path: Path) -> None:
    """Raises TrainerError where something other than what `train` wrote lies at `path`."""
    if not _is_free(path) and not (path / "training.json").is_file():
        raise TrainerError(f"{path} exists and holds no trained model; name a new folder with --to")


def check_for_repository(path: Path) -> None:
    """Raises TrainerError where something other than a model repository, be it a damaged one, lies at `path`."""
    if not _is_free(path) and not _has_manifest(path):
        raise TrainerError(f"{path} exists and is no model repository; name a new folder with --to")


def _is_free(path: Path) -> bool:
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def _has_manifest(path: Path) -> bool:
    try:
        return "taxonomy_digest" in json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False
