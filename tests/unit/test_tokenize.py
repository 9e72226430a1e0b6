"""Windows: every token of a long text is read, each window is a text of its own, offsets lead back to characters."""

import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from sidecar.repository import Tokens
from sidecar.tokenize import Tokenizer

START, END, WORDS = 0, 1, 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tokenizer of words w0 to w39, with a special token at either end."""
    words = {"<s>": START, "</s>": END, "?": 2} | {f"w{i}": 3 + i for i in range(WORDS)}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    document = {
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": None,
        "added_tokens": [{"id": START, "content": "<s>", **special}, {"id": END, "content": "</s>", **special}],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {"type": "BertProcessing", "sep": ["</s>", END], "cls": ["<s>", START]},
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "?"},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    return tmp_path


def tokenizer(folder: Path, **tokens: Any) -> Tokenizer:
    repository = SimpleNamespace(path=folder, manifest=SimpleNamespace(tokens=Tokens(**tokens)))
    return Tokenizer(cast(Any, repository))


def words(count: int) -> str:
    return " ".join(f"w{i}" for i in range(count))


def test_a_text_that_fits_is_one_window_whatever_the_file_says_of_truncation(folder: Path) -> None:
    ((window,),) = tokenizer(folder, window=12, stride=8).windows([words(10)])
    assert window.tolist() == [START, *range(3, 13), END]
    assert window.dtype == np.int64


@pytest.mark.parametrize("count", [1, 8, 9, 23, WORDS])
def test_a_text_falls_into_passages_that_each_fit_a_window_and_together_hold_every_word(
    count: int, folder: Path
) -> None:
    reader = tokenizer(folder, window=12, stride=6, prefix="w1 w2 ")
    text = words(count)
    passages = [text[start:stop] for start, stop in reader.passages(text)]
    assert [len(windows) for windows in reader.windows(passages)] == [1] * len(passages)
    assert set(" ".join(passages).split()) == set(text.split())
    assert len(passages) == 1 or count > 8


def test_empty_text_is_one_window_of_the_special_tokens(folder: Path) -> None:
    ((window,),) = tokenizer(folder).windows([""])
    assert window.tolist() == [START, END]


@pytest.mark.parametrize("count", range(9, WORDS + 1))
@pytest.mark.parametrize(("window", "stride"), [(10, 8), (10, 5), (10, 3), (7, 192)])
def test_every_token_of_a_long_text_is_in_a_window_and_none_is_needless(
    folder: Path, count: int, window: int, stride: int
) -> None:
    (windows,) = tokenizer(folder, window=window, stride=stride).windows([words(count)])
    assert {int(i) for one in windows for i in one[1:-1]} == set(range(3, 3 + count))
    for one in windows:
        assert len(one) <= window
        assert (one[0], one[-1]) == (START, END)
    for before, after in pairwise(windows):
        assert set(after[1:-1]) - set(before[1:-1])


def test_a_prefix_is_read_but_is_no_piece_of_the_text(folder: Path) -> None:
    reader = tokenizer(folder, prefix="w7 ")
    ((window,),) = reader.windows(["w1 w2"])
    assert window.tolist() == [START, 10, 4, 5, END]
    text = "w1  w25"
    assert [text[piece.start : piece.stop] for piece in reader.pieces(text)] == ["w1", "w25"]


def test_special_tokens_written_in_a_text_are_cut_like_its_other_tokens(folder: Path) -> None:
    (windows,) = tokenizer(folder, window=8, stride=6).windows([words(5) + " </s> " + words(9)])
    assert all(len(one) <= 8 for one in windows)
    assert all((one[0], one[-1]) == (START, END) for one in windows)
    assert {int(i) for one in windows for i in one[1:-1]} >= set(range(3, 12))
