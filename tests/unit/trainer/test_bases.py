"""Where a base comes from."""

from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer, models
from transformers import AutoConfig, DebertaV2Config

from trainer.bases import Base, load_base
from trainer.errors import TrainerError


def test_offline_asks_no_hub_for_any_base(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, *, local_files_only: bool = False, **_: Any) -> Any:
        raise OSError("not in the cache" if local_files_only else "the hub was asked")

    monkeypatch.setattr(AutoConfig, "from_pretrained", refuse)
    with pytest.raises(TrainerError, match="not in the cache"):
        load_base("somebody/some-base", offline=True)
    with pytest.raises(TrainerError, match="the hub was asked"):
        load_base("somebody/some-base")


@pytest.mark.parametrize(("table", "most"), [(True, 512), (False, None)])
def test_a_deberta_without_a_table_of_positions_reads_any_number_of_tokens(table: bool, most: int | None) -> None:
    config = DebertaV2Config(position_biased_input=table, max_position_embeddings=512)
    base = Base("deberta", SimpleNamespace(config=config), Tokenizer(models.BPE()), 0)
    assert base.positions == most
