"""What a healthy Triton will not do, done by a fake: wrong answers, calls given up, queues that are full."""

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup

from sidecar.batching import BUCKETS
from sidecar.pb import motive_pb2 as pb
from tests.fixtures.fake_triton import FakeTriton
from tests.fixtures.sidecar_process import RunSidecar, SidecarProcess
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.slow

INJECTION = b"'); drop table reviews; --"


@pytest.fixture
def sidecar(run_sidecar: RunSidecar, fake_triton: FakeTriton, tiny_repository: Path) -> SidecarProcess:
    """A sidecar that asks the fake, one batch at a time, without a cache."""
    engine = f"triton://{fake_triton.address}/motive?repository={tiny_repository}"
    flags = ["--cache-texts", "0", "--triton-batches", "1"]
    serving = run_sidecar(engine, metrics=True, flags=flags).wait_serving()
    fake_triton.requests.clear()  # the trial at the start
    return serving


@pytest.fixture
def paired(
    run_sidecar: RunSidecar, fake_triton: FakeTriton, other_triton: FakeTriton, tiny_repository: Path
) -> SidecarProcess:
    """A sidecar that asks either fake, the first one first where both are idle."""
    engine = f"triton://{fake_triton.address},{other_triton.address}/motive?repository={tiny_repository}"
    sidecar = run_sidecar(engine, metrics=True, flags=["--cache-texts", "0"]).wait_serving()
    wait_until(lambda: [_backend(sidecar, place).reason for place in (0, 1)], lambda s: s == ["", ""], 30, "both")
    return sidecar


def _backend(sidecar: SidecarProcess, place: int = 0) -> pb.Backend:
    backend: pb.Backend = sidecar.stub().GetModel(pb.GetModelRequest(), timeout=10).backends[place]
    return backend


def _ask(sidecar: SidecarProcess, **fields: Any) -> pb.ClassifyResponse:
    response: pb.ClassifyResponse = sidecar.stub().Classify(pb.ClassifyRequest(**fields), timeout=20)
    return response


def _code(sidecar: SidecarProcess, text: str = "cheap") -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as failed:
        _ask(sidecar, texts=[text])
    code: grpc.StatusCode = failed.value.code()
    return code


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_an_error_of_that_text_alone(
    number: float, sidecar: SidecarProcess, fake_triton: FakeTriton
) -> None:
    """F27 NaN and infinity never become a label."""

    def infer(request: Any, _: Any) -> Any:
        values = np.zeros((request.inputs[0].shape[0], fake_triton.outputs), dtype=np.float32)
        values[:, -1] = 3.0
        values[0, 0] = number
        return fake_triton.answer(request, values=values)

    with fake_triton.answering(infer):
        results = _ask(sidecar, texts=["cheap", "gift"]).results
    assert [one.error.reason for one in results] == [pb.TEXT_ERROR_REASON_NOT_FINITE, pb.TEXT_ERROR_REASON_UNSPECIFIED]
    assert not results[0].motives


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [7]},
        {"shape": [1, 6], "raw": bytes(24)},
        {"shape": [1, 8], "raw": bytes(32)},
        {"shape": [2, 7], "raw": bytes(56)},
        {"raw": b""},
        {"raw": bytes(3)},
        {"name": "something"},
        {"datatype": "INT64", "raw": bytes(56)},
        {"datatype": "BYTES", "shape": [1, 1], "raw": len(INJECTION).to_bytes(4, "little") + INJECTION},
        {"datatype": "BYTES", "shape": [1, 7], "raw": (2**20).to_bytes(4, "little") + b"x" * 2**20},
        {"datatype": "NONSENSE"},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_an_answer_of_another_form_is_internal_and_says_nothing_of_its_content(
    changes: dict[str, Any], sidecar: SidecarProcess, fake_triton: FakeTriton
) -> None:
    """F27, F58 wrong shapes, an extra label, a missing output, texts instead of numbers: INTERNAL, never a label."""
    with fake_triton.answering(lambda request, _: fake_triton.answer(request, **changes)):
        assert _code(sidecar) == grpc.StatusCode.INTERNAL
    assert "drop table" not in sidecar.log()
    wait_until(
        lambda: sidecar.stub().Classify.future(pb.ClassifyRequest(texts=["x"]), timeout=20).exception(),
        lambda error: error is None,
        20,
        "right answers to be taken again",
    )


def test_what_triton_says_of_a_fault_does_not_reach_the_caller(
    sidecar: SidecarProcess, fake_triton: FakeTriton
) -> None:
    """F58 its message may hold anything; the caller gets our sentence and a request id."""

    def infer(request: Any, context: Any) -> Any:
        context.abort(grpc.StatusCode.UNKNOWN, INJECTION.decode() + "cheap")

    with fake_triton.answering(infer), pytest.raises(grpc.RpcError) as failed:
        _ask(sidecar, texts=["cheap"])
    assert failed.value.code() == grpc.StatusCode.INTERNAL
    said = failed.value.details() or ""
    assert "request id" in said
    assert "drop table" not in said + sidecar.log()


def test_a_caller_that_gives_up_frees_the_slot_and_its_request_in_triton(
    sidecar: SidecarProcess, fake_triton: FakeTriton
) -> None:
    """F16 the request is cancelled in Triton, and the one slot there is goes to the next caller."""
    with fake_triton.hang():
        call = sidecar.stub().Classify.future(pb.ClassifyRequest(texts=["cheap"]), timeout=60)
        assert fake_triton.waiting.wait(20)
        call.cancel()
        assert fake_triton.cancelled.wait(20)
        fake_triton.infer = lambda request, _: fake_triton.answer(request)
        assert len(_ask(sidecar, texts=["gift"]).results) == 1
    assert sidecar.metric("motive_held_texts") == 0


def test_a_batch_goes_on_while_one_of_its_callers_still_waits(sidecar: SidecarProcess, fake_triton: FakeTriton) -> None:
    """F16 giving up is one caller's own affair."""
    with fake_triton.hang():
        first = sidecar.stub().Classify.future(pb.ClassifyRequest(texts=["cheap"]), timeout=60)
        assert fake_triton.waiting.wait(20)
        stub = sidecar.stub()
        shared = [stub.Classify.future(pb.ClassifyRequest(texts=[text]), timeout=60) for text in ("gift", "slow")]
        wait_until(lambda: sidecar.metric("motive_held_texts"), lambda held: held == 3, 20, "three texts to be held")
        fake_triton.waiting.clear()
        first.cancel()
        assert fake_triton.waiting.wait(20), "the two that waited share the next batch"
        fake_triton.cancelled.clear()
        shared[0].cancel()
        wait_until(lambda: sidecar.metric("motive_held_texts"), lambda held: held == 1, 20, "one to have left")
        assert not fake_triton.cancelled.is_set()
    assert len(shared[1].result(timeout=20).results) == 1
    assert len(fake_triton.requests) == 2


def test_batches_are_padded_to_their_bucket_unless_every_token_is_computed_by_a_processor(
    sidecar: SidecarProcess, fake_triton: FakeTriton
) -> None:
    """GPUs do better with few lengths, and Triton joins equal ones; the sidecar notices what it talks to by itself."""

    def sent() -> int:
        _ask(sidecar, texts=["cheap " * 7])
        return int(fake_triton.requests[-1].inputs[0].shape[1])

    padded = sent()
    assert padded in BUCKETS
    fake_triton.kind = ModelInstanceGroup.KIND_CPU
    exact = wait_until(sent, lambda length: length < padded, 20, "a batch without padding")
    assert exact not in BUCKETS


def test_deadline_priority_and_id_are_passed_on(sidecar: SidecarProcess, fake_triton: FakeTriton) -> None:
    """For a Triton whose queue has deadlines, before the caller's own, and priorities, of which 1 is the highest.

    A Triton without them is not told of them.
    """
    _ask(sidecar, texts=["cheap"])
    assert not fake_triton.requests[-1].parameters
    fake_triton.queue_policy = True
    stub = sidecar.stub()
    wait_until(
        lambda: _ask(sidecar, texts=["cheap"]) and "priority" in fake_triton.requests[-1].parameters,
        bool,
        20,
        "the queue's policy to be noticed",
    )
    fake_triton.deadlines.clear()
    fake_triton.requests.clear()
    metadata = (("x-request-id", "abc-1"),)
    for priority in (pb.PRIORITY_INTERACTIVE, pb.PRIORITY_BACKFILL):
        stub.Classify(pb.ClassifyRequest(texts=["cheap"], priority=priority), timeout=10, metadata=metadata)
    assert [
        one.parameters["priority"].uint64_param or one.parameters["priority"].int64_param
        for one in fake_triton.requests
    ] == [1, 2]
    assert [one.id for one in fake_triton.requests] == ["abc-1", "abc-1"]
    assert all(0 < seconds < 11 for seconds in fake_triton.deadlines)
    assert all(0 < one.parameters["timeout"].int64_param < 10_000_000 for one in fake_triton.requests)


def test_a_full_queue_in_triton_is_overload_and_opens_no_breaker(
    sidecar: SidecarProcess, fake_triton: FakeTriton
) -> None:
    """F15 the message is Triton's own; a worker backs off, and nobody stops asking."""

    def infer(request: Any, context: Any) -> Any:
        context.abort(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")

    with fake_triton.answering(infer):
        assert {_code(sidecar, f"cheap {number}") for number in range(5)} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert len(_ask(sidecar, texts=["gift"]).results) == 1


def test_errors_that_every_address_answers_open_no_breaker(
    paired: SidecarProcess, fake_triton: FakeTriton, other_triton: FakeTriton
) -> None:
    """The texts may be at fault: with an open breaker, whoever halves a batch to find the one would never find it."""

    def infer(request: Any, context: Any) -> Any:
        context.abort(grpc.StatusCode.INTERNAL, "cannot read this")

    with fake_triton.answering(infer), other_triton.answering(infer):
        assert {_code(paired) for _ in range(10)} == {grpc.StatusCode.INTERNAL}
        assert {_backend(paired, place).breaker for place in (0, 1)} == {pb.BREAKER_STATE_CLOSED}
    _ask(paired, texts=["cheap"])


def test_a_model_that_hangs_is_left_out_although_its_server_says_that_it_is_ready(
    paired: SidecarProcess, fake_triton: FakeTriton
) -> None:
    """F19 a few calls pass their deadlines; then the other address answers all, also those that try this one again."""
    request = pb.ClassifyRequest(texts=["cheap"])
    stub = paired.stub()
    with fake_triton.hang():
        for _ in range(3):
            error = stub.Classify.future(request, timeout=0.5).exception()
            assert error is not None
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        backend = wait_until(
            lambda: _backend(paired), lambda one: one.breaker != pb.BREAKER_STATE_CLOSED, 20, "the breaker to open"
        )
        assert "did not answer in the time allowed" in backend.reason
        before = len(fake_triton.requests)
        wait_until(
            lambda: stub.Classify(request, timeout=4) and len(fake_triton.requests),
            lambda tried: tried > before,
            30,
            "it to be tried again, and the other to answer for it",
        )
        wait_until(
            lambda: paired.metric("motive_breaker_state", address=fake_triton.address),
            lambda state: state == 2,
            20,
            "the metric to say open",
        )
    wait_until(
        lambda: (stub.Classify(request, timeout=20), _backend(paired).breaker)[1],
        lambda state: state == pb.BREAKER_STATE_CLOSED,
        30,
        "the breaker to close",
    )


def test_an_address_whose_errors_another_one_does_not_have_is_left_out_until_it_is_right_again(
    paired: SidecarProcess, fake_triton: FakeTriton
) -> None:
    """No call fails meanwhile."""

    def infer(request: Any, context: Any) -> Any:
        context.abort(grpc.StatusCode.UNKNOWN, "out of memory")

    with fake_triton.answering(infer):
        backend = wait_until(
            lambda: (_ask(paired, texts=["cheap"]), _backend(paired))[1],
            lambda one: one.breaker == pb.BREAKER_STATE_OPEN,
            20,
            "the breaker to open",
        )
        assert "UNKNOWN" in backend.reason
        assert "memory" not in backend.reason
    wait_until(
        lambda: (_ask(paired, texts=["cheap"]), _backend(paired).breaker)[1],
        lambda state: state == pb.BREAKER_STATE_CLOSED,
        30,
        "the breaker to close",
    )
    assert _backend(paired).reason == ""


def test_a_model_that_triton_has_not_loaded_is_asked_for_and_used_once_it_is_there(
    run_sidecar: RunSidecar, fake_triton: FakeTriton, tiny_repository: Path
) -> None:
    """F17 a Triton that was restarted has no model until somebody asks for it."""
    fake_triton.ready = False
    sidecar = run_sidecar(f"triton://{fake_triton.address}/motive?repository={tiny_repository}")
    wait_until(lambda: fake_triton.loads, lambda loads: loads > 0, 60, "the model to be asked for")
    fake_triton.ready = True
    sidecar.wait_serving()


def test_a_dead_triton_is_seen_in_the_metrics(sidecar: SidecarProcess, fake_triton: FakeTriton) -> None:
    """The sidecar itself is up: that alone would alarm nobody."""

    def shown() -> tuple[float, float]:
        return sidecar.metric("motive_ready"), sidecar.metric("motive_backend_ready", address=fake_triton.address)

    wait_until(shown, lambda both: both == (1, 1), 20, "it to be shown ready")
    fake_triton.stop()
    wait_until(shown, lambda both: both == (0, 0), 20, "it to be shown away")
