"""pg_motive's serving side: the backend's client, the gRPC sidecar, the worker and the `motive` command."""

__version__ = "0.1.0"
