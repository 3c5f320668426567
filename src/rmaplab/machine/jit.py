"""Numba, typed for the rest of the house.

A kernel here is a function over plain arrays and integers that cannot fail: whoever calls it has counted and allocated
before. It is compiled at first use and the machine code is cached beside the source.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile `function` lazily, one version per combination of argument types."""
    return cast("F", numba.njit(cache=True)(function))


def inline(function: F) -> F:
    """Compile `function` into each of its callers."""
    return cast("F", numba.njit(inline="always")(function))
