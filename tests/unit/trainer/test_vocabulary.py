"""Trimming a vocabulary: kept pieces stay what they were, in the tokenizer and in the embedding."""

import pytest
import torch
from tokenizers import Tokenizer, models

from tests.unit.trainer.tiny import encoder, tiny_tokenizer
from trainer.bases import Base
from trainer.errors import TrainerError
from trainer.vocabulary import trim

pytestmark = pytest.mark.filterwarnings("ignore")


def hidden(base: Base, text: str) -> torch.Tensor:
    ids = torch.tensor([base.tokenizer.encode(text).ids])
    with torch.no_grad():
        result: torch.Tensor = base.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    return result


@pytest.mark.parametrize("mask", ["behind the table", "none"])
def test_a_text_whose_pieces_are_kept_gives_the_same(mask: str) -> None:
    tokenizer, model = tiny_tokenizer(), encoder("deberta-v2")
    if mask == "behind the table":  # as in DeBERTa's
        tokenizer.add_special_tokens(["[MASK]"])
        model.resize_token_embeddings(tokenizer.get_vocab_size())
    base = Base("base", model, tokenizer, 1)
    texts = ["parcel late", *(["[MASK] parcel"] if mask != "none" else [])]
    before = [hidden(base, text) for text in texts]
    tokens = [tokenizer.encode(text).tokens for text in texts]
    trimmed = trim(base, frozenset({"▁parcel", "▁late"}))
    size = trimmed.tokenizer.get_vocab_size()
    assert size == len({"<s>", "<pad>", "</s>", "<unk>", "▁parcel", "▁late"}) + (mask != "none")
    assert trimmed.model.get_input_embeddings().num_embeddings == trimmed.model.config.vocab_size == size
    assert [trimmed.tokenizer.encode(text).tokens for text in texts] == tokens
    assert all(torch.equal(hidden(trimmed, text), was) for text, was in zip(texts, before, strict=True))


@pytest.mark.parametrize("model", [models.BPE(), models.WordPiece()])
def test_a_tokenizer_that_cannot_be_trimmed_is_said(model: models.Model) -> None:
    base = Base("somebody/base", encoder("bert"), Tokenizer(model), 0)
    with pytest.raises(TrainerError, match=r"somebody/base is of the kind \w+, .* take trim_vocabulary out"):
        trim(base, frozenset())
