"""What operators can count, for Prometheus. No label and no value ever holds a text."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sidecar.engines import Backend
from sidecar.pb import motive_pb2 as pb

_BREAKER = {"closed": 0, "half_open": 1, "open": 2}


class Metrics:
    """The sidecar's counters and histograms, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.classified = self._counter("texts", "Texts answered")
        self.cached = self._counter("cached_texts", "Texts answered without asking the model: remembered or repeated")
        self.abstained = self._counter("abstained_texts", "Texts answered with the abstention label")
        self.failed = self._counter("failed_texts", "Texts answered with an error of their own")
        self.refused = self._counter("refused_texts", "Texts refused because too many were held already")
        self.held = Gauge("motive_held_texts", "Texts held now, over all calls", registry=self.registry)
        self.redactions = self._counter("redactions", "Pieces of personal data masked, here or by the caller")
        self.calls = Counter(
            "motive_calls", "Calls ended, by method and gRPC status", ["method", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "motive_call_seconds",
            "Duration of a call",
            ["method"],
            registry=self.registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        self.batch_rows = Histogram(
            "motive_batch_rows",
            "Windows in a batch",
            registry=self.registry,
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
        )
        self.batch_tokens = Histogram(
            "motive_batch_tokens",
            "Padded length of a batch",
            registry=self.registry,
            buckets=(8, 16, 32, 64, 128, 256, 512),
        )
        self.switches = self._counter("model_switches", "Changes to another release")
        self.switch_failures = self._counter("model_switch_failures", "Releases that could not be served")
        self.ready = Gauge("motive_ready", "1 while the engine answers, else 0", registry=self.registry)
        self.backend_ready = Gauge(
            "motive_backend_ready", "1 while an address has the model, else 0", ["address"], registry=self.registry
        )
        self.breaker = Gauge(
            "motive_breaker_state",
            "Circuit breaker of an address: 0 closed, 1 half open, 2 open",
            ["address"],
            registry=self.registry,
        )
        self.batches = Gauge(
            "motive_batches_in_flight", "Batches sent to an address", ["address"], registry=self.registry
        )
        self.model = Gauge("motive_model", "1 for the model served", ["model"], registry=self.registry)

    def show_model(self, model_version: str) -> None:
        """Names the model that answers from now on."""
        self.model.clear()
        self.model.labels(model_version).set(1)

    def show_backends(self, ready: bool, backends: Sequence[Backend]) -> None:
        """Whether the engine answers, and what it computes on, as it is now."""
        self.ready.set(ready)
        for backend in backends:
            self.backend_ready.labels(backend.address).set(backend.ready)
            self.breaker.labels(backend.address).set(_BREAKER[backend.breaker])
            self.batches.labels(backend.address).set(backend.batches)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"motive_{name}", text, registry=self.registry)

    def batch(self, rows: int, tokens: int) -> None:
        """One batch goes to the engine."""
        self.batch_rows.observe(rows)
        self.batch_tokens.observe(tokens)

    def texts(self, texts: int, cached: int, results: Sequence[pb.Classification]) -> None:
        """One call's texts are answered."""
        self.classified.inc(texts)
        self.cached.inc(cached)
        failed = sum(result.HasField("error") for result in results)
        self.failed.inc(failed)
        self.abstained.inc(sum(not result.motives for result in results) - failed)
