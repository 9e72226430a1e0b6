"""Imports gRPC and the generated messages once per session, with every signal blocked."""

import sys

from sidecar.client.signals import blocked
from sidecar.errors import VersionError


def load() -> None:
    """Imports what the calls need. Raises VersionError where a library is missing or of an unfit version."""
    if "sidecar.client.channel" in sys.modules:
        return
    with blocked():
        try:
            import grpc  # noqa: F401
            from google.protobuf.runtime_version import VersionError as ProtobufVersionError
        except (ImportError, AttributeError) as error:
            raise _unfit(error) from None
        try:
            import sidecar.pb.motive_pb2_grpc  # compares gRPC's version with that of the stubs
        except (ImportError, RuntimeError, ProtobufVersionError) as error:
            raise _unfit(error) from None
        import sidecar.client.channel  # noqa: F401


def _unfit(error: BaseException) -> VersionError:
    reason = " ".join(str(error).split())[:200]
    return VersionError(
        f"the client's libraries cannot be loaded: {reason}",
        "Run motive install, then open a new session; motive check shows what is wrong.",
    )
