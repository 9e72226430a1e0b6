"""Whether texts were written one by one or filled into templates: near-duplicates, openings, n-grams, frames.

A template with slots leaves traces that a writer does not: the same first words again and again, long runs of words
that recur, and sentences whose common words stand in the same order while only the rare ones differ (a frame).
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trainer.duplicates import near_duplicates

COMMON = 150
"""How many of the commonest tokens count as common: they make a frame, every other token is a slot."""
SHORTEST = 8
"""Tokens from which a text has an opening and a frame; "five stars" may well be written twice."""


@dataclass(frozen=True)
class Variety:
    """Shares are of the texts, 0 to 1, unless something else is said."""

    texts: int
    near_duplicates: float
    """Texts that resemble an earlier one: 80 % of their shingles in common."""
    alike: float
    """The same for 50 %."""
    commonest_opening: tuple[str, float]
    """The first tokens that most texts begin with (three words, or five characters), and their share."""
    shared_openings: float
    """Texts whose opening five or more texts share."""
    reused_ngrams: float
    """Share of the running n-grams (five words, or eight characters) that stand in another text too."""
    shared_frames: float
    """Texts whose frame another text has; a frame of fewer than four common tokens does not count."""


def tokens(text: str) -> list[str]:
    """English words and numbers, and single Chinese characters."""
    return re.findall(r"[a-z0-9']+|[\u3400-\u9fff]", text.casefold())


def measure(texts: Sequence[str], *, chinese: bool) -> Variety:
    """What `texts`, all of one language, have in common with each other."""
    cut = [tokens(text) for text in texts]
    long = [words for words in cut if len(words) >= SHORTEST]
    first = 5 if chinese else 3
    openings = Counter(tuple(words[:first]) for words in long)
    total = max(1, len(long))
    opening, most = openings.most_common(1)[0] if openings else ((), 0)
    return Variety(
        texts=len(texts),
        near_duplicates=_resembling(texts, 0.8),
        alike=_resembling(texts, 0.5),
        commonest_opening=(("" if chinese else " ").join(opening), most / total),
        shared_openings=sum(n for n in openings.values() if n >= 5) / total,
        reused_ngrams=reused(cut, 8 if chinese else 5),
        shared_frames=_shared(frames(long)) / total,
    )


def reused(cut: Iterable[Sequence[str]], size: int) -> float:
    """Share of all runs of `size` tokens that stand in more than one text."""
    seen: Counter[tuple[str, ...]] = Counter()
    for words in cut:
        seen.update({tuple(words[i : i + size]) for i in range(len(words) - size + 1)})
    return sum(n for n in seen.values() if n > 1) / max(1, seen.total())


def frames(cut: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Each text's common tokens in order, with one mark for every run of others between them."""
    common = {word for word, _ in Counter(word for words in cut for word in words).most_common(COMMON)}
    result = []
    for words in cut:
        marked = [word if word in common else "_" for word in words]
        result.append(tuple(w for i, w in enumerate(marked) if w != "_" or i == 0 or marked[i - 1] != "_"))
    return result


def _shared(items: Sequence[tuple[str, ...]]) -> int:
    telling = (frame for frame in items if sum(token != "_" for token in frame) >= 4)
    return sum(n for n in Counter(telling).values() if n > 1)


def _resembling(texts: Sequence[str], threshold: float) -> float:
    first = near_duplicates(texts, threshold)
    return sum(i != j for i, j in enumerate(first)) / max(1, len(texts))
