"""grpc.health.v1 for one server: every watcher hears of every change, and watching ends when the server drains.

The stock servicer loses watchers once one of several leaves, and an open watch would hold a drain to its full grace.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

Context = grpc.aio.ServicerContext[Any, Any]


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """One status for the server ("") and each of its services."""

    def __init__(self, *services: str) -> None:
        self._services = {"", *services}
        self._status = NOT_SERVING
        self._draining = False
        self._changed = asyncio.Event()

    @property
    def serving(self) -> bool:
        """Whether SERVING is what callers are told."""
        return bool(self._status == SERVING)

    def set(self, serving: bool) -> None:
        """Tells every watcher; without effect once draining."""
        status = SERVING if serving else NOT_SERVING
        if status != self._status and not self._draining:
            self._status = status
            self._wake()

    def drain(self) -> None:
        """NOT_SERVING for good; watchers hear it and are let go."""
        self._status = NOT_SERVING
        self._draining = True
        self._wake()

    def _wake(self) -> None:
        # Watchers hold the old event; a new one stands for the next change.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> health_pb2.HealthCheckResponse:
        """The status now; NOT_FOUND for a service that is not served here."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return health_pb2.HealthCheckResponse(status=self._status)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The status now and at each change."""
        known = request.service in self._services
        told = None
        while True:
            changed, status = self._changed, self._status if known else SERVICE_UNKNOWN
            if status != told:
                yield health_pb2.HealthCheckResponse(status=status)
                told = status
            if self._draining:
                return
            await changed.wait()
