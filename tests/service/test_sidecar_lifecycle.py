"""The sidecar's life as an operator sees it: start, second start, crash, stop."""

import contextlib
import fcntl
import os
import socket
import stat
import threading
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sidecar.pb import motive_pb2 as pb
from tests.fixtures.sidecar_process import NOT_SERVING, SERVING, RunSidecar
from tests.fixtures.tiny_model import write_tiny_model
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.slow


def _different_texts(count: int) -> list[str]:
    return [f"cheap {i}" for i in range(count)]


def test_sigterm_lets_calls_in_flight_finish_and_refuses_later_ones(run_sidecar: RunSidecar, tmp_path: Path) -> None:
    """F22 health says NOT_SERVING first, the call in flight is answered, a later one is UNAVAILABLE, exit status 0."""
    slow = write_tiny_model(tmp_path / "slow", work=150)
    sidecar = run_sidecar(f"onnx:{slow}", metrics=True).wait_serving()
    told = _watch_health(sidecar.channel())
    stub = sidecar.stub()
    call = stub.Classify.future(pb.ClassifyRequest(texts=_different_texts(1000)), timeout=60)
    wait_until(lambda: sidecar.metric("motive_held_texts"), lambda held: held > 0, 30, "the call to be in flight")
    sidecar.terminate()
    wait_until(lambda: told, lambda seen: seen[-1:] == [NOT_SERVING], 30, "health to say NOT_SERVING")
    assert not call.done(), "the model is too fast for this test"
    with pytest.raises(grpc.RpcError) as refused:
        stub.Classify(pb.ClassifyRequest(texts=["cheap"]), timeout=5)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert len(call.result().results) == 1000
    assert sidecar.wait() == 0
    assert told == [SERVING, NOT_SERVING]


def _watch_health(channel: grpc.Channel) -> list[int]:
    """What a health watcher has been told so far; grows by itself until the server ends the watch."""
    told: list[int] = []
    stream = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())

    def read() -> None:
        with contextlib.suppress(grpc.RpcError):
            for answer in stream:
                told.append(answer.status)

    threading.Thread(target=read, daemon=True).start()
    wait_until(lambda: told, lambda seen: bool(seen), 30, "the first word of health")
    return told


def test_calls_that_outlast_the_grace_are_ended(run_sidecar: RunSidecar, tmp_path: Path) -> None:
    """F22 what does not finish within the grace is cancelled, and the sidecar ends all the same."""
    slow = write_tiny_model(tmp_path / "slow", work=300)
    sidecar = run_sidecar(f"onnx:{slow}", metrics=True, flags=["--drain-grace-s", "0.2"]).wait_serving()
    call = sidecar.stub().Classify.future(pb.ClassifyRequest(texts=_different_texts(10_000)), timeout=60)
    wait_until(lambda: sidecar.metric("motive_held_texts"), lambda held: held > 0, 30, "the call to be in flight")
    sidecar.terminate()
    assert call.exception(timeout=30) is not None
    assert sidecar.wait() == 0, sidecar.log()


def test_a_second_sidecar_on_the_same_socket_refuses_and_the_first_keeps_serving(
    run_sidecar: RunSidecar, tiny_repository: Path
) -> None:
    """F23 gRPC itself would bind silently over the first one's socket."""
    first = run_sidecar(f"onnx:{tiny_repository}").wait_serving()
    second = run_sidecar(f"onnx:{tiny_repository}", listen=first.target)
    assert second.wait() == 1
    assert "another sidecar is serving on" in second.log()
    assert "Traceback" not in second.log()
    assert first.classify("a birthday gift") == ["gift"]
    fresh = first.stub().Classify(pb.ClassifyRequest(texts=["cheap"]), timeout=10)
    assert fresh.results[0].motives[0].motive == "price_value"


def test_a_socket_left_by_a_killed_sidecar_is_no_obstacle(run_sidecar: RunSidecar, tiny_repository: Path) -> None:
    """F24 the next start succeeds; socket mode 0660, directory not open to everybody."""
    first = run_sidecar(f"onnx:{tiny_repository}").wait_serving()
    path = Path(first.target.removeprefix("unix:"))
    first.kill()
    assert path.is_socket()
    second = run_sidecar(f"onnx:{tiny_repository}", listen=first.target).wait_serving()
    assert second.classify("cheap") == ["price_value"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert path.parent.stat().st_mode & stat.S_IRWXO == 0
    second.terminate()
    assert second.wait() == 0
    assert not path.exists()


def test_a_directory_open_to_everybody_is_refused(
    run_sidecar: RunSidecar, tiny_repository: Path, short_directory: Path
) -> None:
    """F24 anybody could put a socket of their own in its place."""
    (short_directory / "open").mkdir()
    (short_directory / "open").chmod(0o777)
    sidecar = run_sidecar(f"onnx:{tiny_repository}", listen=f"unix:{short_directory}/open/s.sock")
    assert sidecar.wait() == 1
    assert "everybody may write" in sidecar.log()


def test_the_lock_is_not_inherited_by_children(run_sidecar: RunSidecar, tiny_repository: Path) -> None:
    """F24 the lock ends with the sidecar, whatever it has started."""
    sidecar = run_sidecar(f"onnx:{tiny_repository}").wait_serving()
    lock = Path(sidecar.target.removeprefix("unix:") + ".lock")
    sidecar.kill()
    descriptor = os.open(lock, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)


def test_a_setting_that_cannot_be_used_is_refused_with_a_sentence(
    run_sidecar: RunSidecar, tiny_repository: Path
) -> None:
    """F25 nothing listens beyond loopback without TLS; the refusal is a sentence and exit status 1."""
    sidecar = run_sidecar(f"onnx:{tiny_repository}", listen="0.0.0.0:0")
    assert sidecar.wait() == 1
    assert "would be open to other machines without TLS" in sidecar.log()
    assert "Traceback" not in sidecar.log()


def test_a_port_that_is_taken_is_named_with_the_remedy(run_sidecar: RunSidecar, tiny_repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        sidecar = run_sidecar(f"onnx:{tiny_repository}", listen=f"127.0.0.1:{taken.getsockname()[1]}")
        assert sidecar.wait() == 1
    assert "cannot listen on 127.0.0.1" in sidecar.log()
    assert "Choose another" in sidecar.log()
    assert "Traceback" not in sidecar.log()
