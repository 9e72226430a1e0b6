"""Trimming a multilingual vocabulary to the pieces that two languages need: most of a small encoder is its embedding.

Works on Unigram tokenizers (XLM-R, e5, mDeBERTa). Every piece keeps its score, so a text whose pieces are all kept is
cut exactly as before; a piece that is gone is cut into shorter ones, down to characters. In others (BPE, WordPiece) a
piece is made of others that would have to stay, or begins a word.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer

from trainer.bases import Base
from trainer.errors import TrainerError

PIECES = Path(__file__).with_name("pieces.txt")
"""Pieces to keep whatever the corpus holds, one a line: those of the commonest 18,000 English words, simplified and
common traditional characters, common Chinese words, digits, punctuation, emoji, kana, Greek and Latin letters."""


def read_pieces(path: Path = PIECES) -> frozenset[str]:
    """The pieces of a list, one a line."""
    return frozenset(path.read_text(encoding="utf-8").split("\n")) - {""}


def pieces_of(tokenizer: Tokenizer, texts: Iterable[str]) -> frozenset[str]:
    """The pieces that `texts` are cut into."""
    return frozenset(piece for encoding in tokenizer.encode_batch(list(texts)) for piece in encoding.tokens)


def trim(base: Base, keep: frozenset[str]) -> Base:
    """The base with only `keep`, the added tokens and their rows of the embedding.

    Raises TrainerError where the tokenizer is not Unigram.
    """
    document = json.loads(base.tokenizer.to_str())
    model = document["model"]
    if model["type"] != "Unigram":
        raise TrainerError(
            f"the tokenizer of {base.name} is of the kind {model['type']}, and only Unigram ones can be trimmed; "
            "take trim_vocabulary out of [network]"
        )
    table = model["vocab"]
    added = {token["id"] for token in document["added_tokens"]}
    rows = [i for i, (piece, _) in enumerate(table) if piece in keep or i in added]
    model["vocab"] = [table[i] for i in rows]
    rows += sorted(i for i in added if i >= len(table))  # DeBERTa's mask stands behind the table
    renumbered = {old: new for new, old in enumerate(rows)}
    model["unk_id"] = renumbered[model["unk_id"]]
    for token in document["added_tokens"]:
        token["id"] = renumbered[token["id"]]
    for token in (document.get("post_processor") or {}).get("special_tokens", {}).values():
        token["ids"] = [renumbered[i] for i in token["ids"]]
    weights = base.model.get_input_embeddings().weight.data[rows].clone()
    base.model.set_input_embeddings(torch.nn.Embedding(weights.shape[0], weights.shape[1], _weight=weights))
    base.model.config.vocab_size = len(rows)
    pad = renumbered[base.pad_id]
    base.model.config.pad_token_id = pad
    return Base(base.name, base.model, Tokenizer.from_str(json.dumps(document, ensure_ascii=False)), pad)
