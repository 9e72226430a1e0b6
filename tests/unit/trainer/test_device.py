"""GPUs of other makes and numbers than a test's machine has: which precision they get, and that one alone trains."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from trainer.config import Optimisation
from trainer.device import computes_bf16, quickest_precision
from trainer.errors import TrainerError
from trainer.learn import check_device, training_arguments

T4, A100 = 7, 8
"""Their compute capability, of which the latter is the first with bf16."""


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Has torch see so many GPUs, of a compute capability."""

    def pretend(capability: int, count: int = 1) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device=None: SimpleNamespace(major=capability))
        monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)  # emulated

    return pretend


@pytest.mark.parametrize(("capability", "precision"), [(T4, "fp16"), (A100, "bf16")])
def test_a_gpu_that_emulates_bf16_trains_in_fp16(gpus: Callable[[int], None], capability: int, precision: str) -> None:
    gpus(capability)
    assert quickest_precision() == precision
    assert computes_bf16() == (precision == "bf16")
    check_device(Optimisation(precision=precision))


def test_emulated_bf16_is_refused_with_the_precision_to_take(gpus: Callable[[int], None]) -> None:
    gpus(T4)
    with pytest.raises(TrainerError, match='use "fp16" or "fp32"'):
        check_device(Optimisation(precision="bf16"))
    check_device(Optimisation(precision="bf16", device="cpu"))


def test_a_processor_trains_in_fp32_unless_told_and_never_in_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert quickest_precision() == "fp32"
    with pytest.raises(TrainerError, match="needs a CUDA device"):
        check_device(Optimisation(precision="fp16"))


@pytest.mark.parametrize("count", [1, 2])
def test_one_gpu_of_several_trains_with_the_configs_batch(
    gpus: Callable[[int, int], None], tmp_path: Path, count: int
) -> None:
    gpus(T4, count)
    arguments = training_arguments(Optimisation(batch=16, precision="fp16"), tmp_path, 160)
    assert (arguments.n_gpu, arguments.train_batch_size) == (1, 16)
    assert (arguments.fp16, arguments.bf16, arguments.warmup_steps) == (True, False, 6)
