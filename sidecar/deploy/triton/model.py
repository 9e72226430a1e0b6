"""Triton's Python backend for a pg_motive model: opens the model.onnx beside it in ONNX Runtime and runs it.

For where Triton's onnxruntime backend is not at hand. Triton imports `triton_python_backend_utils` into this process.
"""

import ctypes
import gc
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # Triton's own, in its process alone


class TritonPythonModel:
    """The names of this class and its methods are what Triton calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the model; an exception here makes Triton refuse to load it."""
        # As in the embedded engine, and before ONNX Runtime starts its threads, which inherit it: computing gives way
        # to what receives and answers, here and in a sidecar on the same machine.
        os.nice(10)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        options.inter_op_num_threads = 1
        # The same as the embedded engine, so that both give the same answers and leave the cores once a batch is done.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        # What is here stays: the garbage collector need not look through it while a caller waits.
        gc.collect()
        gc.freeze()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Runs the requests as one batch: Triton's batcher has joined only those of equal length."""
        # Asking costs a way to Triton and back, and a request that was cancelled in the queue never gets here: worth it
        # only for those that were cancelled while others were joined to them.
        live = requests if len(requests) == 1 else [one for one in requests if not one.is_cancelled()]
        answers = {}
        if live:
            inputs = [self._inputs(request) for request in live]
            ids, mask = (np.concatenate(parts) if len(parts) > 1 else parts[0] for parts in zip(*inputs, strict=True))
            (logits,) = self._session.run(["logits"], {"input_ids": ids, "attention_mask": mask})
            logits = logits.astype(np.float32, copy=False)
            start = 0
            for request, (rows, _) in zip(live, inputs, strict=True):
                answers[id(request)] = _tensor("logits", logits[start : start + len(rows)])
                start += len(rows)
        return [self._response(answers.get(id(request))) for request in requests]

    @staticmethod
    def _inputs(request: Any) -> tuple[Any, ...]:
        # Through DLPack both ways: the backend of Triton's older releases misreads and miswrites NumPy 2's own arrays.
        return tuple(
            np.from_dlpack(pb_utils.get_input_tensor_by_name(request, name)) for name in ("input_ids", "attention_mask")
        )

    @staticmethod
    def _response(logits: Any) -> Any:
        if logits is None:
            return pb_utils.InferenceResponse(
                error=pb_utils.TritonError("cancelled by the client", pb_utils.TritonError.CANCELLED)
            )
        return pb_utils.InferenceResponse([logits])


def _tensor(name: str, values: Any) -> Any:
    """values as a tensor of Triton's, without a copy."""
    capsule = values.__dlpack__()
    # Triton marks a capsule as taken by another name than NumPy knows, and NumPy would complain of each in the log. The
    # memory is freed all the same: that is up to the tensor, whose owner Triton now is.
    ctypes.pythonapi.PyCapsule_SetDestructor(ctypes.py_object(capsule), None)
    return pb_utils.Tensor.from_dlpack(name, capsule)
