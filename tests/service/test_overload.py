"""More than the sidecar admits: the excess is refused at once, what was admitted is answered."""

import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from sidecar.pb import motive_pb2 as pb
from tests.fixtures.sidecar_process import RunSidecar
from tests.fixtures.tiny_model import write_tiny_model
from tests.fixtures.triton_process import RunTriton, triton_engine
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.slow

ADMITTED = 3
TEXTS = 2


@pytest.mark.parametrize("engine", ["onnx", "triton"])
def test_three_times_the_admitted_load_is_refused_but_for_what_was_admitted(
    engine: str, run_sidecar: RunSidecar, run_triton: RunTriton, tmp_path: Path
) -> None:
    """F15 RESOURCE_EXHAUSTED for the excess, which does not wait for the engine; the admitted calls succeed."""
    slow = write_tiny_model(tmp_path / "slow", work=500)
    url = f"onnx:{slow}" if engine == "onnx" else triton_engine([run_triton(slow).start("motive")], slow)
    flags = ["--max-admitted-texts", str(ADMITTED * TEXTS), "--batch-tokens", "8"]
    sidecar = run_sidecar(url, metrics=True, flags=flags).wait_serving()
    stub = sidecar.stub()
    ended: dict[int, float] = {}

    def send(call: int) -> Any:
        texts = [f"cheap {call} {number}" for number in range(TEXTS)]
        future = stub.Classify.future(pb.ClassifyRequest(texts=texts), timeout=120)
        future.add_done_callback(lambda _: ended.setdefault(call, time.monotonic()))
        return future

    started = time.monotonic()
    sidecar.classify("gift")
    one_text = time.monotonic() - started
    admitted = [send(call) for call in range(ADMITTED)]
    wait_until(
        lambda: sidecar.metric("motive_held_texts"), lambda held: held == ADMITTED * TEXTS, 60, "all places to be taken"
    )
    started = time.monotonic()
    excess = [send(call) for call in range(ADMITTED, 3 * ADMITTED)]
    refused = [call.exception() for call in excess]
    assert {error.code() for error in refused if error} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert all(refused), "the engine is too fast for this test"
    wait_until(lambda: len(ended), lambda calls: calls >= 2 * ADMITTED, 10, "every refusal to be noted")
    # Each takes milliseconds; half of what the engine needs for the text that it has just begun is room enough.
    slowest = max(moment for call, moment in ended.items() if call >= ADMITTED) - started
    assert slowest < one_text / 2, (slowest, one_text)
    assert not any(call.done() for call in admitted[-2:]), "refused before anything was finished"
    assert all(len(call.result().results) == TEXTS for call in admitted)
    assert sidecar.metric("motive_refused_texts_total") == 2 * ADMITTED * TEXTS
    wait_until(lambda: sidecar.metric("motive_held_texts"), lambda held: held == 0, 20, "every place to be free again")
