"""How far two readers' labels of the same texts agree: of the primary, of the sets, and beyond chance."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.errors import TrainerError


@dataclass(frozen=True)
class Reading:
    """One text's labels by two readers, the primary first; none means that no motive is stated."""

    file: str
    first: tuple[str, ...]
    second: tuple[str, ...]


@dataclass(frozen=True)
class Agreement:
    """Each 0 to 1, but for the number of texts."""

    texts: int
    primary: float
    """Equal primaries."""
    kappa: float
    """The same beyond chance (Cohen 1960)."""
    lenient: float
    """The second reader's primary is among the first's labels, or both name none."""
    set_f1: float
    """Micro-F1 of the sets of labels."""


def read_readings(path: Path) -> list[Reading]:
    """Reads JSON Lines with the fields file, first and second; raises TrainerError where a line lacks one."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        return [Reading(str(row["file"]), tuple(row["first"]), tuple(row["second"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainerError(
            f"{path} holds no two readers' labels ({error}); each line has file, first, second"
        ) from None


def agreement(readings: Sequence[Reading]) -> Agreement:
    """The figures over `readings`, of which there must be one at least."""
    pairs = [((r.first or ("",))[0], (r.second or ("",))[0]) for r in readings]
    same = sum(a == b for a, b in pairs) / len(pairs)
    one, other = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    chance = sum(one[code] * other[code] for code in one) / len(pairs) ** 2
    hit = sum(len({*r.first} & {*r.second}) for r in readings)
    named = sum(len({*r.first}) + len({*r.second}) for r in readings)
    return Agreement(
        texts=len(readings),
        primary=same,
        kappa=(same - chance) / (1 - chance) if chance < 1 else 1.0,
        lenient=sum(b in r.first or (not b and not r.first) for r, (_, b) in zip(readings, pairs, strict=True))
        / len(pairs),
        set_f1=2 * hit / named if named else 1.0,
    )


def differences(readings: Sequence[Reading]) -> list[tuple[tuple[str, str], int]]:
    """Pairs of (first, second) primaries that differ, commonest first; empty where a reader named none."""
    pairs = (((r.first or ("",))[0], (r.second or ("",))[0]) for r in readings)
    return Counter(pair for pair in pairs if pair[0] != pair[1]).most_common()
