"""What the outputs of somebody's own model are called, and how they come into the taxonomy's order."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sidecar.repository import Taxonomy
from trainer.errors import TrainerError

REMEDY = "write the code of each output on a line of its own, in the model's order, and give the file with --labels"


@dataclass(frozen=True)
class Named:
    """The names of a model's outputs, in its order, and the file that tells them."""

    path: Path
    names: tuple[str, ...]


def find_names(onnx_path: Path, given: Path | None) -> Named | None:
    """The names in the file `given`, else those in the config.json beside the model; None where none are told.

    Raises TrainerError where `given`, or such a config.json, cannot be read.
    """
    if given is not None:
        return Named(given, _names(given))
    beside = onnx_path.with_name("config.json")
    names = _names(beside) if beside.is_file() else ()
    told = not all(re.fullmatch(r"LABEL_\d+", name) for name in names)  # as transformers numbers labels without names
    return Named(beside, names) if told else None


def _names(path: Path) -> tuple[str, ...]:
    """The `id2label` of a config.json, or the lines of another file; none where a config.json has no `id2label`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if not text.lstrip().startswith("{"):
            return tuple(line.strip() for line in text.splitlines() if line.strip())
        by_place = {int(place): str(name) for place, name in json.loads(text).get("id2label", {}).items()}
        return tuple(by_place[place] for place in range(len(by_place)))
    except OSError as error:
        raise TrainerError(f"{path} cannot be read ({error.strerror}); {REMEDY}") from None
    except (ValueError, AttributeError, LookupError):
        raise TrainerError(f"{path} numbers no labels from 0 up under id2label; {REMEDY}") from None


def columns(named: Named, width: int, taxonomy: Taxonomy) -> list[int]:
    """Which of the model's `width` outputs stands first in the taxonomy's order, which second, and so on.

    Of two heads, 2 * labels + 1 outputs, each is put in order by itself. Raises TrainerError where the names are not
    the taxonomy's codes, or not as many as the outputs.
    """
    if len(named.names) != width:
        raise TrainerError(f"{named.path} names {len(named.names)} outputs, and the model gives {width}; {REMEDY}")
    with_abstention = (*taxonomy.codes, taxonomy.abstention.code)
    if width <= len(with_abstention):
        return _places(named, 0, with_abstention[:width])
    labels = len(taxonomy.codes)
    return [*_places(named, 0, taxonomy.codes), *_places(named, labels, with_abstention)]


def _places(named: Named, start: int, codes: Sequence[str]) -> list[int]:
    names = named.names[start : start + len(codes)]
    foreign = [name for name in names if name not in codes]
    if foreign:
        raise TrainerError(f"{named.path} names an output {foreign[0]!r}, and none of {', '.join(codes)}; {REMEDY}")
    absent = [code for code in codes if code not in names]
    if absent:
        raise TrainerError(f"{named.path} names no output {absent[0]!r}; {REMEDY}")
    return [start + names.index(code) for code in codes]
