"""The bench's tables as Markdown in the README."""

import io
from pathlib import Path

from rich.table import Table

from tests.bench.record import Recorder, write_section


def test_a_table_becomes_markdown_with_its_title_and_alignment() -> None:
    table = Table(title="One text")
    table.add_column("way")
    table.add_column("ms", justify="right")
    table.add_row("[bold]engine[/bold]", "2.10")
    table.add_row("a|b", "3")
    console = Recorder(file=io.StringIO())
    console.print(table)
    console.print("Half load: [dim]4 ms[/dim]")
    expected = "**One text**\n\n| way | ms |\n| --- | ---: |\n| engine | 2.10 |\n| a\\|b | 3 |\n\nHalf load: 4 ms"
    assert console.markdown == expected


def test_a_section_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- bench:a -->\nold\n<!-- /bench:a -->\nafter\n")
    assert write_section(readme, "a", r"new \1")
    assert readme.read_text() == "before\n<!-- bench:a -->\n\nnew \\1\n\n<!-- /bench:a -->\nafter\n"
    assert not write_section(readme, "b", "x")
