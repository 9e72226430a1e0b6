"""What the demo prints: annotated rows, one explanation, and the shares of motives by category."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from importlib.resources import files
from itertools import cycle

import psycopg
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

WIDE = 110
"""Columns of a terminal from which there is room for all of a row's motives."""
BAR = 24
LOOKS = (("█", "green"), ("▓", "magenta"), ("▒", "cyan"), ("░", "yellow"))
"""Mark and colour of each group of motives, the most frequent group first."""


def statement(name: str) -> str:
    """One named statement of demo.sql."""
    text = (files("sidecar.demo") / "demo.sql").read_text(encoding="utf-8")
    for part in text.split("-- name: ")[1:]:
        head, _, body = part.partition("\n")
        if head.strip() == name:
            return body.strip()
    raise KeyError(name)


def show(connection: psycopg.Connection, console: Console) -> None:
    """Prints everything a stranger should see."""
    _rows(connection, console)
    _explanation(connection, console)
    _shares(connection, console)


def _rows(connection: psycopg.Connection, console: Console) -> None:
    wide = console.width >= WIDE
    table = Table(title="select kind, body, motive, motive_confidence, motives from shop.texts", title_justify="left")
    table.box, table.expand = SIMPLE_HEAD, True
    table.add_column("kind", style="dim", min_width=6)
    table.add_column("body", ratio=1, overflow="ellipsis", no_wrap=True)
    table.add_column("motive", style="bold", min_width=15)
    table.add_column("conf.", justify="right", min_width=5)
    if wide:
        table.add_column("further motives", style="dim", min_width=26, overflow="ellipsis", no_wrap=True)
    for kind, body, motive, confidence, others in connection.execute(statement("rows").encode()):
        cells = (kind, body, motive or "(waiting)", str(confidence or ""), *((others or "",) if wide else ()))
        table.add_row(*map(escape, cells), style="dim" if motive == "unknown" else "")
    console.print(table)


def _explanation(connection: psycopg.Connection, console: Console) -> None:
    console.print("\n[bold]Why?[/bold]  " + " ".join(statement("explain").split()))
    for motive, evidence, weight in connection.execute(statement("explain").encode()):
        console.print(f"   {motive}: “{escape(evidence)}” carries {weight}")


def _shares(connection: psycopg.Connection, console: Console) -> None:
    """One bar a category, cut by group of motives: patterns as well as colours, for paper and for pipes."""
    shares: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    for category, group, motive, count in connection.execute(statement("shares").encode()):
        shares[category].append((group, motive, count))
    groups = sorted({group for found in shares.values() for group, _, _ in found}, key=_group_order(shares))
    looks = dict(zip(groups, cycle(LOOKS), strict=False))
    table = Table(
        title="\nWhy people buy, by category: shares of the texts with a motive", title_justify="left", box=None
    )
    table.add_column("category", no_wrap=True, min_width=max(map(len, ["category", *shares])))
    table.add_column("texts", justify="right", no_wrap=True)
    table.add_column("", min_width=BAR, no_wrap=True)
    table.add_column("most frequent", style="dim", ratio=1)
    named = 3 if console.width >= WIDE else 2
    for category, found in sorted(shares.items()):
        total = sum(count for _, _, count in found)
        by_group = [sum(count for group, _, count in found if group == one) for one in groups]
        first = ", ".join(f"{motive} {count / total:.0%}" for _, motive, count in found[:named])
        table.add_row(category, str(total), bar(by_group, [looks[group] for group in groups]), first)
    console.print(table)
    console.print(Text.assemble("  ", *((f"{mark} {group}   ", style) for group, (mark, style) in looks.items())))


def _group_order(shares: dict[str, list[tuple[str, str, int]]]) -> Callable[[str], int]:
    counted: Counter[str] = Counter()
    for found in shares.values():
        for group, _, count in found:
            counted[group] -= count
    return counted.__getitem__


def bar(parts: Sequence[int], looks: Sequence[tuple[str, str]], width: int = BAR) -> Text:
    """A bar of `width` characters, cut in proportion to `parts`, each with its mark and style of `looks`."""
    text, drawn, seen, total = Text(), 0, 0, max(1, sum(parts))
    for part, (mark, style) in zip(parts, looks, strict=True):
        seen += part
        end = round(seen / total * width)
        text.append(mark * (end - drawn), style)
        drawn = end
    return text
