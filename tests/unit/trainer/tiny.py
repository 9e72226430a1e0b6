"""A tiny backbone, taxonomy and corpus: everything the trainer needs, trained in seconds."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel

from trainer.bases.load import without_pooler
from trainer.config import Config, read_config
from trainer.texts import Example, write_examples

TAXONOMY = """
name = "support tickets"
[[motive]]
code = "refund"
group = "money"
name_en = "Refund"
name_zh = "退款"
definition_en = "The customer wants money back."
definition_zh = "顾客要求退款。"
source = "test"
[[motive]]
code = "delivery"
group = "parcel"
name_en = "Delivery"
name_zh = "配送"
definition_en = "The customer asks where the parcel is."
definition_zh = "顾客询问包裹在哪里。"
source = "test"
[[motive]]
code = "defect"
group = "thing"
name_en = "Defect"
name_zh = "故障"
definition_en = "The thing does not work."
definition_zh = "东西坏了。"
source = "test"
[abstention]
code = "other"
name_en = "Other"
name_zh = "其他"
definition_en = "None of these."
definition_zh = "都不是。"
source = "test"
"""

WORDS = {
    "refund": ["money", "back", "refund", "return", "cash", "please", "charge", "wrong", "twice", "paid"],
    "delivery": ["parcel", "late", "where", "courier", "tracking", "arrive", "door", "waited", "package", "lost"],
    "defect": ["broken", "screen", "dead", "crack", "noise", "stopped", "battery", "smoke", "hot", "loose"],
    "": ["hello", "thanks", "weather", "monday", "opening", "hours", "shop", "name", "question", "nice"],
}


FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {},
    "xlm-roberta": {},
    "albert": {"embedding_size": 16},
    "deberta-v2": {  # as version 3 has it
        "relative_attention": True, "position_buckets": 32, "norm_rel_ebd": "layer_norm", "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "type_vocab_size": 0,
    },
    "modernbert": {
        "local_attention": 8, "global_attn_every_n_layers": 3, "bos_token_id": 0, "cls_token_id": 0, "eos_token_id": 2,
        "sep_token_id": 2,
    },
}  # fmt: skip
"""By kind, what sets a tiny encoder of the family apart."""


def corpus(count: int = 240) -> list[Example]:
    """Texts of random words of one or two labels; the same every time."""
    random = torch.Generator().manual_seed(3)

    def draw(words: list[str], n: int) -> list[str]:
        return [words[int(i)] for i in torch.randint(len(words), (n,), generator=random)]

    labels = list(WORDS)
    examples = []
    for i in range(count):
        first = labels[i % 4]
        second = labels[(i // 4) % 3]
        both = first and second != first and i % 3 == 0
        words = draw(WORDS[first], 6) + (draw(WORDS[second], 3) if both else [])
        motives = (first, second) if both else (first,) if first else ()
        examples.append(Example(" ".join([*words, str(i)]), motives, "en", ("review", "query")[i % 2], "test"))
    return examples


def tiny_tokenizer() -> Tokenizer:
    """A Unigram tokenizer over the words above, digits and letters, of XLM-R's kind."""
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [("▁" + word, -5.0) for words in WORDS.values() for word in words]
    pieces += [(c, -9.0) for c in "▁abcdefghijklmnopqrstuvwxyz0123456789退款坏了"] + [("▁zebra", -6.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    return tokenizer


def save_encoder(folder: Path, kind: str = "bert") -> Path:
    """A random encoder of two layers with its tokenizer, as a hub would give it."""
    encoder(kind).save_pretrained(folder)
    return save_tokenizer(folder)


def encoder(kind: str, layers: int = 2) -> Any:
    """A random encoder for the tiny tokenizer: bert of width 32, or another family of width 64, enough for the grid."""
    shape: dict[str, Any] = {
        "vocab_size": tiny_tokenizer().get_vocab_size(), "hidden_size": 32 if kind == "bert" else 64,
        "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 128,
        "pad_token_id": 1,
    }  # fmt: skip
    torch.manual_seed(1)
    config = AutoConfig.for_model(kind, **shape, **FAMILIES[kind])
    return AutoModel.from_config(config, **without_pooler(kind)).eval()  # type: ignore[no-untyped-call]


def save_decoder(folder: Path) -> Path:
    """A random GPT-2 of two layers of 32 whose tokenizer knows no padding token."""
    from transformers import GPT2Config, GPT2Model

    torch.manual_seed(1)
    size = tiny_tokenizer().get_vocab_size()
    GPT2Model(GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=2, n_positions=64)).save_pretrained(folder)
    return save_tokenizer(folder, bos_token=None, pad_token=None, unk_token=None)


def save_tokenizer(folder: Path, **special: str | None) -> Path:
    """The tiny tokenizer in the form that hubs keep."""
    from transformers import PreTrainedTokenizerFast

    names: dict[str, str | None] = {
        "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", **special,
    }  # fmt: skip
    given = {name: token for name, token in names.items() if token}
    PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer(), **given).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


def write_config(folder: Path, base: Path, **changes: object) -> Config:
    """Taxonomy, corpus and config in `folder`; `changes` are keys of [optimisation] or [network]."""
    (folder / "taxonomy.toml").write_text(TAXONOMY, encoding="utf-8")
    write_examples(folder / "corpus.jsonl", corpus())
    network: dict[str, object] = {"base": str(base), "max_tokens": 32}
    optimisation: dict[str, object] = {
        "epochs": 6.0, "batch": 16, "learning_rate": 3e-3, "layer_decay": 1.0, "head_rate": 1.0, "threads": 1,
    }  # fmt: skip
    for key, value in changes.items():
        (network if key in ("layers", "pooling", "lora_rank", "trim_vocabulary", "base") else optimisation)[key] = value
    lines = ["[data]", 'corpus = ["corpus.jsonl"]', "calibration_share = 0.2", "test_share = 0.1", "[network]"]
    lines += [f"{k} = {json.dumps(v)}" for k, v in network.items()]
    lines += ["[optimisation]", *(f"{k} = {json.dumps(v)}" for k, v in optimisation.items())]
    lines += ["[release]", 'name = "tickets"', 'version = "1.0.0"', "window = 32", "stride = 24"]
    (folder / "config.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_config(folder / "config.toml")
