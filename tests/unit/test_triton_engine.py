"""The Triton engine's own edges, with nobody at the other end."""

import asyncio
import shutil
import socket
import time
from pathlib import Path

import grpc
import numpy as np
import pytest

from sidecar.engines import triton_endpoint
from sidecar.engines.breaker import Breaker
from sidecar.engines.triton import TritonEngine
from sidecar.engines.triton_endpoint import ServedModel, TritonEndpoint
from sidecar.errors import UnavailableError
from sidecar.repository import open_repository
from sidecar.tls import CertificateFiles
from tests.fixtures.certificates import Authority
from tests.fixtures.fake_triton import FakeTriton
from tests.fixtures.waiting import async_wait_until

NOWHERE = "127.0.0.1:9"


@pytest.fixture
def engine(tiny_repository: Path) -> TritonEngine:
    return TritonEngine(open_repository(tiny_repository), [NOWHERE], "motive")


async def test_whoever_asks_while_it_is_closed_gets_an_answer_and_no_cancellation(engine: TritonEngine) -> None:
    """The server's watch asks once a second, also in the moment in which a model is retired."""
    asked = asyncio.create_task(engine.ready())
    await asyncio.sleep(0)
    await engine.close()
    assert await asked is False


async def test_a_batch_that_nobody_can_take_is_refused_at_once_with_the_reason(engine: TritonEngine) -> None:
    ids = np.ones((1, 8), dtype=np.int64)
    started = time.monotonic()
    with pytest.raises(UnavailableError, match=NOWHERE):
        await engine.infer(ids, ids, timeout_s=60)
    assert time.monotonic() - started < 30
    assert [one.reason.startswith("does not answer") for one in engine.backends()] == [True]
    await engine.close()


async def test_a_connection_that_is_given_up_refuses_its_batch_and_cancels_nobody() -> None:
    """A feeder of the batcher that took it for its own cancellation would end, and later calls would hang."""
    ids = np.ones((1, 8), dtype=np.int64)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        served = ServedModel("motive", 7, "")
        endpoint = TritonEndpoint(f"127.0.0.1:{deaf.getsockname()[1]}", served, None, Breaker())
        asked = asyncio.create_task(endpoint.infer([("input_ids", ids)], 60.0, 0))
        while not endpoint.batches:
            await asyncio.sleep(0)
        await endpoint._drop()
        with pytest.raises(UnavailableError, match="was given up"):
            await asked
        await endpoint.close()


async def test_a_half_finished_rotation_leaves_the_connection_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """F25 new files come one after the other; until they fit together, batches go on with the old ones."""
    authority = Authority(tmp_path, "authority")
    old, new = authority.issue("old"), authority.issue("new")
    live = CertificateFiles(str(tmp_path / "live.pem"), str(tmp_path / "live.key"), old.ca)
    shutil.copyfile(old.cert, live.cert)
    shutil.copyfile(old.key, live.key)
    endpoint = TritonEndpoint(NOWHERE, ServedModel("motive", 7, ""), live, Breaker())
    before = endpoint._open()
    for half_written in (lambda: shutil.copyfile(new.cert, live.cert), Path(live.key).unlink):
        half_written()
        endpoint._rotate()
        assert endpoint._open() is before
    assert [record.message.startswith("the new certificate") for record in caplog.records] == [True]
    shutil.copyfile(new.key, live.key)
    endpoint._rotate()
    assert endpoint._open() is not before
    await endpoint.close()


@pytest.mark.parametrize("unknown", [False, True], ids=["not ready", "unknown"])
async def test_a_live_triton_without_the_model_is_told_apart_from_one_that_cannot_load_it(
    fake_triton: FakeTriton, tiny_repository: Path, monkeypatch: pytest.MonkeyPatch, *, unknown: bool
) -> None:
    """TensorRT builds for longer than a request to load may take."""
    fake_triton.unknown_model = unknown
    monkeypatch.setattr(triton_endpoint, "LOAD_PAUSE_S", 0.0)
    engine = TritonEngine(open_repository(tiny_repository), [fake_triton.address], "motive")

    async def reason() -> str:
        await engine.ready()
        return engine.backends()[0].reason

    assert await reason() == ""
    fake_triton.ready, fake_triton.load_fault = False, grpc.StatusCode.DEADLINE_EXCEEDED
    await async_wait_until(reason, lambda _: fake_triton.loads > 1, 20, "two requests to load it")
    assert await reason() == "has not loaded model motive yet"
    fake_triton.load_fault = grpc.StatusCode.INTERNAL
    await async_wait_until(reason, lambda said: said.startswith("cannot load"), 20, "the load to fail")
    assert (await reason()).startswith("cannot load model motive")
    await engine.close()


async def test_it_sends_more_batches_at_once_the_more_servers_there_are(tiny_repository: Path) -> None:
    """So that each has the next batch at hand while it computes one."""
    repository = open_repository(tiny_repository)
    one = TritonEngine(repository, [NOWHERE], "motive", batches=4)
    two = TritonEngine(repository, [NOWHERE, "127.0.0.1:10"], "motive", batches=4)
    assert (one.parallel, two.parallel) == (4, 8)
    for engine in (one, two):
        await engine.close()
