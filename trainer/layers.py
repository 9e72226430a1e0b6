"""Parts of a backbone, whatever its family calls them: layers, of which some may be kept, and the norm it ends with."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainer.bases.load import backbone_of
from trainer.classifier import MotiveClassifier
from trainer.errors import TrainerError

PER_LAYER = ("layer_types", "mlp_layer_types", "no_rope_layers")
"""Lists in which configs say of each layer, by its place, what it is."""


def keep_layers(backbone: Any, layers: Sequence[int]) -> None:
    """Keeps only the named layers of a backbone (0 is the one next to the embedding); empty keeps all.

    Raises TrainerError where the backbone has no layers of their own, or what is left could not be loaded again.
    """
    if not layers:
        return
    config, stack = backbone.config, layer_stack(backbone)
    kind = f"a backbone of the kind {config.model_type}"
    if stack is None:
        raise TrainerError(f"the layers of {kind} cannot be told apart; take layers out of [network]")
    kept = nn.ModuleList(stack[i] for i in layers)
    for parent in backbone.modules():
        for name, child in list(parent.named_children()):
            if child is stack:
                setattr(parent, name, kept)
    for place, layer in enumerate(kept):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):  # where a decoder caches its keys and values
                module.layer_idx = place  # type: ignore[assignment]
    for name in PER_LAYER:
        if (of_each := getattr(config, name, None)) is not None:
            setattr(config, name, [of_each[i] for i in layers])
    config.num_hidden_layers = len(kept)
    if not _loads_again(backbone):
        raise TrainerError(
            f"{kind} that has the layers {', '.join(map(str, layers))} alone could not be loaded again once saved; "
            "begin with layer 0, or take layers out of [network]"
        )


def layer_stack(backbone: Any) -> nn.ModuleList | None:
    """The backbone's list of transformer layers, whatever its family calls it; None where layers share weights."""
    depth = backbone.config.num_hidden_layers
    return next((m for m in backbone.modules() if isinstance(m, nn.ModuleList) and len(m) == depth), None)


def _loads_again(backbone: Any) -> bool:
    """Whether config and weights make this backbone again: some families build a layer by its place.

    What is random afterwards, such as the heads, is as it would be without the check.
    """
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        try:
            backbone.config.save_pretrained(folder)
            again = backbone_of(Path(folder))
            again.load_state_dict(backbone.state_dict())
            return torch.allclose(_last_hidden(again), _last_hidden(backbone), atol=1e-4)
        except Exception:  # of as many classes as there are families
            return False


def standardize(model: MotiveClassifier, pooled: Tensor) -> bool:
    """Scales the backbone's last norm so that the vectors the heads read have mean 0 and deviation 1; True where done.

    pooled [texts, width] are mean vectors as they come now. Encoders trained to compare sentences give nearly the same
    vector for every text: heads on it learn nothing for many steps, and at higher rates the encoder collapses first.
    """
    norm = last_norm(model.backbone)
    if norm is None or not norm.elementwise_affine or norm.bias is None:
        return False
    mean, deviation = pooled.mean(dim=0), pooled.std(dim=0).clamp(min=1e-4)
    with torch.no_grad():
        norm.weight.div_(deviation)
        norm.bias.sub_(mean).div_(deviation)
    return True


def last_norm(backbone: Any) -> nn.LayerNorm | None:
    """The norm whose output is the last hidden state; None where there is none, or it norms something else as well.

    The order of modules does not tell: DeBERTa's last norm is that of the relative positions. ALBERT passes one layer,
    with its norms, again and again.
    """
    given: list[tuple[nn.LayerNorm, Tensor]] = []  # outputs are kept, so that no other takes their place in memory

    def note(norm: nn.LayerNorm, _: Any, output: Tensor) -> None:
        given.append((norm, output))

    hooks = [m.register_forward_hook(note) for m in backbone.modules() if isinstance(m, nn.LayerNorm)]
    try:
        last = _last_hidden(backbone)
    finally:
        for hook in hooks:
            hook.remove()
    norm = next((norm for norm, output in given if output.data_ptr() == last.data_ptr()), None)
    return norm if sum(other is norm for other, _ in given) == 1 else None


def _last_hidden(backbone: Any) -> Tensor:
    """The last hidden state [1, tokens, width] of a text of the first few tokens, without dropout."""
    ids = torch.arange(min(16, int(backbone.config.vocab_size))).unsqueeze(0)
    with torch.no_grad():
        hidden: Tensor = backbone.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    return hidden
