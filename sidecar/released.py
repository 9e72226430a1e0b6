"""The model that pg_motive is released with, in the variant that the embedded engine runs fastest."""

import os
from pathlib import Path

from sidecar import __version__
from sidecar.errors import ConfigError
from sidecar.repository import RepositoryError, open_repository

SOURCE = Path(__file__).resolve().parent / "model" / "motive"
VARIANT = "cpu-int8"


def cache_directory() -> Path:
    """Where derived models are kept: MOTIVE_CACHE, else XDG_CACHE_HOME/pg_motive, else ~/.cache/pg_motive."""
    if chosen := os.environ.get("MOTIVE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pg_motive"


def released_model(variant: str = VARIANT) -> Path:
    """The path of the released model's `variant`; derived from the source on first use (a few seconds), then kept."""
    from sidecar.model_build import build_variant

    try:
        digest = open_repository(SOURCE).manifest.digest.hex()[:16]
    except RepositoryError as error:
        raise ConfigError(f"the released model cannot be read: {error}", "Install pg_motive again.") from None
    target = cache_directory() / f"{__version__}-{variant}-{digest}" / SOURCE.name
    try:
        open_repository(target, verify=False)
    except RepositoryError:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            build_variant(SOURCE, variant, target)
        except OSError as error:
            raise ConfigError(
                f"cannot write the derived model to {target}: {error.strerror}",
                "Set MOTIVE_CACHE to a directory that this user may write, with 200 MB free.",
            ) from None
    return target
