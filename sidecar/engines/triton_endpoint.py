"""One Triton server: asks it for logits, checks what it answers, and knows whether it can be asked."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import tritonclient.grpc.aio as triton
from numpy.typing import NDArray
from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup
from tritonclient.utils import InferenceServerException

from sidecar import limits, request_id
from sidecar.engines import checked_logits
from sidecar.engines.breaker import OPEN, Breaker
from sidecar.errors import DeadlineError, InternalError, MotiveError, OverloadError, UnavailableError
from sidecar.tls import CertificateFiles, Stamp, client_credentials
from sidecar.traces import headers as trace_headers

ONNX_PARAMETER: Final = "motive_onnx_sha256"
"""The parameter in config.pbtxt by which a served model says which model.onnx it is."""

PROBE_S: Final = 2.0
LOAD_S: Final = 60.0
LOAD_PAUSE_S: Final = 3.0
"""Seconds between two requests to load a model that will not load."""

LONGEST_S: Final = 60.0
"""Seconds that a batch may take where no caller set a deadline."""

_CHANNEL: Final = [
    ("grpc.max_send_message_length", 64 * 1024 * 1024),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    # gRPC's own pauses between attempts grow to two minutes; a restarted Triton is to be used within seconds.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1000),
]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedModel:
    """What an endpoint must serve to be of use."""

    name: str
    """The model's name in Triton."""
    outputs: int
    onnx_sha256: str


class TritonEndpoint:
    """Raises the engine's errors; the caller keeps the books of its breaker."""

    def __init__(self, address: str, model: ServedModel, tls: CertificateFiles | None, breaker: Breaker) -> None:
        self.address = address
        self.breaker = breaker
        self.batches = 0
        """Batches sent and not answered yet."""
        self.ready = False
        """Whether the last probe found the right model ready; nothing is sent to it before that."""
        self.any_length = False
        """Whether it computes on processors alone, as found by the last probe: each padded token costs there, while on
        GPUs batches of equal length can be joined, and lengths seen before are faster."""
        self.reason = "not asked yet"
        self._model = model
        self._tls = tls
        self._stamp: Stamp | None = None
        self._load_after = 0.0
        self._not_loaded = ""
        self._silent = 0
        self._half_written = False
        self._priorities = 0
        self._queue_policy = False
        self._one_output = False
        self._closing: set[asyncio.Task[None]] = set()
        self._loading: asyncio.Task[None] | None = None
        self._client: Any = None

    @property
    def state(self) -> str:
        """Its breaker's, as operators see it: open as well while it is not ready, as nothing is sent to it then."""
        return self.breaker.state if self.ready else OPEN

    @property
    def fault(self) -> str:
        """Why it was last found wanting, by a probe or by a batch; empty where nothing is known against it."""
        return self.reason or self.breaker.reason

    async def infer(
        self, inputs: Sequence[tuple[str, NDArray[np.int64]]], timeout_s: float, priority: int
    ) -> NDArray[np.float32]:
        """inputs [batch, tokens] by name -> logits [batch, outputs], of that shape for certain, finite or not."""
        timeout_s = min(timeout_s, LONGEST_S)
        try:
            client = self._open()
        except OSError as error:
            raise UnavailableError(f"the certificate for Triton cannot be read: {type(error).__name__}") from None
        tensors = []
        for name, values in inputs:
            tensor = triton.InferInput(name, list(values.shape), "INT64")
            tensor.set_data_from_numpy(values)
            tensors.append(tensor)
        self.batches += 1
        try:
            result = await client.infer(
                self._model.name,
                tensors,
                # Where there is but one output, naming it only makes the request longer to write and to read.
                outputs=None if self._one_output else [triton.InferRequestedOutput("logits")],
                request_id=request_id.current.get(),
                # For a Triton whose config has priorities and timeouts, unlike ours (model.pbtxt says why). 1 is the
                # highest priority, 0 none. The queue lets go of a batch before its caller does.
                priority=min(priority + 1, self._priorities),
                timeout=max(1, int(timeout_s * 0.95 * 1e6)) if self._queue_policy else None,
                client_timeout=timeout_s,
                headers={request_id.HEADER: request_id.current.get() or "-", **trace_headers()},
            )
        except InferenceServerException as error:
            raise self._error(error) from None
        except asyncio.CancelledError:
            # gRPC raises it, too, where the connection is dropped under the call; nobody has cancelled the task then.
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            raise UnavailableError(f"the connection to Triton at {self.address} was given up") from None
        finally:
            self.batches -= 1
        return self._logits(result, len(inputs[0][1]))

    def _logits(self, result: Any, rows: int) -> NDArray[np.float32]:
        """The checked output: whatever else a server sends than numbers of this shape is refused here."""
        try:
            logits = result.as_numpy("logits")
        except (ValueError, TypeError, KeyError) as error:
            raise InternalError(f"Triton at {self.address} sent what is no tensor: {type(error).__name__}") from None
        if logits is None:
            raise InternalError(f"Triton at {self.address} answered without the output logits")
        return checked_logits(logits, rows, self._model.outputs, f"Triton at {self.address}")

    def _error(self, error: InferenceServerException) -> MotiveError:
        status, message = str(error.status()).removeprefix("StatusCode."), str(error.message())
        if "maximum queue size" in message or status == "RESOURCE_EXHAUSTED":
            return OverloadError(f"Triton's queue at {self.address} is full")
        if status == "DEADLINE_EXCEEDED" or "timeout expired" in message:
            return DeadlineError(f"Triton at {self.address} did not answer in the time allowed")
        if status in ("UNAVAILABLE", "CANCELLED", "NOT_FOUND", "UNAUTHENTICATED"):
            # What it says may be anything: only what it means goes on to callers.
            self.ready = False
            self.reason = f"does not answer ({status})"
            return UnavailableError(f"Triton at {self.address} is away or has not loaded model {self._model.name}")
        log.error("Triton at %s answered %s to a batch", self.address, status)
        return InternalError(f"Triton at {self.address} answered {status}")

    async def probe(self) -> bool:
        """Asks whether the model is ready, and keeps `ready` and `reason`; asks Triton to load the model if not."""
        try:
            async with asyncio.timeout(PROBE_S):
                was = self.ready
                self.ready = await self._look()
        except (InferenceServerException, TimeoutError, OSError) as error:
            self.ready = False
            self.reason = f"does not answer ({_kind(error)})"
            self._silent += 1
            if self._silent % 3 == 0:
                # A connection that was cut without a word stays silent for minutes: try a new one.
                await self._drop()
            return False
        self._silent = 0
        if self.ready and not was:
            log.info("Triton at %s is ready with model %s", self.address, self._model.name)
            self.breaker.invite()
        return self.ready

    async def _look(self) -> bool:
        self._rotate()
        client = self._open()
        if await self._has_model(client):
            # At each look, as somebody may load another model under this name at any time.
            return self._verify((await client.get_model_config(self._model.name)).config)
        # Not whether it is ready: by default no Triton is, for as long as one model of many has failed to load.
        if not await client.is_server_live():
            self.reason = "is starting or stopping"
            return False
        self.reason = self._not_loaded or f"has not loaded model {self._model.name} yet"
        if (self._loading is None or self._loading.done()) and time.monotonic() >= self._load_after:
            self._load_after = time.monotonic() + LOAD_PAUSE_S
            self._loading = asyncio.create_task(self._load(client))
        return False

    async def _has_model(self, client: Any) -> bool:
        try:
            return bool(await client.is_model_ready(self._model.name))
        except InferenceServerException as error:
            # What some of Triton's releases say of a model that was never loaded.
            if _kind(error) == "NOT_FOUND":
                return False
            raise

    def _verify(self, config: Any) -> bool:
        served = config.parameters[ONNX_PARAMETER].string_value if ONNX_PARAMETER in config.parameters else ""
        outputs = {output.name: list(output.dims)[-1:] for output in config.output}
        if served != self._model.onnx_sha256:
            self.reason = (
                f"serves another {self._model.name}: its model.onnx is {served[:8] or 'of no stated digest'},"
                f" the repository's is {self._model.onnx_sha256[:8]}; motive release puts both right"
            )
        elif outputs.get("logits") != [self._model.outputs]:
            self.reason = f"serves {self._model.name} without logits of {self._model.outputs} numbers"
        else:
            self.reason = ""
            batching = config.dynamic_batching
            self._priorities = batching.priority_levels
            self._queue_policy = batching.HasField("default_queue_policy") or bool(batching.priority_queue_policy)
            self._one_output = len(config.output) == 1
            self.any_length = {group.kind for group in config.instance_group} == {ModelInstanceGroup.KIND_CPU}
            return True
        return False

    async def _load(self, client: Any) -> None:
        """Asks for the model; a Triton that was restarted, or never had it, gets it this way."""
        try:
            await client.load_model(self._model.name, client_timeout=LOAD_S)
        except InferenceServerException as error:
            if _kind(error) == "DEADLINE_EXCEEDED":
                return  # TensorRT builds for minutes
            self.reason = self._not_loaded = f"cannot load model {self._model.name} ({_kind(error)}); its log says why"
            log.warning("Triton at %s %s", self.address, self.reason)
        else:
            self._not_loaded = ""

    def _open(self) -> Any:
        if self._client is None:
            self._client = self._connection()
        return self._client

    def _connection(self) -> Any:
        """A new one; raises OSError where a certificate's file is missing or cannot be used."""
        creds = None
        if self._tls is not None:
            stamp = self._tls.stamp()
            creds = client_credentials(self._tls)
            self._stamp = stamp
        return triton.InferenceServerClient(self.address, creds=creds, channel_args=_CHANNEL)

    def _rotate(self) -> None:
        """A new connection once the certificate's files have changed; batches under way end on the old one."""
        if self._tls is None or self._client is None:
            return
        try:
            if self._tls.stamp() == self._stamp:
                return
            self._tls.check()
            old, self._client = self._client, self._connection()
        # Half-written files are met in every rotation: the connection there is stays until the new ones are whole.
        except OSError as error:
            if not self._half_written:
                log.warning("the new certificate for Triton cannot be used yet: %s", type(error).__name__)
            self._half_written = True
            return
        self._half_written = False
        closing = asyncio.create_task(old._channel.close(limits.DRAIN_GRACE_S))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def close(self) -> None:
        """Ends the connection and what is under way."""
        tasks = [*self._closing, *([self._loading] if self._loading else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._drop()


def _kind(error: Exception) -> str:
    """What went wrong, without the other side's own words."""
    if isinstance(error, InferenceServerException):
        return str(error.status()).removeprefix("StatusCode.")
    return type(error).__name__
