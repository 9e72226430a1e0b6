"""The network: a pre-trained backbone, one vector per text, and two linear heads joined into one output.

    logits [batch, 2 * labels + 1]: `labels` motive logits (each its own sigmoid), then `labels + 1` primary logits
    (one softmax, abstention last)

as `sidecar.repository.Calibration` reads them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.bases.load import backbone_of
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

    model = MotiveClassifier(backbone_of(path / "backbone"), labels, pooling)
    model.load_state_dict(load_file(path / "model.safetensors"))
    return model.eval()
