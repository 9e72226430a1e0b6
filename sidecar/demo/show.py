"""What the demo prints: annotated rows, one explanation, and the shares of motives by category."""

from collections import defaultdict
from importlib.resources import files

import psycopg
from rich.bar import Bar
from rich.console import Console
from rich.table import Table

COLOURS = ("green", "cyan", "magenta", "yellow", "blue", "red")


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
    table = Table(title="select kind, body, motive, motive_confidence, motives from shop.texts", title_justify="left")
    for column, options in (
        ("kind", {"style": "dim"}),
        ("body", {"ratio": 1, "overflow": "ellipsis", "no_wrap": True}),
        ("motive", {"style": "bold", "no_wrap": True}),
        ("confidence", {"justify": "right"}),
        ("further motives", {"style": "dim", "no_wrap": True}),
    ):
        table.add_column(column, **options)
    for kind, body, motive, confidence, others in connection.execute(statement("rows").encode()):
        style = "dim" if motive == "unknown" else ""
        table.add_row(kind, body, motive or "(waiting)", str(confidence or ""), others or "", style=style)
    console.print(table)


def _explanation(connection: psycopg.Connection, console: Console) -> None:
    console.print("\n[bold]Why?[/bold]  " + " ".join(statement("explain").split()))
    for motive, evidence, weight in connection.execute(statement("explain").encode()):
        console.print(f"   {motive}: “{evidence}” carries {weight}")


def _shares(connection: psycopg.Connection, console: Console) -> None:
    shares: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for category, motive, count in connection.execute(statement("shares").encode()):
        shares[category].append((motive, count))
    if not shares:
        return
    largest = max(sum(count for _, count in found) for found in shares.values())
    table = Table(title="\nWhy people buy, by category (texts with a motive)", title_justify="left", box=None)
    table.add_column("category")
    table.add_column("texts", justify="right")
    table.add_column("", width=28)
    table.add_column("motives, most frequent first", style="dim")
    for position, (category, found) in enumerate(sorted(shares.items())):
        total = sum(count for _, count in found)
        bar = Bar(largest, 0, total, color=COLOURS[position % len(COLOURS)])
        table.add_row(category, str(total), bar, ", ".join(f"{motive} {count}" for motive, count in found))
    console.print(table)
