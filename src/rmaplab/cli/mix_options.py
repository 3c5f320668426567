"""Options of qsbench and kbuild, which `run` and `compare` both have. Light to import."""

from typing import Any, NamedTuple

import click

from rmaplab.cli.options import F, applied, gathered


class MixOptions(NamedTuple):
    """What was typed of them; None where nothing was."""

    array: str | None
    processes: int | None
    jobs: int | None
    compiles: int | None


_OPTIONS = (
    click.option(
        "--array",
        metavar="SIZE",
        help="qsbench: the array of each process.  [default: 350/256 of RAM, shared out]",
    ),
    click.option(
        "-p", "--processes", type=int, metavar="N", help="qsbench: processes that sort, at once.  [default: 1]"
    ),
    click.option("-j", "--jobs", type=int, metavar="N", help="kbuild: compilers at once.  [default: 4]"),
    click.option("--compiles", type=int, metavar="N", help="kbuild: files to compile.  [default: 40]"),
)
OF_QSBENCH, OF_KBUILD = ("array", "processes"), ("jobs", "compiles")
OF_MIX = {"qsbench": OF_QSBENCH, "kbuild": OF_KBUILD}
SMALL: dict[str, Any] = {"ram": "64M", "swap": "128M", "boot_use": "10M"}
"""Their box where nothing was typed: mem=64m was what such kernels were tried on. Of a user land most goes to swap; that 10 MB stay is believed."""
TINY: dict[str, Any] = {"ram": "16M", "swap": "16M", "boot_use": "8M"}
"""Of nonlinear-user."""


def mix_options(function: F) -> F:
    """All of them, passed on as one argument `mix`."""
    return applied(_OPTIONS, gathered(function, "mix", MixOptions._fields, MixOptions))
