"""Layers that are kept, and the norm that a backbone ends with, in families that differ."""

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel

from tests.unit.trainer.tiny import encoder
from trainer.classifier import MotiveClassifier, load_classifier, mean_over_tokens, save_classifier
from trainer.errors import TrainerError
from trainer.layers import keep_layers, standardize

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(4, 60, (64, 24), generator=torch.Generator().manual_seed(3))


def pooled(model: MotiveClassifier, ids: torch.Tensor) -> torch.Tensor:
    mask = torch.ones_like(ids)
    with torch.no_grad():
        return mean_over_tokens(model.backbone(input_ids=ids, attention_mask=mask).last_hidden_state, mask)


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "deberta-v2"])
def test_the_norm_of_the_last_hidden_state_is_scaled(kind: str, ids: torch.Tensor) -> None:
    model = MotiveClassifier(encoder(kind), 3)
    assert standardize(model, pooled(model, ids))
    after = pooled(model, ids)
    torch.testing.assert_close(after.mean(dim=0), torch.zeros(after.shape[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(after.std(dim=0), torch.ones(after.shape[1]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", ["albert", "modernbert"])
def test_a_norm_within_or_without_a_bias_is_left_as_it_is(kind: str, ids: torch.Tensor) -> None:
    model = MotiveClassifier(encoder(kind), 3)
    before = pooled(model, ids)
    assert not standardize(model, before)
    assert torch.equal(pooled(model, ids), before)


@pytest.mark.parametrize("kind", ["bert", "deberta-v2", "modernbert"])
def test_a_backbone_of_some_layers_answers_the_same_once_loaded_again(
    kind: str, ids: torch.Tensor, tmp_path: Path
) -> None:
    backbone = encoder(kind, 5)
    keep_layers(backbone, (0, 2, 3))
    model = MotiveClassifier(backbone, 3).eval()
    save_classifier(model, tmp_path)
    again = load_classifier(tmp_path, 3, "mean")
    with torch.no_grad():
        assert torch.equal(again(ids, torch.ones_like(ids)), model(ids, torch.ones_like(ids)))


def test_layers_that_could_not_be_loaded_again_are_refused() -> None:
    """ModernBERT's first layer has no norm before its attention, which the others have."""
    with pytest.raises(TrainerError, match=r"modernbert that has the layers 3, 4 alone .* begin with layer 0"):
        keep_layers(encoder("modernbert", 5), (3, 4))


def test_a_decoder_of_some_layers_reads_texts() -> None:
    """Its layers cache by their place."""
    config = AutoConfig.for_model("gpt2", vocab_size=60, n_embd=32, n_layer=4, n_head=2, n_positions=64)
    backbone = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    keep_layers(backbone, (1, 3))
    assert backbone(input_ids=torch.tensor([[1, 2, 3]])).last_hidden_state.shape == (1, 3, 32)


def test_keeping_layers_draws_no_random_number() -> None:
    backbone = encoder("bert", 3)
    before = torch.random.get_rng_state()
    keep_layers(backbone, (0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
