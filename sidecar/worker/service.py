"""The sidecar as the worker calls it: texts in, answers with their model out, faults as MotiveErrors."""

import json
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from sidecar import limits
from sidecar.errors import ConfigError, DeadlineError, InternalError, MotiveError, fault_of_status
from sidecar.pb import motive_pb2 as pb
from sidecar.pb import motive_pb2_grpc as pb_grpc
from sidecar.worker.settings import WorkerSettings

SLICE_S = 0.2
"""Between two looks for whether to go on waiting."""


class Abandoned(Exception):
    """The answer is not wanted any more: the worker stops, or its lease is gone."""


@dataclass(frozen=True)
class Answers:
    """One answer per text, in order, all from one model."""

    results: Sequence[pb.Classification]
    model: str


class Service:
    """One channel to one sidecar, shared by all lanes."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._deadline_s = settings.deadline_s
        self._channel = _channel(settings)
        self._stub = pb_grpc.MotiveStub(self._channel)  # type: ignore[no-untyped-call]
        self._token_file = settings.token_file

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
        response = self._wait(
            self._stub.Classify.future(request, timeout=self._deadline_s, metadata=self._metadata()), keep_waiting
        )
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
        call = self._stub.GetModel.future(pb.GetModelRequest(), timeout=self._deadline_s, metadata=self._metadata())
        said = self._wait(call, lambda: True)
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

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        """An id for the call, and the token, read anew as it may be exchanged at any time."""
        id_ = (("x-request-id", f"worker-{os.getpid()}-{secrets.token_hex(4)}"),)
        if not self._token_file:
            return id_
        return (*id_, ("authorization", f"Bearer {_read(self._token_file).decode('ascii', 'replace').strip()}"))

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
            fault = fault_of_status(error.code().name)
            raise fault.error(error.details() or fault.status.lower(), fault.hint) from None
        finally:
            future.cancel()


def model_version(model: pb.ModelVersion) -> str:
    """`name@version/digest8`, as it stands on every annotated row."""
    return f"{model.name}@{model.version}/{model.digest.hex()[:8]}"


def _channel(settings: WorkerSettings) -> grpc.Channel:
    options = [
        ("grpc.max_receive_message_length", limits.MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", limits.MAX_MESSAGE_BYTES),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.keepalive_time_ms", 20_000),
        # A worker has a channel of its own, whatever else this process has open.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if not settings.tls_authority:
        return grpc.insecure_channel(settings.target, options)
    return grpc.secure_channel(
        settings.target,
        grpc.ssl_channel_credentials(
            _read(settings.tls_authority),
            _read(settings.tls_key) if settings.tls_key else None,
            _read(settings.tls_certificate) if settings.tls_certificate else None,
        ),
        options,
    )


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", "Correct the path.") from None
