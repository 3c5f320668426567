"""Numba, typed for the rest of the house, and loaded when a kernel is first called: who only looks at the live machine needs none.

    @kernel, @inline    at import     an Asleep stands in the function's place; Numba is not even imported
    one is called       the first     each Asleep of each module is replaced by what Numba makes of it: from then on they are not met
    interpreted()       meanwhile     who is called while all are asleep runs as the Python that he is: for a few small calls

A kernel here is a function over plain arrays and integers that cannot fail: whoever calls it has counted and allocated
before. It is compiled at its first use and the machine code is cached beside the source, else in the user's cache directory (or
NUMBA_CACHE_DIR). What is cached will be run: a directory in which others may write is not used. Where there is none (a
root-owned install, no home), each process compiles for itself.
"""

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

_asleep: "list[Asleep]" = []
_dreaming = 0  # how many interpreted() there are around us


class Asleep:
    """Stands for a function until one is called. Who has kept it elsewhere than in a module still gets through."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        self.function, self.options = function, options
        self.awake: Callable[..., Any] | None = None
        _asleep.append(self)

    def __call__(self, *arguments: Any) -> Any:
        """Wake all there are, and call this one."""
        if self.awake is None:
            if _dreaming:
                return self.function(*arguments)
            _wake_all()
        assert self.awake is not None
        return self.awake(*arguments)


def kernel(function: F) -> F:
    """Compile `function` lazily, one version per combination of argument types."""
    return cast("F", Asleep(function, {"cache": True}))


def inline(function: F) -> F:
    """Compile `function` into each of its callers."""
    return cast("F", Asleep(function, {"inline": "always"}))


@contextmanager
def interpreted() -> Iterator[None]:
    """Within it nobody is woken: to load Numba and what it has made takes longer than Python takes for thousands of steps."""
    global _dreaming  # noqa: PLW0603
    _dreaming += 1
    try:
        yield
    finally:
        _dreaming -= 1


def _wake_all() -> None:
    while _asleep:
        each = _asleep.pop()
        each.awake = _compiler(each.function, each.options)(each.function)
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", {})
        for name, value in list(names.items()):
            if isinstance(value, Asleep):
                names[name] = value.awake


def _compiler(function: Callable[..., Any], options: dict[str, Any]) -> Callable[[Callable[..., Any]], Any]:
    import numba  # noqa: PLC0415  (it takes a third of a second, and is not to be had everywhere)

    if "cache" in options:
        try:
            where = numba.njit(**options)(function).stats.cache_path
        except RuntimeError:  # Numba finds no directory that we may write to
            return cast("Callable[[Callable[..., Any]], Any]", numba.njit)
        if not is_private(Path(where), Path(function.__code__.co_filename).stat().st_uid):
            return cast("Callable[[Callable[..., Any]], Any]", numba.njit)
    return cast("Callable[[Callable[..., Any]], Any]", numba.njit(**options))


def is_private(directory: Path, author: int) -> bool:
    """Whether only root, we ourselves and `author` (the uid that owns the source) decide what is found in `directory`; groups are trusted."""
    whole, real = directory.absolute(), directory.resolve()
    for place in {whole, *whole.parents, real, *real.parents}:
        found = place.lstat()
        open_to_all = found.st_mode & stat.S_IWOTH and not stat.S_ISLNK(found.st_mode)
        kept_by_owners = (
            found.st_mode & stat.S_ISVTX and place != real
        )  # as /tmp: what is there, only its owner replaces
        if found.st_uid not in (0, os.geteuid(), author) or (open_to_all and not kept_by_owners):
            return False
    return True


def callback(signature: str, function: Callable[..., Any]) -> Any:
    """`function` as machine code that C may call, with its `address`; it is to be kept as long as that is used. Compiled once, cached as kernels are."""
    import numba  # noqa: PLC0415

    _wake_all()  # it may call what is inlined into it
    try:
        made: Any = numba.cfunc(signature, cache=True)(function)
        where = made._cache.cache_path  # noqa: SLF001  (there is no other way to ask)
    except RuntimeError:
        return numba.cfunc(signature)(function)
    if not is_private(Path(where), Path(function.__code__.co_filename).stat().st_uid):
        return numba.cfunc(signature)(function)
    return made
