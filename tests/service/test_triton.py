"""The Triton engine on a real Triton: coming, going, freezing, several of them, and one id from the call to its log."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from sidecar.pb import motive_pb2 as pb
from tests.fixtures.sidecar_process import NOT_SERVING, RunSidecar, SidecarProcess
from tests.fixtures.tiny_model import write_tiny_model
from tests.fixtures.triton_process import RunTriton, TritonProcess, triton_engine
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.slow

RECOVERY_S = 30.0


class Load:
    """One caller that asks without a pause, and remembers how each call ended."""

    def __init__(self, sidecar: SidecarProcess) -> None:
        self.answers = 0
        self.faults: list[grpc.StatusCode] = []
        self._stub = sidecar.stub()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        number = 0
        while not self._stopping.wait(0.005):
            number += 1
            texts = [f"cheap {id(self)} {number}", f"gift {id(self)} {number}"]
            try:
                response = self._stub.Classify(pb.ClassifyRequest(texts=texts), timeout=10)
            except grpc.RpcError as error:
                self.faults.append(error.code())
                continue
            assert [one.motives[0].motive for one in response.results] == ["price_value", "gift"]
            self.answers += 1

    def more_answers(self, timeout: float = RECOVERY_S) -> None:
        """Waits until calls are answered from now on."""
        before = self.answers
        wait_until(lambda: self.answers, lambda now: now > before + 2, timeout, "calls to be answered")

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


def test_a_sidecar_started_before_triton_serves_once_it_is_there(
    run_sidecar: RunSidecar, run_triton: RunTriton, tiny_repository: Path
) -> None:
    """F17 health says NOT_SERVING, and SERVING by itself; the model need not be loaded by hand."""
    triton = run_triton(tiny_repository)
    sidecar = run_sidecar(triton_engine([triton], tiny_repository))
    wait_until(sidecar.health, lambda status: status == NOT_SERVING, 60, "health to say NOT_SERVING")
    with pytest.raises(grpc.RpcError) as refused:
        sidecar.classify("cheap")
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    said = sidecar.stub().GetModel(pb.GetModelRequest(), timeout=10)
    assert (said.engine, said.ready) == ("triton", False)
    assert "does not answer" in said.backends[0].reason
    triton.start()
    sidecar.wait_serving()
    assert sidecar.classify("a cheap phone", "wireless mouse", "礼物") == ["price_value", "unknown", "gift"]


def test_a_killed_triton_costs_bounded_faults_and_is_used_again_once_it_is_back(
    run_sidecar: RunSidecar, run_triton: RunTriton, tiny_repository: Path
) -> None:
    """F18 only UNAVAILABLE, at once; no restart of the sidecar."""
    triton = run_triton(tiny_repository).start("motive")
    sidecar = run_sidecar(triton_engine([triton], tiny_repository), metrics=True).wait_serving()
    with Load(sidecar) as load:
        load.more_answers()
        triton.kill()
        wait_until(lambda: load.faults, lambda faults: len(faults) > 3, 30, "calls to fail")
        wait_until(sidecar.health, lambda status: status == NOT_SERVING, 30, "health to say NOT_SERVING")
        _open_with_reason(sidecar, triton)
        triton.start()
        load.more_answers()
        _closed(sidecar, triton)
    assert set(load.faults) == {grpc.StatusCode.UNAVAILABLE}
    assert sidecar.metric("motive_held_texts") == 0


def test_with_two_tritons_the_death_of_one_fails_no_call(
    run_sidecar: RunSidecar, run_triton: RunTriton, tiny_repository: Path
) -> None:
    """Batches of the dead one go to the other; it is used again once it is back."""
    pair = [run_triton(tiny_repository).start("motive") for _ in range(2)]
    sidecar = run_sidecar(triton_engine(pair, tiny_repository), metrics=True).wait_serving()
    stub = sidecar.stub()
    with Load(sidecar) as load, Load(sidecar) as other:
        load.more_answers()
        pair[0].kill()
        load.more_answers()
        wait_until(lambda: _reason(stub, pair[0]), bool, 30, "the dead one to be known as dead")
        pair[0].start()
        wait_until(lambda: _reason(stub, pair[0]), lambda reason: not reason, RECOVERY_S, "it to be used again")
        pair[1].kill()
        load.more_answers()
        other.more_answers()
    assert load.faults + other.faults == []


def _open_with_reason(sidecar: SidecarProcess, triton: TritonProcess) -> None:
    """Waits until the operator sees, in GetModel and in the metrics, that nothing is sent there, and why."""
    stub = sidecar.stub()
    backend = wait_until(
        lambda: stub.GetModel(pb.GetModelRequest(), timeout=10).backends[0],
        lambda one: one.breaker == pb.BREAKER_STATE_OPEN,
        30,
        "the breaker to be open",
    )
    assert "not answer" in backend.reason
    wait_until(
        lambda: sidecar.metric("motive_breaker_state", address=triton.address), lambda s: s == 2, 30, "the metric"
    )


def _closed(sidecar: SidecarProcess, triton: TritonProcess) -> None:
    wait_until(
        lambda: sidecar.metric("motive_breaker_state", address=triton.address), lambda s: s == 0, 30, "it to close"
    )


def _reason(stub: object, triton: TritonProcess) -> str:
    said = stub.GetModel(pb.GetModelRequest(), timeout=10)  # type: ignore[attr-defined]
    return next(str(one.reason) for one in said.backends if one.address == triton.address)


@contextmanager
def frozen(triton: TritonProcess) -> Iterator[None]:
    """A Triton that accepts connections and answers nothing."""
    triton.freeze()
    try:
        yield
    finally:
        triton.thaw()


def test_a_frozen_triton_means_deadlines_then_an_open_breaker_and_nothing_piles_up(
    run_sidecar: RunSidecar, run_triton: RunTriton, tiny_repository: Path
) -> None:
    """F19 DEADLINE_EXCEEDED, no text held afterwards; GetModel and the metrics show the breaker."""
    triton = run_triton(tiny_repository).start("motive")
    sidecar = run_sidecar(triton_engine([triton], tiny_repository), metrics=True).wait_serving()
    stub = sidecar.stub()
    assert sidecar.metric("motive_breaker_state", address=triton.address) == 0
    with frozen(triton):
        codes = [_code(stub, f"cheap {number}", 0.3) for number in range(5)]
        assert codes[0] == grpc.StatusCode.DEADLINE_EXCEEDED
        assert set(codes) <= {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}
        _open_with_reason(sidecar, triton)
        wait_until(
            lambda: _code(stub, "gift", 0.3), lambda c: c == grpc.StatusCode.UNAVAILABLE, 30, "calls fail at once"
        )
        wait_until(lambda: sidecar.metric("motive_held_texts"), lambda held: held == 0, 10, "no text to be held")
    sidecar.wait_serving()
    wait_until(lambda: _code(stub, "cheap phone", 10), lambda code: code is None, RECOVERY_S, "calls to be answered")
    _closed(sidecar, triton)


def test_deadlines_of_ten_milliseconds_crash_nothing(
    run_sidecar: RunSidecar, tiny_triton: TritonProcess, tiny_repository: Path
) -> None:
    """F19 a burst of calls that give up early leaves Triton and the sidecar as they were."""
    sidecar = run_sidecar(triton_engine([tiny_triton], tiny_repository), metrics=True).wait_serving()
    stub = sidecar.stub()
    calls = [stub.Classify.future(pb.ClassifyRequest(texts=[f"cheap {number}"]), timeout=0.01) for number in range(300)]
    codes = {grpc.StatusCode.OK if (error := call.exception()) is None else error.code() for call in calls}
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}
    wait_until(lambda: _code(stub, "cheap", 10), lambda code: code is None, RECOVERY_S, "calls to be answered")
    wait_until(lambda: sidecar.metric("motive_held_texts"), lambda held: held == 0, 10, "no text to be held")
    assert tiny_triton.process is not None
    assert tiny_triton.process.poll() is None


def _code(stub: object, text: str, timeout: float) -> grpc.StatusCode | None:
    """How a call ends; None: answered."""
    error = stub.Classify.future(pb.ClassifyRequest(texts=[text]), timeout=timeout).exception()  # type: ignore[attr-defined]
    return None if error is None else error.code()


def test_a_caller_that_gives_up_cancels_its_request_in_triton(
    run_sidecar: RunSidecar, run_triton: RunTriton, tmp_path: Path
) -> None:
    """F16 Triton's own log says so; the next caller is answered."""
    slow = write_tiny_model(tmp_path / "slow", work=100)
    triton = run_triton(slow).start("motive", extra=("--log-verbose=1",))
    sidecar = run_sidecar(triton_engine([triton], slow), metrics=True).wait_serving()
    request, metadata = pb.ClassifyRequest(texts=["cheap"]), (("x-request-id", "given-up"),)
    call = sidecar.stub().Classify.future(request, timeout=60, metadata=metadata)
    # The warm-up's requests are in the log as well.
    computing = re.compile(r"request id: given-up\].* to EXECUTING")
    wait_until(triton.log, lambda log: computing.search(log) is not None, 30, "Triton to compute")
    call.cancel()
    wait_until(triton.log, lambda log: "Issuing cancellation" in log, 30, "the cancellation in Triton's log")
    wait_until(lambda: sidecar.metric("motive_held_texts"), lambda held: held == 0, 10, "no text to be held")
    assert sidecar.classify("gift", timeout=60) == ["gift"]


def test_one_request_id_goes_from_the_call_to_tritons_log(
    run_sidecar: RunSidecar, run_triton: RunTriton, tiny_repository: Path
) -> None:
    triton = run_triton(tiny_repository).start("motive", extra=("--log-verbose=1",))
    sidecar = run_sidecar(triton_engine([triton], tiny_repository)).wait_serving()
    request = pb.ClassifyRequest(texts=["a cheap phone"])
    sidecar.stub().Classify(request, timeout=20, metadata=(("x-request-id", "from-sql-42"),))
    wait_until(triton.log, lambda log: "from-sql-42" in log, 10, "the id in Triton's log")
    assert "cheap" not in triton.log()


def test_a_triton_that_serves_another_model_under_the_name_is_not_asked(
    run_sidecar: RunSidecar, tiny_triton: TritonProcess, tmp_path: Path
) -> None:
    """Its logits would be read with the wrong calibration: the sidecar says so and answers nothing."""
    other = write_tiny_model(tmp_path / "motive", work=1)
    sidecar = run_sidecar(triton_engine([tiny_triton], other))
    stub = sidecar.stub()
    wait_until(
        lambda: sidecar.health() and stub.GetModel(pb.GetModelRequest(), timeout=10).backends[0].reason,
        lambda reason: bool(reason) and "serves another motive" in str(reason),
        60,
        "the sidecar to say what is wrong",
    )
    assert _code(stub, "cheap", 10) == grpc.StatusCode.UNAVAILABLE
