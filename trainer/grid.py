"""Linear layers that lose nothing in eight bits: weights on the grid, inputs scaled by what each channel reaches.

Rounding to eight bits costs answers for two reasons. Weights: here they are rounded before calibration, once for all
variants. Inputs: a few channels of a transformer reach ten to forty times as far as the others, and one scale for all
leaves the others a handful of steps (Dettmers and others 2022). So

- what a norm gives has a range that hardly depends on the text: each channel is divided by the most it reached on
  training texts, and cut off there; the factor goes into the weights (Xiao and others 2023);
- elsewhere, channels that reach much further than the rest, where there are such, stay in floats with their part of
  the weights, and the others are evened out by the square root of their reach.

What is no `nn.Linear` over all tokens (GPT-2's Conv1D, a pooler) stays in 16 bits; a norm is an `nn.LayerNorm` here, so
that inputs from an RMSNorm count as "elsewhere".

`sidecar.model_build` knows these forms again in the exported graph.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sidecar.repository.grid import SMALLEST, quantize_columns
from trainer.classifier import MotiveClassifier, save_tensors
from trainer.predict import Ids, evenly_spaced, predict, torch_infer

FILE = "reach.safetensors"
FAR = 4.0
"""Times the median of all channels' reach from which a channel counts as far."""
SHARE = 32
"""One channel in so many may stay in floats, the furthest ones."""


@dataclass
class Reach:
    """By linear layer: the most that each input channel reached, and whether it is a norm that the input comes from."""

    channels: dict[str, Tensor] = field(default_factory=dict)
    normed: dict[str, bool] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Writes it beside the weights."""
        kinds = {name: "norm" if normed else "other" for name, normed in self.normed.items()}
        save_tensors({f"{kinds[name]}:{name}": tensor for name, tensor in self.channels.items()}, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> "Reach":
        """Reads what `save` wrote; empty where there is none."""
        from safetensors.torch import load_file

        reach = cls()
        if (folder / FILE).is_file():
            for key, tensor in load_file(folder / FILE).items():
                kind, _, name = key.partition(":")
                reach.channels[name], reach.normed[name] = tensor, kind == "norm"
        return reach


def measure_reach(model: MotiveClassifier, rows: Ids, pad_id: int) -> Reach:
    """What the inputs of the backbone's big linear layers reach on evenly spaced ones of `rows` (token ids)."""
    reach = Reach()
    with _watched(model.backbone, reach):
        predict(torch_infer(model.eval()), evenly_spaced(rows), pad_id)
    return reach


@contextmanager
def _watched(backbone: nn.Module, reach: Reach) -> Iterator[None]:
    """Notes in `reach` what runs through `backbone`."""
    mask = torch.zeros(0)
    norms: list[Tensor] = []  # kept, so that no other tensor of this batch takes their place in memory

    def at_start(_: nn.Module, __: Any, named: dict[str, Tensor]) -> None:
        nonlocal mask
        mask = named["attention_mask"].bool()
        norms.clear()

    def after_norm(_: nn.Module, __: Any, output: Tensor) -> None:
        norms.append(output)

    def before_linear(name: str, inputs: Tensor) -> None:
        if inputs.ndim < 3:  # a pooler or tokens in one row: exporters drop the one, and turn the weights of the other
            return
        real = inputs[mask] if inputs.shape[:2] == mask.shape else inputs.flatten(0, -2)
        most = real.float().abs().amax(dim=0)
        reach.channels[name] = torch.maximum(reach.channels.get(name, most), most)
        normed = any(inputs.data_ptr() == norm.data_ptr() for norm in norms)
        reach.normed[name] = normed and reach.normed.get(name, True)

    hooks = [backbone.register_forward_pre_hook(at_start, with_kwargs=True)]
    for module in backbone.modules():
        if isinstance(module, nn.LayerNorm):
            hooks.append(module.register_forward_hook(after_norm))
    for name, linear in _big_layers(backbone):
        hooks.append(linear.register_forward_pre_hook(lambda _, inputs, name=name: before_linear(name, inputs[0])))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _big_layers(backbone: nn.Module) -> list[tuple[str, nn.Linear]]:
    return [
        (name, module)
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Linear) and min(module.weight.shape) >= SMALLEST
    ]


def put_on_grid(backbone: nn.Module, reach: Reach) -> None:
    """Puts a GridLinear in the place of every big linear layer that `reach` knows."""
    for name, linear in _big_layers(backbone):
        if name in reach.channels:
            parent, _, last = name.rpartition(".")
            setattr(backbone.get_submodule(parent), last, GridLinear(linear, reach.channels[name], reach.normed[name]))


class GridLinear(nn.Module):
    """A linear layer whose weights are `whole` numbers times a `step` per output, for inputs divided by `reach`.

    With `cut`, the divided inputs end at -1 and 1. Without, channels of reach far beyond the others are left out of the
    product and have one of their own, `apart`, in floats.
    """

    whole: Tensor
    step: Tensor
    weight: Tensor
    scale: Tensor
    far: Tensor

    def __init__(self, linear: nn.Linear, reach: Tensor, cut: bool) -> None:
        super().__init__()
        reach = reach.clamp(min=float(reach.median()) * 1e-2 + 1e-6)
        furthest = torch.topk(reach, reach.numel() // SHARE)
        far = furthest.indices[furthest.values > FAR * reach.median()].sort().values
        if cut:
            far = far[:0]
        else:
            reach = reach.sqrt() if far.numel() else torch.ones_like(reach)
        self.cut, self.divided, self.bias = cut, cut or far.numel() > 0, linear.bias
        rest = linear.weight.detach() * reach
        rest[:, far] = 0.0
        whole, step = quantize_columns(rest.T.contiguous().numpy())
        self.register_buffer("whole", torch.from_numpy(whole))  # [inputs, outputs], as ONNX multiplies
        self.register_buffer("step", torch.from_numpy(step))
        self.register_buffer("weight", (self.whole * self.step).T)
        scale = 1.0 / reach
        scale[far] = 0.0
        self.register_buffer("scale", scale)
        self.register_buffer("far", far)
        self.apart = nn.Parameter(linear.weight.detach()[:, far].clone()) if far.numel() else None

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs [..., inputs] -> [..., outputs]."""
        scaled = inputs * self.scale if self.divided else inputs
        if self.cut:
            scaled = scaled.clamp(-1.0, 1.0)
        product = functional.linear(scaled, self.weight, self.bias)
        if self.apart is None:
            return product
        return product + functional.linear(inputs.index_select(-1, self.far), self.apart)
