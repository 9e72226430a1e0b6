"""Around every call: a request id, the metrics, and errors that say what to do without saying how we are built."""

import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from sidecar.errors import MotiveError, fault_of_error
from sidecar.metrics import Metrics

REQUEST_ID = "x-request-id"

log = logging.getLogger(__name__)

Handler = Callable[[Any, "grpc.aio.ServicerContext[Any, Any]"], Awaitable[Any]]


class CallInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Turns MotiveErrors into their gRPC status; anything else into INTERNAL with the request's id, and a log entry.

    Neither the log nor the answer holds a text, an exception's message or a path.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

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
        return grpc.unary_unary_rpc_method_handler(
            self._wrap(method, handler.unary_unary), handler.request_deserializer, handler.response_serializer
        )

    def _wrap(self, method: str, inner: Handler) -> Handler:
        async def call(request: Any, context: "grpc.aio.ServicerContext[Any, Any]") -> Any:
            started = time.monotonic()
            request_id = _request_id(context)
            status = "OK"
            try:
                return await inner(request, context)
            except MotiveError as error:
                status = fault_of_error(error).status
                await context.abort(grpc.StatusCode[status], error.message, ((REQUEST_ID, request_id),))
            except grpc.aio.AbortError:
                status = "ABORTED"
                raise
            except Exception as error:
                # The message may quote the text that was being read, so only the kind and the place are logged.
                status = "INTERNAL"
                log.error("request %s failed: %s at %s", request_id, type(error).__name__, _place(error))
                message = f"internal error; the sidecar's log has it under request id {request_id}"
                await context.abort(grpc.StatusCode.INTERNAL, message, ((REQUEST_ID, request_id),))
            finally:
                self._metrics.calls.labels(method, status).inc()
                self._metrics.seconds.labels(method).observe(time.monotonic() - started)

        return call


def _request_id(context: "grpc.aio.ServicerContext[Any, Any]") -> str:
    """The caller's id where it is short and plain, else a new one."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID and isinstance(value, str) and 0 < len(value) <= 64 and value.isprintable():
            return value
    return secrets.token_hex(8)


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace is not None else "?"
