"""Where a base comes from."""

from typing import Any

import pytest
from transformers import AutoConfig

from trainer.bases import load_base
from trainer.errors import TrainerError


def test_offline_asks_no_hub_for_any_base(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, *, local_files_only: bool = False, **_: Any) -> Any:
        raise OSError("not in the cache" if local_files_only else "the hub was asked")

    monkeypatch.setattr(AutoConfig, "from_pretrained", refuse)
    with pytest.raises(TrainerError, match="not in the cache"):
        load_base("somebody/some-base", offline=True)
    with pytest.raises(TrainerError, match="the hub was asked"):
        load_base("somebody/some-base")
