"""Texts to token windows, through the repository's own tokenizer.json."""

from collections.abc import Sequence

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import Encoding
from tokenizers import Tokenizer as HuggingFaceTokenizer

from sidecar.errors import ConfigError
from sidecar.repository import Repository
from sidecar.repository.evidence import Piece, pieces_at


class Tokenizer:
    """Cuts texts into windows of at most `window` tokens, special tokens included; longer texts get several."""

    def __init__(self, repository: Repository) -> None:
        """Raises ConfigError where tokenizer.json is none."""
        self._tokens = repository.manifest.tokens
        path = repository.path / "tokenizer.json"
        try:
            self._tokenizer = HuggingFaceTokenizer.from_file(str(path))
        # The library raises plain Exceptions.
        except Exception as error:
            raise ConfigError(
                f"{path} cannot be read by tokenizers {tokenizers.__version__}: {error}", "Export the model again."
            ) from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._special = self._tokenizer.num_special_tokens_to_add(is_pair=False)

    def windows(self, texts: Sequence[str]) -> list[list[NDArray[np.int64]]]:
        """Returns for each text its windows, each a vector [tokens] of token ids; at least one."""
        prefix = self._tokens.prefix
        encodings = self._tokenizer.encode_batch_fast([prefix + text for text in texts])
        return [self._cut(encoding) for encoding in encodings]

    def pieces(self, text: str) -> list[Piece]:
        """Returns the characters that each token of `text` stands for, special tokens and the prefix left out."""
        encoding = self._tokenizer.encode(self._tokens.prefix + text, add_special_tokens=False)
        return pieces_at(encoding.offsets, len(self._tokens.prefix))

    def passages(self, text: str) -> list[tuple[int, int]]:
        """Returns the parts of `text`, text[start:stop], that fit a window each when read alone; one if `text` does."""
        pieces = self.pieces(text)
        prefix = len(self._tokenizer.encode(self._tokens.prefix, add_special_tokens=False).ids)
        room = self._tokens.window - self._special - prefix
        if len(pieces) <= room:
            return [(0, len(text))]
        stride = min(self._tokens.stride, room)
        starts = range(0, len(pieces) - room + stride, stride)
        return [(pieces[start].start, pieces[min(start + room, len(pieces)) - 1].stop) for start in starts]

    def _cut(self, encoding: Encoding) -> list[NDArray[np.int64]]:
        ids = np.asarray(encoding.ids, dtype=np.int64)
        window, stride = self._tokens.window, self._tokens.stride
        if len(ids) <= window:
            return [ids]
        # The special tokens stand at both ends; each window gets the same ones.
        marks = np.asarray(encoding.special_tokens_mask, dtype=bool)
        body = ids[~marks]
        first = int(np.argmin(marks))
        head, tail = ids[:first], ids[first + len(body) :]
        room = window - len(head) - len(tail)
        stride = min(stride, room)
        starts = range(0, len(body) - room + stride, stride)
        return [np.concatenate([head, body[start : start + room], tail]) for start in starts]
