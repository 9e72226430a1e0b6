"""The Prometheus endpoint: GET /metrics on an address of its own, from a thread of its own."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, disable_created_metrics, start_http_server

from sidecar.config import parse_address
from sidecar.errors import ConfigError


@contextmanager
def metrics_server(address: str, registry: CollectorRegistry) -> Iterator[None]:
    """Serves `registry` on `HOST:PORT` until the block ends; on an empty address it serves nothing."""
    if not address:
        yield
        return
    disable_created_metrics()  # type: ignore[no-untyped-call]
    host, port = parse_address(address, "metrics")
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise ConfigError(f"cannot serve metrics on {address}: {error.strerror}", "Choose another port.") from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
