"""The embedded engine: ONNX Runtime in this process, on its own thread."""

import asyncio
import os
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sidecar.engines import Backend, checked_logits
from sidecar.errors import ConfigError, InternalError
from sidecar.repository import Repository

LONE_TOKENS = 32
"""A lone window of up to so many tokens is computed where it is: in the few milliseconds that it takes nobody else's
batch is held up, and the way to another thread and back would add a tenth to a third to them."""

LONE_S = 0.03
"""Seconds of processor time above which a model is no such one: calls that come meanwhile could not even be refused."""

LONE_RUNS = 5
"""The last so many lone windows say by their median how long one takes: one slow one may be the machine's doing."""

YIELD = 10
"""Steps of niceness by which batches give way to what answers callers. On cores that are all computing, the slowest
hundredth of refusals takes 19 to 33 ms with it, 50 to 70 with half of it, and who is admitted waits no longer for it.
While a core is free, batches lose nothing.
"""


class OnnxEngine:
    """Runs the repository's own 1/model.onnx; one batch at a time, on `threads` threads (0: one per core)."""

    name = "onnx"
    parallel = 1
    any_length = True
    cancellable = False

    def __init__(self, repository: Repository, *, threads: int = 0) -> None:
        self.repository = repository
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="onnx", initializer=os.nice, initargs=(YIELD,))
        # Opened there, so that the threads which ONNX Runtime starts are as polite as this one.
        self._session = self._thread.submit(open_session, repository, threads).result()
        self._lone: deque[float] = deque(maxlen=LONE_RUNS)

    async def infer(
        self,
        input_ids: NDArray[np.int64],
        attention_mask: NDArray[np.int64],
        *,
        timeout_s: float | None = None,
        priority: int = 0,
    ) -> NDArray[np.float32]:
        """input_ids, attention_mask [batch, tokens] -> logits [batch, outputs]; a begun batch always ends."""
        lone = input_ids.shape[0] == 1 and input_ids.shape[1] <= LONE_TOKENS
        if lone and (not self._lone or median(self._lone) < LONE_S):
            await asyncio.sleep(0)  # whoever has just come is heard first
            return self._run_lone(input_ids, attention_mask)
        run = self._run_lone if lone else self.run
        return await asyncio.get_running_loop().run_in_executor(self._thread, run, input_ids, attention_mask)

    def _run_lone(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        started = time.thread_time()
        logits = self.run(input_ids, attention_mask)
        self._lone.append(time.thread_time() - started)
        return logits

    def run(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """`infer`, in the calling thread."""
        try:
            feed = {"input_ids": input_ids, "attention_mask": attention_mask}
            (logits,) = self._session.run(["logits"], feed)
        # ONNX Runtime raises its own classes, which share no base of its own.
        except Exception as error:
            raise InternalError(f"ONNX Runtime could not run the model: {type(error).__name__}") from error
        return checked_logits(logits, len(input_ids), self.repository.calibration.outputs, "the model")

    async def ready(self) -> bool:
        """Always: the model was loaded before the engine existed."""
        return True

    def backends(self) -> Sequence[Backend]:
        """This process alone."""
        return (Backend(),)

    async def close(self) -> None:
        """Waits for the batch being computed."""
        self._thread.shutdown(wait=True)


def open_session(repository: Repository, threads: int) -> onnxruntime.InferenceSession:
    """Loads the model; raises ConfigError when ONNX Runtime refuses it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    # Threads wait for their next part of a batch by spinning, as waking them costs more than the part; once the batch
    # is done they would spin on for milliseconds, on cores that the answer needs on its way.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Batches come in many shapes: a memory plan for each would only grow.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(repository.onnx_path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ConfigError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load {repository.onnx_path}: {error}",
            "Build the model again with this version: motive model build.",
        ) from None
