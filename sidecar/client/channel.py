"""One gRPC channel per process and target, and the wait that PostgreSQL can interrupt."""

import os
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc

from sidecar import limits
from sidecar.bearer import authorization
from sidecar.client.signals import blocked
from sidecar.errors import MotiveError, UnavailableError, fault_of_status
from sidecar.pb.motive_pb2_grpc import MotiveStub

Address = tuple[str, ...]
"""Target, or target with the paths of authority, certificate, key and token: for the extension's owner to decide."""

_OPTIONS = (
    ("grpc.max_send_message_length", limits.MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", limits.MAX_MESSAGE_BYTES),
    # A channel that could not connect is thrown away, and a new one must not inherit its back-off.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # The environment of the postmaster must not redirect texts to a proxy.
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
)


@dataclass
class OpenChannel:
    """A channel in use."""

    key: tuple[int, Address]
    channel: grpc.Channel
    stub: Any
    metadata: tuple[tuple[str, str], ...]
    proven: bool = False
    """Whether a call has succeeded on it."""


_channels: dict[tuple[int, Address], OpenChannel] = {}

# How a call ends whose connection could not be made, was lost, or was closed because another call on it was lost.
# UNAUTHENTICATED: certificate or token may have been exchanged since.
_RETRIED = ("UNAVAILABLE", "CANCELLED", "UNAUTHENTICATED")
# A connection that leads nowhere any more looks like a slow sidecar; a new one finds out.
_BROKEN = (*_RETRIED, "DEADLINE_EXCEEDED")
_SHOWN = {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"}
_MESSAGES = {
    "UNAVAILABLE": "the sidecar could not be reached",
    "UNAUTHENTICATED": "the sidecar refused the call: it asks for another certificate or token",
    "DEADLINE_EXCEEDED": "the sidecar did not answer in time",
    "RESOURCE_EXHAUSTED": "the sidecar has as many texts as it admits",
    "INVALID_ARGUMENT": "the sidecar refused the text",
    "FAILED_PRECONDITION": "the sidecar is of another version or has another model",
    "INTERNAL": "the sidecar failed (INTERNAL)",
}


class Call:
    """A request on its way; `wait` gives its response, and a call that is not waited for must be cancelled.

    As a context it is cancelled at the end, and a MotiveError that is met inside carries its request id.
    """

    def __init__(self, address: Address, method: str, request: Any, seconds: float) -> None:
        self._address, self._method, self._request = address, method, request
        self._end = time.monotonic() + seconds
        self.request_id = _request_id()
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        self.cancel()
        if isinstance(error, MotiveError):
            error.request_id = self.request_id

    def _start(self) -> None:
        with blocked():
            self._open = _open_channel(self._address)
            remaining = max(0.001, self._end - time.monotonic())
            self._future = getattr(self._open.stub, self._method).future(
                self._request, timeout=remaining, metadata=(*self._open.metadata, ("x-request-id", self.request_id))
            )
        # A bare lock, taken until the answer is there: half the cost of an Event.
        busy = self._busy = threading.Lock()
        busy.acquire()
        self._future.add_done_callback(lambda _: busy.release())

    def wait(self, plpy: Any) -> Any:
        """The response. Raises MotiveError, or PostgreSQL's own error when the session is interrupted."""
        proven = self._open.proven
        try:
            return self._result(plpy)
        except grpc.RpcError as error:
            if error.code().name in _BROKEN:
                _forget(self._open)
            if error.code().name not in _RETRIED or not proven:
                raise _fault(error) from None
        # The channel worked before: the sidecar may have been restarted since. A new channel tries at once, without the
        # old one's back-off. Asking the same twice does no harm.
        self._start()
        try:
            return self._result(plpy)
        except grpc.RpcError as error:
            _forget(self._open)
            raise _fault(error) from None

    def _result(self, plpy: Any) -> Any:
        while not self._busy.acquire(timeout=limits.POLL_INTERVAL_S):
            plpy.execute("select")  # lets PostgreSQL act on a cancel, a timeout or a termination
        response = self._future.result()
        self._open.proven = True
        return response

    def cancel(self) -> None:
        """Tells the sidecar that nobody waits any more; does nothing to a call that has ended."""
        self._future.cancel()


def _request_id() -> str:
    """One id for this call, in the sidecar's log and in Triton's; it names this backend, as PostgreSQL's log does."""
    return f"pg-{os.getpid()}-{os.urandom(4).hex()}"


def _open_channel(address: Address) -> OpenChannel:
    key = (os.getpid(), address)
    if key not in _channels:
        metadata, channel = _metadata(address), _connect(address)
        _channels[key] = OpenChannel(key, channel, MotiveStub(channel), metadata)  # type: ignore[no-untyped-call]
    return _channels[key]


def _connect(address: Address) -> grpc.Channel:
    if len(address) == 1 or not address[1]:
        return grpc.insecure_channel(address[0], options=_OPTIONS)
    authority, certificate, key = (_read(path) if path else None for path in address[1:4])
    credentials = grpc.ssl_channel_credentials(authority, key, certificate)
    return grpc.secure_channel(address[0], credentials, options=_OPTIONS)


def _read(path: str) -> bytes:
    # Not pathlib, whose import would be felt in the first call of a session.
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise UnavailableError(
            f"a file of the client's certificate or token cannot be read: {error.strerror}",
            "Correct tls_authority, tls_certificate, tls_key and token_file in motive.settings.",
        ) from None


def _metadata(address: Address) -> tuple[tuple[str, str], ...]:
    if len(address) == 1 or not address[4]:
        return ()
    return (authorization(_read(address[4]).decode("ascii", "replace")),)


def _forget(broken: OpenChannel) -> None:
    if _channels.get(broken.key) is broken:
        del _channels[broken.key]
    with blocked():
        broken.channel.close()


def _fault(error: grpc.RpcError) -> MotiveError:
    """What gRPC reports, in our words: its own texts hold addresses, paths and what a handler raised."""
    fault = fault_of_status(error.code().name)
    details = " ".join((error.details() or "").replace("\0", "").split())
    if fault.status == error.code().name and fault.status in _SHOWN and details:
        return fault.error(details[:300], fault.hint)
    if error.code().name == "UNAUTHENTICATED":
        return fault.error(_MESSAGES["UNAUTHENTICATED"], "Correct token_file and tls_* in motive.settings.")
    return fault.error(_MESSAGES[fault.status], fault.hint)
