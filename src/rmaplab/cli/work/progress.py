"""The bar on stderr, where that is a terminal; and what is shown of work that is interrupted."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import click
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
        yield lambda description=None, advance=1: bar.update(task, advance=advance, description=description)


class Meanwhile:
    """Where work that is under way says how far it has got: on gather's bar, while there is one."""

    say: Callable[..., None] | None = None

    def __call__(self, text: str) -> None:
        """What the bar says from now on."""
        if self.say is not None:
            self.say(text, advance=0)


def gather(
    runs: Iterable[T],
    first: str,
    total: int,
    say: Callable[[T], str],
    show: Callable[[list[T]], None],
    columns: tuple[ProgressColumn, ...] = COUNTED,
    meanwhile: Meanwhile | None = None,
) -> None:
    """Show what the runs yield, with a bar meanwhile that says `first`, then `say` of the last that is done, or what the runs tell `meanwhile`.

    Raises KeyboardInterrupt as it comes; what was finished by then is shown first.
    """
    found: list[T] = []
    try:
        with progress(first, total, columns) as done:
            if meanwhile is not None:
                meanwhile.say = done
            for run in runs:
                found.append(run)
                done(say(run))
    except KeyboardInterrupt:
        if found:
            say_interrupted(len(found), total)
            show(found)
        raise
    show(found)


def say_interrupted(done: int, total: int) -> None:
    """On stderr, before what was finished is shown."""
    click.echo(f"rmaplab: interrupted: {done:,} of {total:,} are done", err=True)
