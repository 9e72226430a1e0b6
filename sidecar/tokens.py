"""The token that every call must carry, from a file that is read again when it changes."""

import hmac
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from sidecar import limits, request_id
from sidecar.bearer import tokens
from sidecar.call_log import CallLog
from sidecar.errors import ConfigError
from sidecar.tls import Stamp, stamp

log = logging.getLogger(__name__)


class TokenFile:
    """The tokens in a file, one a line: an old one and a new one may both be there while callers change over."""

    def __init__(self, path: str) -> None:
        """Raises ConfigError where the file cannot be read, holds no token, or one that is too short."""
        self._path = path
        self._stamp = self._look()
        self._expected = self._read()

    def accepts(self, authorization: bytes) -> bool:
        """Whether this is `Bearer TOKEN` with a token that the file holds now."""
        if (seen := self._look()) != self._stamp:
            self._stamp = seen
            try:
                self._expected = self._read()
                log.info("the token file was read again: it holds %d", len(self._expected))
            # Half-written or gone: the tokens in use stay until the file is whole.
            except ConfigError as error:
                log.warning("the new token file cannot be used: %s", error)
        return any(hmac.compare_digest(authorization, expected) for expected in self._expected)

    def _look(self) -> Stamp | None:
        try:
            return stamp(self._path)
        except OSError:
            return None

    def _read(self) -> list[bytes]:
        try:
            found = tokens(Path(self._path).read_text(encoding="utf-8", errors="replace"))
        except OSError as error:
            raise ConfigError(f"token_file cannot be read: {error.strerror}", "Let this user read it.") from None
        if not found or not all(
            token.isascii() and token.isprintable() and len(token) >= limits.MIN_TOKEN for token in found
        ):
            raise ConfigError(
                f"{self._path} holds no token, or one of fewer than {limits.MIN_TOKEN} plain characters",
                "Make one: openssl rand -hex 32.",
            )
        return [f"Bearer {token}".encode() for token in found]


class TokenInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Lets motive.v1 and reflection be called only with `authorization: Bearer TOKEN`; health stays open to probes."""

    def __init__(self, tokens: TokenFile) -> None:
        self._tokens = tokens
        self._log = CallLog()
        self._refusal = grpc.unary_unary_rpc_method_handler(self._refuse)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        """Refuses with UNAUTHENTICATED before anything of the request is read."""
        if details.method.startswith("/grpc.health."):
            return await continuation(details)
        given = next((value for key, value in details.invocation_metadata or () if key == "authorization"), "")
        if self._tokens.accepts(given if isinstance(given, bytes) else given.encode()):
            return await continuation(details)
        return self._refusal

    async def _refuse(self, request: Any, context: "grpc.aio.ServicerContext[Any, Any]") -> None:
        id_ = request_id.of_metadata(context.invocation_metadata())
        request_id.current.set(id_)
        self._log.failed(id_, "call", "UNAUTHENTICATED", 0.0)
        message = "the call has no valid token; give the client one of the sidecar's token_file"
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, message)
