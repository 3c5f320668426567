"""Classes that are found by their import path: designs and indexes of files, ours and those of other packages."""

from importlib import import_module
from typing import TypeVar

from rmaplab.errors import UsageError

T = TypeVar("T")


def load_class(path: str, what: str, base: type[T]) -> type[T]:
    """The class at `module:Class`, a `what` in words. Raises UsageError if it cannot be imported or is no `base`."""
    module, _, name = path.partition(":")
    try:
        found = getattr(import_module(module), name)
    except Exception as error:  # noqa: BLE001  (another package's code: it may raise anything)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"{what} {path} cannot be loaded ({reason}): check the package that offers it") from None
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UsageError(f"{what} {path} is not a {base.__name__}: derive it from {base.__module__}.{base.__name__}")
    return found


def demand_whole(found: type, path: str, what: str, see: str) -> None:
    """Raises UsageError where something that its base leaves open is not there."""
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        raise UsageError(f"{what} {path} does not say {', '.join(missing)}: see {see}")
