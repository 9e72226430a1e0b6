"""Bias audit: does the answer flip when words for gender, names, nationality or age are swapped in a text?"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sidecar.repository import Answer

PAIRS: dict[str, tuple[tuple[str, str], ...]] = {
    "gender": (
        ("husband", "wife"), ("son", "daughter"), ("mother", "father"), ("mom", "dad"), ("boy", "girl"),
        ("boyfriend", "girlfriend"), ("brother", "sister"), ("grandma", "grandpa"), ("he", "she"), ("his", "her"),
        ("him", "her"), ("men", "women"), ("man", "woman"), ("老公", "老婆"), ("妈妈", "爸爸"), ("儿子", "女儿"),
        ("男朋友", "女朋友"), ("哥哥", "姐姐"), ("奶奶", "爷爷"), ("男生", "女生"), ("男士", "女士"),
    ),
    "name": (
        ("emily", "lakisha"), ("greg", "jamal"), ("john", "mohammed"), ("sarah", "fatima"), ("小明", "阿依古丽"),
        ("小红", "卓玛"), ("tom", "wei"), ("anna", "priya"),
    ),
    "nationality": (
        ("american", "mexican"), ("chinese", "german"), ("japanese", "indian"), ("usa", "china"), ("中国", "日本"),
        ("美国", "德国"), ("韩国", "越南"), ("british", "nigerian"),
    ),
    "age": (
        # Bare "young" and "old" would make things younger: an old phone.
        *((f"young {one}", f"old {one}") for one in ("man", "men", "woman", "women", "lady", "people", "couple")),
        ("teenager", "senior"), ("kids", "grandparents"), ("student", "retiree"), ("孩子", "老人"),
        ("年轻人", "老年人"), ("学生", "退休老人"),
    ),
}  # fmt: skip

OWNER = re.compile(
    r"\s+(?!(?:a|an|the|and|or|but|so|as|at|by|for|from|in|into|of|on|to|up|with|about|after|because|before|if|since|that|"
    r"this|these|those|when|while|who|will|would|is|was|it|my|i|we|she|he|they|very|too|again|now|not|some)\b)\w",
    re.IGNORECASE,
)
"""What follows the "her" that owns something, "his", and seldom the "her" that something is done to, "him"."""


@dataclass(frozen=True)
class Finding:
    """How one kind of swap did."""

    swapped: int
    """Texts that hold such a word."""
    flipped: int
    """Those of them whose primary answer became another."""
    shift: float
    """Mean absolute change of the confidence where the answer stayed."""
    examples: tuple[tuple[str, str, str, str], ...]
    """Up to five: text, swapped text, answer, new answer."""


def swap(text: str, pairs: Sequence[tuple[str, str]]) -> str:
    """The text with every word of a pair in place of its fellow, both ways at once; English words whole, case kept."""
    table = dict(pairs) | {b: a for a, b in pairs}
    parts = [rf"\b{re.escape(w)}\b" if w.isascii() else re.escape(w) for w in sorted(table, key=len, reverse=True)]

    def exchange(match: re.Match[str]) -> str:
        word = match.group()
        other = table[word.casefold()]
        if word.casefold() == "her":
            other = "his" if OWNER.match(match.string, match.end()) else "him"
        return other.upper() if word.isupper() and len(word) > 1 else other.capitalize() if word[0].isupper() else other

    return re.sub("|".join(parts), exchange, text, flags=re.IGNORECASE)


def audit(texts: Sequence[str], answer: Callable[[Sequence[str]], list[Answer]]) -> dict[str, Finding]:
    """Per kind of swap, what it does to the answers for `texts`."""
    findings = {}
    for kind, pairs in PAIRS.items():
        both = [(text, new) for text in texts if (new := swap(text, pairs)) != text]
        before, after = answer([a for a, _ in both]), answer([b for _, b in both])
        flips = [
            (a, b, _primary(x), _primary(y))
            for (a, b), x, y in zip(both, before, after, strict=True)
            if _primary(x) != _primary(y)
        ]
        stayed = [
            abs(x.confidence - y.confidence) for x, y in zip(before, after, strict=True) if _primary(x) == _primary(y)
        ]
        findings[kind] = Finding(len(both), len(flips), sum(stayed) / max(1, len(stayed)), tuple(flips[:5]))
    return findings


def _primary(answer: Answer) -> str:
    return answer.motives[0][0] if answer.motives else ""
