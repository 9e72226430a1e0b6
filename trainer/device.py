"""What the GPU, or the processor where there is none, computes in."""

import torch


def computes_bf16() -> bool:
    """Whether bf16 is computed as such; what does not, such as a T4, emulates it, more slowly than fp32."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def quickest_precision() -> str:
    """How to train: 16 bits on a GPU, those that it does not emulate, and "fp32" on a processor."""
    if not torch.cuda.is_available():
        return "fp32"
    return "bf16" if computes_bf16() else "fp16"
