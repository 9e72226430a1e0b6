"""Answers of an exported model for many texts, as the sidecar would give them: windows, calibration, redaction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sidecar.redact import redact
from sidecar.repository import Answer, Repository, RepositoryError, Tokens, open_repository
from sidecar.repository.evidence import Piece, pieces_at
from trainer.errors import TrainerError
from trainer.predict import Ids, Infer, onnx_infer, predict


@dataclass(frozen=True)
class Model:
    """An opened repository with its engine."""

    repository: Repository
    tokenizer: Tokenizer
    infer: Infer

    def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Logits [texts, outputs]; a long text's windows are joined."""
        return self.clean_logits([redact(text)[0] for text in texts])

    def clean_logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Logits [texts, outputs] of texts whose personal data are masked."""
        join = self.repository.calibration.join_windows
        return joined_logits(self.infer, self.tokenizer, texts, self.repository.manifest.tokens, join)

    def pieces(self, text: str) -> list[Piece]:
        """The characters that each token of `text` stands for."""
        prefix = self.repository.manifest.tokens.prefix
        return pieces_at(self.tokenizer.encode(prefix + text, add_special_tokens=False).offsets, len(prefix))

    def answers(self, texts: Sequence[str]) -> list[Answer]:
        """One answer per text."""
        return self.repository.calibration.answers(self.logits(texts)) if texts else []


def open_model(path: Path, threads: int = 0) -> Model:
    """Opens a repository for answering; raises TrainerError where it cannot be used."""
    try:
        repository = open_repository(path)
    except (RepositoryError, ValueError) as error:
        raise TrainerError(str(error)) from None
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return Model(repository, tokenizer, onnx_infer(str(repository.onnx_path), threads))


def joined_logits(
    infer: Infer,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    tokens: Tokens,
    join: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Logits [texts, outputs]; of a text that is longer than the window, `join` of its windows' logits."""
    encodings = tokenizer.encode_batch([tokens.prefix + text for text in texts])
    cut = [windows(e.ids, e.special_tokens_mask, tokens) for e in encodings]
    rows = predict(infer, [window for one in cut for window in one], tokens.pad_id)
    parts = np.split(rows, np.cumsum([len(one) for one in cut])[:-1])
    return np.stack([part[0] if len(part) == 1 else join(part) for part in parts])


def windows(ids: Sequence[int], special: Sequence[int], tokens: Tokens) -> Ids:
    """Cuts one text's ids into overlapping windows, each with the special tokens that stand at both ends."""
    if len(ids) <= tokens.window:
        return [list(ids)]
    body = [i for i, mark in zip(ids, special, strict=True) if not mark]
    first = list(special).index(0)
    head, tail = list(ids[:first]), list(ids[first + len(body) :])
    room = tokens.window - len(head) - len(tail)
    stride = min(tokens.stride, room)
    return [[*head, *body[at : at + room], *tail] for at in range(0, len(body) - room + stride, stride)]
