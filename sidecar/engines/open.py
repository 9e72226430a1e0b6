"""From settings to an engine: reads the URL, opens the model repository, and makes the one or the other."""

from pathlib import Path

from sidecar.config import Settings
from sidecar.engines import Engine
from sidecar.engines.onnx import OnnxEngine
from sidecar.engines.url import EngineUrl, parse_engine
from sidecar.errors import ConfigError
from sidecar.releases import is_releases, release_name, resolve
from sidecar.repository import Repository, RepositoryError, TaxonomyError, open_repository


def open_engine(settings: Settings) -> Engine:
    """The engine that `settings.engine` names; raises ConfigError with the remedy. Loads for seconds; blocks."""
    url = parse_engine(settings.engine)
    return open_release(settings, url, resolve(url.path))


def open_release(settings: Settings, url: EngineUrl, path: Path) -> Engine:
    """The engine for the model repository at `path`, which is `url`'s own or one of its releases."""
    try:
        repository = open_repository(path)
    except (RepositoryError, TaxonomyError) as error:
        raise ConfigError(str(error), "Correct --engine, or release another model.") from None
    if not url.addresses:
        return OnnxEngine(repository, threads=settings.threads)
    # Imported here, as the embedded engine needs nothing of Triton.
    from sidecar.engines.triton import TritonEngine

    return TritonEngine(
        repository,
        url.addresses,
        triton_name(url, repository),
        batches=settings.triton_batches,
        tls=settings.triton_tls,
    )


def triton_name(url: EngineUrl, repository: Repository) -> str:
    """The model's name in Triton: its own for each release, so that two are served side by side while switching."""
    return release_name(repository) if is_releases(url.path) else url.model
