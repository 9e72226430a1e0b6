"""What the figures of a bench are held against."""

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Bar:
    """One figure with its bound."""

    what: str
    value: float
    bound: float
    unit: str
    least: bool = False
    """Whether the bound is the least value that is good, instead of the greatest."""

    @property
    def holds(self) -> bool:
        """Whether the figure is on the right side of its bound."""
        return self.value >= self.bound if self.least else self.value <= self.bound


def print_bars(console: Console, bars: Iterable[Bar]) -> None:
    """Prints a table with one row a bar."""
    table = Table(title="What should hold")
    for column in ("", "measured", "bar", "holds"):
        table.add_column(column, justify="left" if not column else "right")
    for bar in bars:
        bound = f"at {'least' if bar.least else 'most'} {bar.bound:g} {bar.unit}"
        table.add_row(bar.what, f"{bar.value:.2f} {bar.unit}", bound, "yes" if bar.holds else "no")
    console.print(table)
