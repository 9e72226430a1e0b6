"""Around every call: a request id, the metrics, and errors that say what to do without saying how we are built."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from sidecar import limits, request_id
from sidecar.call_log import CallLog
from sidecar.errors import InputError, InternalError, MotiveError, fault_of_error
from sidecar.metrics import Metrics
from sidecar.traces import span

Handler = Callable[[Any, "grpc.aio.ServicerContext[Any, Any]"], Awaitable[Any]]
Parse = Callable[[bytes], Any]


class CallInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Turns MotiveErrors into their gRPC status; anything else into INTERNAL with the request's id, and a log entry.

    Neither the log nor the answer holds a text, an exception's message or a path.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._log = CallLog()
        self.calls_in_flight = 0
        self._idle = asyncio.Event()

    async def idle(self) -> None:
        """Returns once no call of motive.v1 is in flight."""
        while self.calls_in_flight:
            self._idle.clear()
            await self._idle.wait()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the handlers of motive.v1; health and reflection pass as they are."""
        handler = await continuation(details)
        if handler is None or not handler.unary_unary or not details.method.startswith("/motive."):
            return handler
        method = details.method.rpartition("/")[2]
        # The request comes as bytes: what gRPC could not parse, it would answer in its own way, unseen by us.
        return grpc.unary_unary_rpc_method_handler(
            self._wrap(method, handler.unary_unary, handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    def _wrap(self, method: str, inner: Handler, parse: Parse) -> Handler:
        async def call(payload: bytes, context: "grpc.aio.ServicerContext[Any, Any]") -> Any:
            started = time.monotonic()
            id_ = request_id.of_metadata(context.invocation_metadata())
            request_id.current.set(id_)
            status, cause = "OK", ""
            self.calls_in_flight += 1
            try:
                with span(f"motive.v1/{method}", _metadata(context), request_id=id_):
                    return await inner(_parsed(payload, method, parse), context)
            except MotiveError as error:
                status = fault_of_error(error).status
                message = error.message
                if isinstance(error, InternalError):
                    cause, message = message, f"{message}; {_logged(id_)}"
                await context.abort(grpc.StatusCode[status], message, ((request_id.HEADER, id_),))
            except asyncio.CancelledError:
                status = "CANCELLED"
                raise
            except grpc.aio.AbortError:
                status = "ABORTED"
                raise
            except Exception as error:
                # The message may quote the text that was being read, so only the kind and the place are logged.
                status, cause = "INTERNAL", f"{type(error).__name__} at {_place(error)}"
                await context.abort(
                    grpc.StatusCode.INTERNAL, f"internal error; {_logged(id_)}", ((request_id.HEADER, id_),)
                )
            finally:
                self.calls_in_flight -= 1
                if not self.calls_in_flight:
                    self._idle.set()
                seconds = time.monotonic() - started
                self._metrics.calls.labels(method, status).inc()
                self._metrics.seconds.labels(method).observe(seconds)
                if status != "OK":
                    self._log.failed(id_, method, status, seconds, cause)

        return call


def _metadata(context: "grpc.aio.ServicerContext[Any, Any]") -> dict[str, str]:
    """The caller's textual metadata, among which may be the trace that the call is part of."""
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _parsed(payload: bytes, method: str, parse: Parse) -> Any:
    # gRPC itself would say RESOURCE_EXHAUSTED, which means overload: a worker would try the same message for ever.
    if (size := len(payload)) > limits.MAX_MESSAGE_BYTES:
        raise InputError(f"the request has {size} bytes; the limit is {limits.MAX_MESSAGE_BYTES}", "Send fewer texts.")
    try:
        return parse(payload)
    except DecodeError:
        raise InputError(
            f"the request is no message that {method} takes: send one of proto/motive.proto, its texts in UTF-8"
        ) from None


def _logged(id_: str) -> str:
    return f"the sidecar's log has it under request id {id_}"


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace is not None else "?"
