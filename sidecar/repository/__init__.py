"""The model repository: the files that one model is, as the trainer writes them and the sidecar and Triton read them.

    NAME/                 a Triton model directory; NAME is the model's name
      manifest.json       name, version, variant, labels, heads, tokens, and the SHA-256 of every other file
      taxonomy.toml       the motives the labels come from
      calibration.json    from logits to probabilities, thresholds and abstention
      tokenizer.json      as the `tokenizers` library reads it
      config.pbtxt        for Triton
      MODEL_CARD.md       for people
      1/model.onnx        input_ids, attention_mask: int64 [batch, tokens] -> logits: float32 [batch, outputs]

This package is what trainer and sidecar share: it reads and checks repositories, decides answers (`calibration`), finds
what carried them (`evidence`), rounds weights to eight bits (`grid`) and puts directories in place whole (`atomic`). It
imports numpy and the standard library alone.
"""

from sidecar.repository.calibration import Answer, Calibration
from sidecar.repository.manifest import (
    Manifest,
    Repository,
    RepositoryError,
    Tokens,
    copy_files,
    file_digest,
    open_repository,
)
from sidecar.repository.taxonomy import Motive, Taxonomy, TaxonomyError, read_taxonomy

__all__ = [
    "Answer",
    "Calibration",
    "Manifest",
    "Motive",
    "Repository",
    "RepositoryError",
    "Taxonomy",
    "TaxonomyError",
    "Tokens",
    "copy_files",
    "file_digest",
    "open_repository",
    "read_taxonomy",
]
