"""What a worker shows to Prometheus: its own counts, and the queue as the database has it at that moment.

Every worker of a database shows the same of the queue: a dashboard takes the largest, not the sum. No text, no key.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sidecar.metrics_server import metrics_server
from sidecar.worker.run import Worker

QUERY_MS: Final = 5_000
"""Milliseconds that the database may take; a scrape that takes longer shows the worker alone."""

MEASURES: Final = {
    "queue_rows": ("Rows in the queue", ("target", "text_column", "priority", "state")),
    "queue_oldest_seconds": ("Age of the oldest entry in the queue", ("target", "text_column", "priority")),
    "failed_rows": ("Rows that were retired with a reason", ("target", "text_column")),
    "uncovered_partitions": ("Partitions that came after attach and enqueue nothing", ("target", "text_column")),
    "blocked": ("1 where something stands in the way of annotation: see motive.status", ("target", "text_column")),
    "freshness_seconds": ("Enqueue to write-back over the last hour", ("target", "text_column", "quantile")),
    "oldest_transaction_seconds": ("Age of the oldest snapshot that is held: it slows every claim", ()),
}
"""By name in motive.measures(): what it is, and the labels."""

log = logging.getLogger("sidecar.worker")


class WorkerCollector(Collector):
    """Asks the worker and the database anew at each scrape, one at a time."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._lock = threading.Lock()

    def describe(self) -> list[Metric]:
        """Nothing beforehand: registering must not ask the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The worker's metrics, then the database's where it answers."""
        yield CounterMetricFamily("motive_worker_rows", "Rows annotated by this worker", value=self._worker.written)
        fault = GaugeMetricFamily("motive_worker_fault", "1 while the sidecar is at fault and rows wait", labels=[])
        fault.add_metric([], float(bool(self._worker.fault)))
        yield fault
        with self._lock:
            rows = self._measures()
        answers = GaugeMetricFamily("motive_worker_database_up", "1 while the database answers the worker's metrics")
        answers.add_metric([], float(rows is not None))
        yield answers
        for name, (text, labels) in MEASURES.items():
            family = GaugeMetricFamily(f"motive_{name}", text, labels=labels)
            for measure, target, column, part, value in rows or ():
                if measure == name:
                    named = [one for one in (target, column, *(part or "").split("/")) if one]
                    family.add_metric(named[: len(labels)], value)
            yield family

    def _measures(self) -> list[tuple[str, str, str, str, float]] | None:
        try:
            with (
                psycopg.connect(
                    self._worker.settings.dsn,
                    autocommit=True,
                    prepare_threshold=None,
                    connect_timeout=5,
                    application_name="pg_motive worker metrics",
                ) as connection,
                connection.transaction(),
            ):
                connection.execute(f"set local statement_timeout = {QUERY_MS}")
                return connection.execute("select * from motive.measures()").fetchall()
        except psycopg.Error as error:
            log.warning("the database does not answer for the metrics: %s", type(error).__name__)
            return None


@contextmanager
def worker_metrics(worker: Worker) -> Iterator[None]:
    """Serves the worker's metrics until the block ends, where its settings ask for it."""
    registry = CollectorRegistry()
    registry.register(WorkerCollector(worker))
    with metrics_server(worker.settings.metrics, registry):
        yield
