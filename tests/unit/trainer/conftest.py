"""A tiny backbone, and what is trained and exported from it, once a session."""

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from tests.unit.trainer.tiny import tiny_tokenizer, write_config
from trainer.config import Config


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a model hub would give it: a BERT of two layers of 32, and its tokenizer."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(1)
    tokenizer = tiny_tokenizer()
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=128, pad_token_id=1,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def trained(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """A config and the folder of the tiny model trained by it."""
    from trainer.train import train

    folder = tmp_path_factory.mktemp("trained")
    config = write_config(folder, tiny_base)
    train(config, folder / "model")
    return config, folder / "model"


@pytest.fixture(scope="session")
def exported(trained: tuple[Config, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a repository."""
    from trainer.export import export

    path = tmp_path_factory.mktemp("exported") / "tickets"
    export(*trained, path)
    return path
