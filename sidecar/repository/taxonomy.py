"""The taxonomy file: ordered motives with names, definitions and sources, and the digest that tells two apart."""

import hashlib
import json
import re
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

CODE = re.compile(r"[a-z][a-z0-9_]{0,62}")


class TaxonomyError(ValueError):
    """The taxonomy file says something that cannot be used; the message says what and how to mend it."""


@dataclass(frozen=True)
class Motive:
    """One label. `group` is empty for the abstention label."""

    code: str
    group: str
    name_en: str
    name_zh: str
    definition_en: str
    definition_zh: str
    source: str


@dataclass(frozen=True)
class Taxonomy:
    """Motives in the order of the model's outputs, and the one label that means "none is stated"."""

    name: str
    motives: tuple[Motive, ...]
    abstention: Motive

    @property
    def codes(self) -> tuple[str, ...]:
        """The motives' codes, in order, without the abstention code."""
        return tuple(motive.code for motive in self.motives)

    @property
    def digest(self) -> bytes:
        """SHA-256, 32 bytes, over every field in order: removing, renaming or reordering a motive changes it."""
        fields = [self.name, *(asdict(motive) for motive in (*self.motives, self.abstention))]
        return hashlib.sha256(json.dumps(fields, ensure_ascii=False, sort_keys=True).encode()).digest()


def _motive(path: Path, table: dict[str, object]) -> Motive:
    fields = {name: table.get(name, "") for name in Motive.__dataclass_fields__}
    for name, value in fields.items():
        if not isinstance(value, str):
            raise TaxonomyError(f"{path}: {name} of {table.get('code')!r} is not a text; put it in quotes")
    motive = Motive(**{name: str(value) for name, value in fields.items()})
    if not CODE.fullmatch(motive.code):
        raise TaxonomyError(
            f"{path}: {motive.code!r} is no code; use lower-case letters, digits and _, beginning with a letter"
        )
    return motive


def read_taxonomy(path: Path) -> Taxonomy:
    """Reads `path` (TOML: `name`, `[[motive]]` tables in order, one `[abstention]` table).

    Raises TaxonomyError with the remedy when a code is malformed, repeated or missing.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TaxonomyError(f"{path} is not TOML: {error}") from None
    motives = tuple(_motive(path, table) for table in tables.get("motive", []))
    if not motives:
        raise TaxonomyError(f"{path} has no [[motive]] table; add one for each label")
    if "abstention" not in tables:
        raise TaxonomyError(f"{path} has no [abstention] table; name there the label for texts without a motive")
    abstention = _motive(path, tables["abstention"])
    codes = [motive.code for motive in (*motives, abstention)]
    for code in codes:
        if codes.count(code) > 1:
            raise TaxonomyError(f"{path} has {code!r} twice; each code may stand once")
    return Taxonomy(str(tables.get("name", "motive")), motives, abstention)
