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

from sidecar.metrics_worker import WorkerCollector
from sidecar.worker.run import Worker
from sidecar.worker.settings import WorkerSettings
from tests.fixtures.sidecar_process import RunSidecar
from tests.fixtures.triton_process import TritonProcess, triton_engine
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.slow

DEPLOY = Path(__file__).parents[2] / "sidecar" / "deploy"

GPU_ONLY = {"nv_gpu_utilization", "nv_gpu_memory_used_bytes", "nv_gpu_memory_total_bytes"}
"""What Triton shows where there is a GPU."""

METRIC = re.compile(r"\b((?:motive|nv)_[a-z0-9_]+)(?:\{([^}]*)\})?")


def expressions() -> Iterator[str]:
    """Every query of the dashboard and of the alerts."""
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "pg_motive.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]


def names_on(page: str) -> set[str]:
    """Every name that a query may use, those of metrics without a value included."""
    return set(re.findall(r"^(?:# TYPE )?([a-z_]+)\b", page, re.MULTILINE))


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


def test_every_query_names_metrics_that_exist(
    run_sidecar: RunSidecar, tiny_triton: TritonProcess, tiny_repository: Path, worker_page: str
) -> None:
    sidecar = run_sidecar(triton_engine([tiny_triton], tiny_repository), metrics=True).wait_serving()
    sidecar.classify("cheap", "gift")
    triton_page = wait_until(
        lambda: _page(tiny_triton.ports.metrics), lambda page: "nv_inference" in page, 20, "Triton's own metrics"
    )
    known = names_on(_page(sidecar.metrics_port)) | names_on(worker_page) | names_on(triton_page)
    asked = {name for expression in expressions() for name, _ in METRIC.findall(expression)}
    assert len(asked) > 25
    assert asked - known - GPU_ONLY == set()


def test_every_label_that_a_query_selects_by_exists() -> None:
    from sidecar.metrics_worker import MEASURES

    labels = {f"motive_{name}": set(of) for name, (_, of) in MEASURES.items()}
    labels |= {"motive_call_seconds_bucket": {"method", "le"}, "motive_calls_total": {"method", "status"}}
    labels |= {"motive_backend_ready": {"address"}, "motive_breaker_state": {"address"}}
    for expression in expressions():
        for name, selector in METRIC.findall(expression):
            selected = {part.split("=")[0].strip("!~ ") for part in selector.split(",") if part}
            assert selected <= labels.get(name, set()), expression


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
