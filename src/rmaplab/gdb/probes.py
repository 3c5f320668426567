"""Breakpoints in the simulated kernel: kgdb puts an int3 at the beginning of a function, and this does what comes to the same.

    def do_munmap(k, mm, ...):       its code is exchanged for one that calls `arrived`, which asks whoever has set
        ...                          the probe, and then runs what was there

Whoever has the function, under whatever name, has the probe; where none is, nothing is asked and nothing costs. The functions of the kernel know nothing of it.
Probes are of the process: who has set one is told of every system's, and looks whose it is.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import CodeType, FunctionType
from typing import Any

from rmaplab.errors import KernelBug, UsageError

Handler = Callable[[Mapping[str, Any]], None]
"""Is given the arguments by name, before anything is done with them."""


@dataclass
class _Probed:
    """A function with probes: `code` is its own, `original` does what it did."""

    function: FunctionType
    code: CodeType
    original: Callable[..., Any]
    signature: inspect.Signature
    handlers: list[Handler]


_probed: dict[str, _Probed] = {}


def find_function(place: str) -> FunctionType:
    """What "module:name" of this package is. Raises KernelBug: there is none, or it cannot be probed."""
    module, _, name = place.partition(":")
    found: Any = import_module(f"rmaplab.{module}")
    for part in name.split("."):
        found = inspect.getattr_static(found, part, None)
    if not isinstance(found, FunctionType) or found.__code__.co_freevars:
        raise KernelBug("kprobe", f"{place} is no function that can be probed")
    return found


def arrived(place: str, arguments: tuple[Any, ...], more: dict[str, Any]) -> Any:
    """A probed function was called."""
    probed = _probed[place]
    bound = probed.signature.bind(*arguments, **more)
    bound.apply_defaults()
    for handler in list(probed.handlers):
        handler(bound.arguments)
    return probed.original(*arguments, **more)


def probe(place: str, handler: Handler) -> None:
    """Have `handler` called whenever that function is. Raises UsageError: a module that it needs is not installed."""
    if place not in _probed:
        try:
            function = find_function(place)
        except ImportError as absent:
            raise UsageError(f"{place}: {absent}") from None
        original = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
        original.__kwdefaults__ = function.__kwdefaults__
        _probed[place] = _Probed(function, function.__code__, original, inspect.signature(function), [])
        function.__code__ = _call_of(place)
    _probed[place].handlers.append(handler)


def remove(place: str, handler: Handler) -> None:
    """It is not called any more; with the last one the function is as it was. Nothing happens if it was not."""
    probed = _probed.get(place)
    if probed is None or handler not in probed.handlers:
        return
    probed.handlers.remove(handler)
    if not probed.handlers:
        probed.function.__code__ = probed.code
        del _probed[place]


def nr_probed() -> int:
    """How many functions have probes now."""
    return len(_probed)


def _call_of(place: str) -> CodeType:
    """The code of a function that calls `arrived`, and needs nothing of the module that it is put into."""
    names: dict[str, Any] = {}
    source = (
        "def probed(*arguments, **more):\n"
        "    from rmaplab.gdb.probes import arrived\n"
        f"    return arrived({place!r}, arguments, more)\n"
    )
    exec(source, names)  # noqa: S102  (of our own words)
    code: CodeType = names["probed"].__code__
    return code
