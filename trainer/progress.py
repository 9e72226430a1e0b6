"""Progress for a person, on standard error, so that standard output stays what a command gives."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Advance = Callable[[int, int], None]
"""Called with how much is done and how much there is."""


@contextlib.contextmanager
def bar(what: str, console: Console | None = None) -> Iterator[Advance]:
    """A bar for work that is counted; where standard error is no terminal, one line at the end."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console or Console(stderr=True)) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextlib.contextmanager
def stage(what: str, console: Console | None = None) -> Iterator[None]:
    """A spinner for work that is not counted; where standard error is no terminal, one line at its start."""
    console = console or Console(stderr=True)
    if console.is_terminal:
        with console.status(what):
            yield
    else:
        console.print(f"{what} ...")
        yield


def say(sentence: str, console: Console | None = None) -> None:
    """One sentence that a person should see beside the progress."""
    (console or Console(stderr=True)).print(sentence, highlight=False, markup=False, soft_wrap=True)
