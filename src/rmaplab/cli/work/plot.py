"""Drawing what was found, where that was asked for."""

from importlib import import_module
from pathlib import Path


def draw(plot: Path | None, by: str, *found: object) -> None:
    """Have `by`, "module:function" of report/, draw what was found into the file `plot`.

    It is imported here and now: matplotlib takes its time, and need not be installed.
    """
    if plot is not None:
        module, _, function = by.partition(":")
        getattr(import_module(f"rmaplab.report.{module}"), function)(*found, plot)
