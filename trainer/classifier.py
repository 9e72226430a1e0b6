"""The network: a pre-trained backbone, one vector per text, and two linear heads joined into one output.

    logits [batch, 2 * labels + 1]: `labels` motive logits (each its own sigmoid), then `labels + 1` primary logits
    (one softmax, abstention last)

as `sidecar.repository.Calibration` reads them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.bases.load import without_pooler
from trainer.errors import TrainerError

Pooling = Literal["mean", "last", "labels"]


class MotiveClassifier(nn.Module):
    """Backbone, pooling and heads.

    `pooling`: "mean" over the tokens; "last" token, for decoders; "labels", a mean and, for each label, an attention of
    its own over the tokens, so that a motive named in one clause of a long text is not averaged away.
    """

    def __init__(self, backbone: Any, labels: int, pooling: Pooling = "mean", dropout: float = 0.1) -> None:
        super().__init__()
        width = int(backbone.config.hidden_size)
        self.backbone, self.labels, self.pooling = backbone, labels, pooling
        self.dropout = nn.Dropout(dropout)
        self.motives = nn.Linear(width, labels)
        self.primary = nn.Linear(width, labels + 1)
        if pooling == "labels":
            self.queries = nn.Parameter(torch.zeros(2 * labels + 1, width))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """input_ids, attention_mask: int64 [batch, tokens] -> logits float32 [batch, 2 * labels + 1]."""
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.pooling == "last":
            last = attention_mask.sum(dim=1) - 1
            pooled = hidden[torch.arange(hidden.shape[0], device=hidden.device), last]
        else:
            pooled = mean_over_tokens(hidden, attention_mask)
        if self.pooling != "labels":
            pooled = self.dropout(pooled)
            return torch.cat([self.motives(pooled), self.primary(pooled)], dim=1)
        scores = hidden @ self.queries.T / hidden.shape[-1] ** 0.5
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        weights = torch.softmax(scores + (1.0 - mask) * -1e4, dim=1)
        vectors = self.dropout(weights.transpose(1, 2) @ hidden + pooled.unsqueeze(1))
        rows = torch.cat([self.motives.weight, self.primary.weight])
        result: Tensor = (vectors * rows).sum(dim=-1) + torch.cat([self.motives.bias, self.primary.bias])
        return result


def mean_over_tokens(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """hidden [batch, tokens, width], attention_mask [batch, tokens] -> mean of what the mask keeps [batch, width]."""
    mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
    mean: Tensor = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)
    return mean


def standardize(model: MotiveClassifier, pooled: Tensor) -> bool:
    """Scales the backbone's last norm so that the vectors the heads read have mean 0 and deviation 1; True where done.

    pooled [texts, width] are mean vectors as they come now. Encoders trained to compare sentences give nearly the same
    vector for every text: heads on it learn nothing for many steps, and at higher rates the encoder collapses first.
    """
    if layer_stack(model.backbone) is None:
        return False  # one layer passed again and again: its norm is not the last one's alone
    norms = [m for m in model.backbone.modules() if isinstance(m, nn.LayerNorm) and m.elementwise_affine]
    if not norms or norms[-1].weight.shape != pooled.shape[1:] or norms[-1].bias is None:
        return False
    mean, deviation = pooled.mean(dim=0), pooled.std(dim=0).clamp(min=1e-4)
    with torch.no_grad():
        norms[-1].weight.div_(deviation)
        norms[-1].bias.sub_(mean).div_(deviation)
    return True


def keep_layers(backbone: Any, layers: Sequence[int]) -> None:
    """Keeps only the named layers of a BERT-like backbone (0 is the one next to the embedding); empty keeps all.

    Raises TrainerError where the backbone has no layers of their own.
    """
    if not layers:
        return
    stack = layer_stack(backbone)
    if stack is None:
        raise TrainerError(
            f"the layers of a backbone of the kind {backbone.config.model_type} cannot be told apart; take layers out "
            "of [network]"
        )
    kept = nn.ModuleList(stack[i] for i in layers)
    for parent in backbone.modules():
        for name, child in list(parent.named_children()):
            if child is stack:
                setattr(parent, name, kept)
    backbone.config.num_hidden_layers = len(kept)


def layer_stack(backbone: Any) -> nn.ModuleList | None:
    """The backbone's list of transformer layers, whatever its family calls it; None where layers share weights."""
    depth = backbone.config.num_hidden_layers
    return next((m for m in backbone.modules() if isinstance(m, nn.ModuleList) and len(m) == depth), None)


def motive_loss(logits: Tensor, motives: Tensor, primary: Tensor, weight: Tensor, share: float = 0.5) -> Tensor:
    """Mean loss of a batch: binary cross-entropy of the motives and cross-entropy of the primary, `share` of each.

    motives [batch, labels] and primary [batch, labels + 1] are targets 0 to 1, so that a teacher's soft votes fit too;
    weight [labels + 1] makes rare classes of the primary count more.
    """
    labels = motives.shape[1]
    many = functional.binary_cross_entropy_with_logits(logits[:, :labels], motives, reduction="none").sum(dim=1)
    log = functional.log_softmax(logits[:, labels:], dim=1)
    one = -(log * primary * weight).sum(dim=1)
    return (share * many + (1.0 - share) * one).mean()


def save_classifier(model: MotiveClassifier, path: Path) -> None:
    """Writes the weights (safetensors) and the backbone's config into the directory `path`."""
    save_tensors(model.state_dict(), path / "model.safetensors")
    model.backbone.config.save_pretrained(path / "backbone")


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Writes a safetensors file; raises TrainerError where that fails."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        raise TrainerError(
            f"{path.parent} could not be written ({error}); make room or choose another folder"
        ) from None


def load_classifier(path: Path, labels: int, pooling: Pooling) -> MotiveClassifier:
    """Reads what `save_classifier` wrote."""
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(path / "backbone")
    backbone = AutoModel.from_config(config, **without_pooler(config.model_type))  # type: ignore[no-untyped-call]
    model = MotiveClassifier(backbone, labels, pooling)
    model.load_state_dict(load_file(path / "model.safetensors"))
    return model.eval()
