"""Imports gRPC and the generated messages once per session, with every signal blocked."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sidecar.client.signals import blocked
from sidecar.errors import VersionError


def load() -> None:
    """Imports what the calls need. Raises VersionError where a library is missing or of an unfit version."""
    if "sidecar.client.channel" in sys.modules:
        return
    with blocked(), _uncollected():
        try:
            import grpc  # noqa: F401
            from google.protobuf.runtime_version import VersionError as ProtobufVersionError
        except (ImportError, AttributeError) as error:
            raise _unfit(error) from None
        try:
            import sidecar.pb.motive_pb2_grpc  # compares gRPC's version with that of the stubs
        except (ImportError, RuntimeError, ProtobufVersionError) as error:
            raise _unfit(error) from None
        import sidecar.client.channel
        import sidecar.client.classification  # noqa: F401


@contextmanager
def _uncollected() -> Iterator[None]:
    # Imports make many objects and no garbage: looking for some takes a tenth of the time of a session's first call.
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _unfit(error: BaseException) -> VersionError:
    reason = " ".join(str(error).split())[:200]
    return VersionError(
        f"the client's libraries cannot be loaded: {reason}",
        "Run motive install, then open a new session; motive check shows what is wrong.",
    )
