"""The bar on stderr, where that is a terminal."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn

T = TypeVar("T")

WORDS_AND_BAR = (TextColumn("{task.description}"), BarColumn())
COUNTED = (*WORDS_AND_BAR, MofNCompleteColumn())


@contextmanager
def progress(first: str, total: int, columns: tuple[ProgressColumn, ...] = ()) -> Iterator[Callable[..., None]]:
    """A bar of `columns` (none: rich's own) that says `first`. Gives a function that moves it on by one, and may say more."""
    bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    with bar:
        task = bar.add_task(first, total=total)
        yield lambda description=None: bar.update(task, advance=1, description=description)


def gather(
    runs: Iterable[T], first: str, total: int, say: Callable[[T], str], columns: tuple[ProgressColumn, ...] = COUNTED
) -> list[T]:
    """What the runs yield, with a bar meanwhile that says `first`, then `say` of the last that is done."""
    found = []
    with progress(first, total, columns) as done:
        for run in runs:
            found.append(run)
            done(say(run))
    return found
