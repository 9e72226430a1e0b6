"""Other queues on PostgreSQL, each with a task that does nothing, as its own documents say to run it.

Each function fills a queue of its own in the database at `dsn`, drains it with one worker, and returns jobs per second.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

JOBS = 10_000


def procrastinate(dsn: str) -> float:
    """procrastinate's worker with a concurrency of 10."""
    import procrastinate as library  # type: ignore[import-not-found, unused-ignore]

    app = library.App(connector=library.PsycopgConnector(conninfo=dsn))

    @app.task(name="nothing")  # type: ignore[misc, untyped-decorator, unused-ignore]
    async def nothing(number: int) -> None:
        pass

    async def drain() -> float:
        async with app.open_async():
            await app.schema_manager.apply_schema_async()
            jobs: list[dict[str, Any]] = [{"number": number} for number in range(JOBS)]
            await nothing.batch_defer_async(*jobs)
            started = time.perf_counter()
            await app.run_worker_async(wait=False, concurrency=10, install_signal_handlers=False)
            return JOBS / (time.perf_counter() - started)

    return asyncio.run(drain())


def pgqueuer(dsn: str) -> float:
    """PgQueuer's manager in drain mode with batches of 100."""
    import psycopg
    from pgqueuer import PgQueuer  # type: ignore[import-not-found, unused-ignore]
    from pgqueuer.db import PsycopgDriver  # type: ignore[import-not-found, unused-ignore]
    from pgqueuer.queries import Queries  # type: ignore[import-not-found, unused-ignore]
    from pgqueuer.types import QueueExecutionMode  # type: ignore[import-not-found, unused-ignore]

    async def drain() -> float:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            driver = PsycopgDriver(connection)
            queries = Queries(driver)
            await queries.install()
            await queries.enqueue(["nothing"] * JOBS, [None] * JOBS, [0] * JOBS)
            manager = PgQueuer(driver)

            @manager.entrypoint("nothing")  # type: ignore[untyped-decorator, unused-ignore]
            async def nothing(job: object) -> None:
                pass

            started = time.perf_counter()
            await manager.run(batch_size=100, mode=QueueExecutionMode.drain)
            return JOBS / (time.perf_counter() - started)

    return asyncio.run(drain())


PEERS: dict[str, Callable[[str], float]] = {"procrastinate": procrastinate, "PgQueuer": pgqueuer}
