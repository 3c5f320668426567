"""Options that describe a box: of the verbs that boot one. Light to import."""

from dataclasses import fields, replace
from typing import Any

import click

from rmaplab.cli.options import F, applied, first_typed, gathered
from rmaplab.kernels.box import Box, announced

_TYPICAL = announced()
_CPUS = click.option("--cpus", default=_TYPICAL.cpus, metavar="N", help="Number of CPUs.")
_BOX = (
    click.option("--ram", default=_TYPICAL.ram, metavar="SIZE", help="RAM of the box, such as 512M or 2G."),
    click.option(
        "--swap",
        default=_TYPICAL.swap,
        metavar="SIZE",
        help="Swap: a size, or areas by priority such as 32M@5,./swapfile@3. Behind one ,crypt=twofish or twofish-compat: it lies encrypted; ,key=FILE: the passphrase is its first line.",
    ),
    click.option(
        "--reclaim/--no-reclaim",
        default=None,
        help="Make room when memory is out: swap, kill, or hang, as the kernel did. Takes minutes where hundreds share a full box.  [default: where this kernel's reclaim is here]",
    ),
    click.option(
        "--paging",
        default=None,
        metavar="FORMAT",
        help="i386, i386-pae or x86-64.  [default: the first on which all these kernels run; in 2004 i386-pae]",
    ),
    click.option(
        "--cache-line",
        "l1_cache_bytes",
        default=_TYPICAL.l1_cache_bytes,
        metavar="BYTES",
        help="Cache line: 32, 64 or 128 (Pentium 4).",
    ),
    click.option(
        "--highpte/--no-highpte",
        default=_TYPICAL.highpte,
        help="Page tables in high memory: 8-byte chain slots under PAE.",
    ),
    click.option(
        "--split",
        default=None,
        metavar="U:K",
        help="Addresses of user and kernel on i386: 3:1 (the default), 2:2 or 4:4.",
    ),
    click.option(
        "--boot-use",
        default=None,
        metavar="SIZE",
        help="What is in use after boot besides mem_map.  [default: the kernel's own figures, 38M]",
    ),
    click.option("--overcommit", default=_TYPICAL.overcommit, metavar="MODE", help="0 heuristic, 1 always, 2 strict."),
    click.option(
        "--disable-cap-mlock/--no-disable-cap-mlock",
        default=None,
        help="vm.disable_cap_mlock: everybody may lock memory, within RLIMIT_MEMLOCK. Of -aa, from 2.6.5-rc3 on.",
    ),
)
BOX = tuple(entry.name for entry in fields(Box))
"""All that can be said of a box; what a verb has no option for is as Box has it."""
HT = "Hyper-threading, two CPUs to a core: off, on (known to the scheduler as the kernel's is), aware, blind."
_HT = click.option("--ht", default=_TYPICAL.ht, metavar="HOW", help=HT)
prices_option = click.option(
    "--prices", metavar="NAME", help="Price list of simulated time.  [default: 2004, with --ht 2004-ht]"
)


def box_options(function: F) -> F:
    """The options that describe a box, passed on as one argument `box`; the default is the announcement's."""
    return _CPUS(box_options_but_cpus(function))


def box_options_but_cpus(function: F) -> F:
    """The same for a verb that has a --cpus of its own."""
    return applied(_BOX, gathered(function, "box", BOX, Box))


def time_options(function: F) -> F:
    """--ht and --prices, for the box; above box_options."""
    return _HT(prices_option(function))


def with_usual(box: Box, usual: dict[str, Any]) -> Box:
    """The box that a workload has where nothing was typed."""
    return replace(box, **{name: text for name, text in usual.items() if first_typed((name,)) is None})
