"""The dashboard and the alerts ask only for metrics that a running sidecar, worker and Triton really have."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from sidecar.metrics_worker import MEASURES, WorkerCollector
from sidecar.worker.run import Worker
from sidecar.worker.settings import WorkerSettings
from tests.fixtures.sidecar_process import RunSidecar
from tests.fixtures.triton_process import TritonProcess, triton_engine
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.slow

DEPLOY = Path(__file__).parents[2] / "sidecar" / "deploy"

GPU_ONLY = {f"nv_gpu_{name}": {"gpu_uuid"} for name in ("utilization", "memory_used_bytes", "memory_total_bytes")}
"""What Triton shows where there is a GPU."""

ADDED = {"instance", "job"}
"""Labels that Prometheus itself adds to what it scrapes."""

METRIC = re.compile(r"\b((?:motive|nv)_[a-z0-9_]+)(?:\{([^}]*)\})?")


def queries() -> Iterator[tuple[str, str]]:
    """Every query of the dashboard and of the alerts, with the text beside its result."""
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "pg_motive.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"], target["legendFormat"]
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield rule["expr"], rule["annotations"]["summary"]


def expressions() -> list[str]:
    return [expression for expression, _ in queries()]


def grouped_by(expression: str) -> set[str]:
    """The labels that a query groups by."""
    return {label.strip() for group in re.findall(r"\bby\s*\(([^)]*)\)", expression) for label in group.split(",")}


def metrics_on(page: str) -> dict[str, set[str]]:
    """Every name that a query may use, those of metrics without a value included, with the labels of its values."""
    metrics: dict[str, set[str]] = {name: set() for name in re.findall(r"^# TYPE ([a-z_]+)", page, re.MULTILINE)}
    for name, labels in re.findall(r"^([a-z_]+)(?:\{(.*)\})? \S+$", page, re.MULTILINE):
        metrics.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return metrics


@pytest.fixture(scope="module")
def worker_page() -> Iterator[str]:
    """What a worker shows, here of a database that does not answer."""
    worker = Worker(WorkerSettings(dsn="host=/nonexistent dbname=none", target="unix:/nonexistent"))
    registry = CollectorRegistry()
    registry.register(WorkerCollector(worker))
    yield generate_latest(registry).decode()
    worker._service.close()


def _page(port: int) -> str:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


@pytest.fixture
def metrics(
    run_sidecar: RunSidecar, tiny_triton: TritonProcess, tiny_repository: Path, worker_page: str
) -> dict[str, set[str]]:
    """What sidecar, worker and Triton show, by name, with the labels."""
    sidecar = run_sidecar(triton_engine([tiny_triton], tiny_repository), metrics=True).wait_serving()
    sidecar.classify("cheap", "gift")
    triton_page = wait_until(
        lambda: _page(tiny_triton.ports.metrics), lambda page: "nv_inference" in page, 20, "Triton's own metrics"
    )
    known = metrics_on(_page(sidecar.metrics_port)) | metrics_on(worker_page) | metrics_on(triton_page)
    measured = {f"motive_{name}": set(labels) for name, (_, labels) in MEASURES.items()}
    assert set(measured) <= set(known)
    return known | measured | GPU_ONLY


def test_every_query_names_metrics_and_labels_that_exist(metrics: dict[str, set[str]]) -> None:
    """Selected by or grouped by, a label that nothing has gives an empty panel, or an alert that never fires."""
    assert len({name for expression in expressions() for name, _ in METRIC.findall(expression)}) > 25
    for expression in expressions():
        for name, selector in METRIC.findall(expression):
            assert name in metrics, expression
            selected = {part.split("=")[0].strip("!~ ") for part in selector.split(",") if part}
            assert (selected | grouped_by(expression)) - ADDED <= metrics[name], (name, expression)


def test_what_stands_beside_a_result_names_only_labels_that_it_has() -> None:
    for expression, text in queries():
        named = re.findall(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}", text)
        assert set(named) <= grouped_by(expression), text


def test_the_dashboard_shows_what_operators_ask_for() -> None:
    """Rates, latencies, batch sizes, queue depth, freshness, cache hits, breaker state, abstention."""
    text = "\n".join(expressions())
    wanted: tuple[Any, ...] = (
        *("motive_texts_total", "motive_call_seconds_bucket", "motive_batch_rows", "motive_queue_rows"),
        *(
            "motive_freshness_seconds",
            "motive_cached_texts_total",
            "motive_breaker_state",
            "motive_abstained_texts_total",
        ),
    )
    assert [name for name in wanted if name not in text] == []
