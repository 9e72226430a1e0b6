"""A console that also remembers what it prints as Markdown, for the README's chapter on speed."""

import re
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


class Recorder(Console):
    """Prints as any console does; `markdown` is what was printed since it was last cleared."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.parts: list[str] = []

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints, and remembers tables and lines; everything else is for the terminal alone."""
        super().print(*objects, **options)
        for printed in objects:
            if isinstance(printed, Table):
                self.parts.append(table_markdown(printed))
            elif isinstance(printed, str):
                self.parts.append(Text.from_markup(printed).plain.strip())

    @property
    def markdown(self) -> str:
        """What was printed, paragraph by paragraph."""
        return "\n\n".join(part for part in self.parts if part)


def table_markdown(table: Table) -> str:
    """The table as GitHub reads one, its title in bold above it."""
    columns = [[_plain(cell) for cell in column.cells] for column in table.columns]
    rows = [[_plain(column.header) for column in table.columns]]
    rows.append(["---:" if column.justify == "right" else "---" for column in table.columns])
    rows += [list(row) for row in zip(*columns, strict=True)]
    title = f"**{_plain(table.title)}**\n\n" if table.title else ""
    return title + "\n".join(f"| {' | '.join(row)} |" for row in rows)


def write_section(path: Path, name: str, markdown: str) -> bool:
    """Puts `markdown` between the marks of bench `name` in a file; False where it has no such marks."""
    start, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    text = path.read_text(encoding="utf-8")
    fresh, count = re.subn(
        f"{re.escape(start)}.*?{re.escape(end)}", lambda _: f"{start}\n\n{markdown}\n\n{end}", text, flags=re.DOTALL
    )
    path.write_text(fresh, encoding="utf-8")
    return count > 0


def _plain(cell: object) -> str:
    text = cell.plain if isinstance(cell, Text) else Text.from_markup(str(cell or "")).plain
    return " ".join(text.split()).replace("|", "\\|")
