"""More training texts from those there are: two texts of one language and kind joined into one.

Written corpora are tidier than life: their texts turn on one thing. Long reviews and posts wander from one motive to
the next, and joined texts teach that every motive counts wherever it stands, and that the first weighs most.
"""

import random
from collections import defaultdict
from collections.abc import Sequence

from trainer.texts import Example

LONGEST = 240
"""Characters of a text that is still joined to another one: the whole should fit into a window."""


def join_texts(examples: Sequence[Example], share: float, seed: int) -> list[Example]:
    """`share` times as many joined texts as there are examples; the same for the same arguments.

    Their motives are those of both, the first text's before the second's. Queries stay alone: two of them make none.
    """
    return [joined(first, second) for first, second in pairs(examples, share, seed)]


def pairs(examples: Sequence[Example], share: float, seed: int) -> list[tuple[Example, Example]]:
    """The halves of the texts that `join_texts` makes, in its order."""
    pools: dict[tuple[str, str], list[Example]] = defaultdict(list)
    for example in examples:
        if len(example.text) <= LONGEST:
            pools[example.lang, example.kind].append(example)
    usable = [pool for (_, kind), pool in sorted(pools.items()) if kind != "query" and len(pool) > 1]
    if not usable:
        return []
    chance = random.Random(seed)
    drawn = (chance.sample(chance.choice(usable), 2) for _ in range(int(share * len(examples))))
    return [(first, second) for first, second in drawn]


def joined(first: Example, second: Example) -> Example:
    """The two as one text: with a blank between them, or none after Chinese punctuation."""
    gap = "" if first.text[-1:] in "。！？…~" else " "
    motives = tuple(dict.fromkeys((*first.motives, *second.motives)))
    return Example(first.text + gap + second.text, motives, first.lang, first.kind, "joined")
