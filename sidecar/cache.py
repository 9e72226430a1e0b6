"""Remembers answers by a keyed hash of the text: the cache never holds a text, nor a hash that could be looked up."""

import hashlib
import secrets
from collections import OrderedDict
from typing import Generic, TypeVar

Value = TypeVar("Value")


class AnswerCache(Generic[Value]):
    """The `capacity` answers used last. One cache belongs to one model version, and dies with it.

    Not for use from several threads.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._answers: OrderedDict[bytes, Value] = OrderedDict()
        self._secret = secrets.token_bytes(32)
        self.hits = 0
        self.misses = 0

    def key(self, text: str) -> bytes:
        """A 16-byte hash that only this process can compute."""
        return hashlib.blake2b(text.encode(), digest_size=16, key=self._secret).digest()

    def get(self, key: bytes) -> Value | None:
        """The remembered answer, now the one used last; None where there is none."""
        answer = self._answers.get(key)
        if answer is None:
            self.misses += 1
            return None
        self._answers.move_to_end(key)
        self.hits += 1
        return answer

    def put(self, key: bytes, answer: Value) -> None:
        """Remembers `answer`, forgetting the one unused longest when full."""
        if self._capacity == 0:
            return
        self._answers[key] = answer
        self._answers.move_to_end(key)
        if len(self._answers) > self._capacity:
            self._answers.popitem(last=False)

    def __len__(self) -> int:
        return len(self._answers)
