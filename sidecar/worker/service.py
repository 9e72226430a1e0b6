"""The sidecar as the worker calls it: texts in, answers with their model out, faults as MotiveErrors."""

import json
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from sidecar import limits
from sidecar.bearer import authorization
from sidecar.errors import ConfigError, DeadlineError, InternalError, MotiveError, fault_of_status
from sidecar.pb import motive_pb2 as pb
from sidecar.pb import motive_pb2_grpc as pb_grpc
from sidecar.request_id import HEADER
from sidecar.tls import CertificateFiles, client_channel
from sidecar.worker.settings import WorkerSettings

SLICE_S = 0.2
"""Between two looks for whether to go on waiting."""

REFUSED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED)
"""What a call ends with where the other side does not take our certificate, or we not its own."""

_CHANNEL: Final = [
    ("grpc.max_receive_message_length", limits.MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", limits.MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 20_000),
    # A worker has a channel of its own, whatever else this process has open.
    ("grpc.use_local_subchannel_pool", 1),
]

log = logging.getLogger("sidecar.worker")


class Abandoned(Exception):
    """The answer is not wanted any more: the worker stops, or its lease is gone."""


@dataclass(frozen=True)
class Answers:
    """One answer per text, in order, all from one model."""

    results: Sequence[pb.Classification]
    model: str


class Service:
    """One channel to one sidecar, shared by all lanes; a new one once the certificate's files have changed."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._target = settings.target
        self._deadline_s = settings.deadline_s
        self._token_file = settings.token_file
        self._files = None
        if settings.tls_authority:
            self._files = CertificateFiles(settings.tls_certificate, settings.tls_key, settings.tls_authority)
        self._lock = threading.Lock()
        try:
            self._connect()
        except OSError as error:
            raise ConfigError(f"cannot read {error.filename}: {error.strerror}", "Correct the path.") from None

    def _connect(self) -> None:
        stamp = self._files.stamp() if self._files else ()
        self._channel = client_channel(self._target, self._files, _CHANNEL)
        self._stub = pb_grpc.MotiveStub(self._channel)  # type: ignore[no-untyped-call]
        self._stamp = stamp

    def _renew(self) -> None:
        """A new channel where the certificate's files have changed and fit together; else the old one stays."""
        with self._lock:
            try:
                if self._files is None or self._files.stamp() == self._stamp:
                    return
                self._files.check()
                old = self._channel
                self._connect()
            except OSError as error:  # of TLS, too
                log.warning("the new TLS certificate cannot be used yet: %s", type(error).__name__)
                return
            # What is under way on it is given back to the queue: it was being refused.
            old.close()
            log.info("a new TLS certificate is in use")

    def _begin(self, method: str, request: Any, request_id: str) -> Any:
        # Under the lock, as a channel that another lane has just closed takes no call.
        with self._lock:
            call = getattr(self._stub, method)
            return call.future(request, timeout=self._deadline_s, metadata=self._metadata(request_id))

    def classify(
        self, texts: Sequence[str], redactions: int, *, interactive: bool, keep_waiting: Callable[[], bool]
    ) -> Answers:
        """Asks for `texts`, redacted already. Raises the MotiveError of the fault, or Abandoned."""
        request = pb.ClassifyRequest(
            texts=texts,
            redacted=True,
            redactions=redactions,
            priority=pb.PRIORITY_INTERACTIVE if interactive else pb.PRIORITY_BACKFILL,
        )
        with _request_id() as id_:
            response = self._wait(self._begin("Classify", request, id_), keep_waiting)
            if len(response.results) != len(texts):
                raise InternalError(f"the sidecar answered {len(response.results)} texts of {len(texts)}")
        return Answers(response.results, model_version(response.model))

    def answers_at_all(self) -> bool:
        """Whether a harmless text, never seen before and so in no cache, is answered."""
        try:
            self.classify([f"probe {secrets.token_hex(4)}"], 0, interactive=True, keep_waiting=lambda: True)
        except MotiveError:
            return False
        return True

    def model_document(self) -> str:
        """The served model as motive.register_model() reads it."""
        with _request_id() as id_:
            said = self._wait(self._begin("GetModel", pb.GetModelRequest(), id_), lambda: True)
        fields = ("code", "group", "name_en", "name_zh", "definition_en", "definition_zh", "source", "abstention")
        return json.dumps(
            {
                "name": said.model.name,
                "version": said.model.version,
                "digest": said.model.digest.hex(),
                "taxonomy_digest": said.model.taxonomy_digest.hex(),
                "taxonomy": [{name: getattr(entry, name) for name in fields} for entry in said.taxonomy],
            }
        )

    def close(self) -> None:
        """Ends the channel and whatever is under way on it."""
        self._channel.close()

    def _metadata(self, request_id: str) -> tuple[tuple[str, str], ...]:
        """The call's id, and the token, read anew as it may be exchanged at any time."""
        id_ = ((HEADER, request_id),)
        if not self._token_file:
            return id_
        return (*id_, authorization(_read(self._token_file).decode("ascii", "replace")))

    def _wait(self, future: Any, keep_waiting: Callable[[], bool]) -> Any:
        try:
            while True:
                try:
                    return future.result(timeout=SLICE_S)
                except grpc.FutureTimeoutError:
                    if not keep_waiting():
                        raise Abandoned from None
        except grpc.FutureCancelledError:
            raise DeadlineError("the request was cancelled") from None
        except grpc.RpcError as error:
            if error.code() in REFUSED:
                self._renew()
            fault = fault_of_status(error.code().name)
            raise fault.error(error.details() or fault.status.lower(), fault.hint) from None
        finally:
            future.cancel()


@contextmanager
def _request_id() -> Iterator[str]:
    """An id for one call, in the sidecar's log and in Triton's; a MotiveError that is met inside carries it."""
    id_ = f"worker-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        yield id_
    except MotiveError as error:
        error.request_id = id_
        raise


def model_version(model: pb.ModelVersion) -> str:
    """`name@version/digest8`, as it stands on every annotated row."""
    return f"{model.name}@{model.version}/{model.digest.hex()[:8]}"


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", "Correct the path.") from None
