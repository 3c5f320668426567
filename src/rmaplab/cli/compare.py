"""`rmaplab compare WORKLOAD`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from rmaplab.cli.box_options import HT, box_options_but_cpus, prices_option, with_usual
from rmaplab.cli.mix_options import OF_MIX, SMALL, TINY, MixOptions, mix_options
from rmaplab.cli.options import (
    Output,
    check_files,
    check_workload,
    first_typed,
    gathered,
    output_options,
    plot_option,
    split_counts,
    split_levels,
    split_names,
)
from rmaplab.errors import UsageError
from rmaplab.kernels.box import Box

_JUDGED = "2.4.21,2.6.2,2.6.5-rc1,2.6.7"
KERNELS = {
    "forkbench": "2.6.2,2.6.5-rc1-aa1",
    "kbuild": _JUDGED,
    "localmalloc": "2.6.5-rc1-aa1,2.6.5-rc1+anonmm,2.6.5-rc1+anonmm_unordered,2.6.2",
    "mallocgroup": "2.6.5-rc1-aa1,6.18",
    "manyvmas": "2.6.2,2.6.5-rc1-aa1,2.6.7,6.18",
    "nonlinear-user": "2.6.2,2.6.5-rc1-aa1,2.6.5-rc2-aa2,2.6.7",
    "qsbench": _JUDGED,
    "rmap-test": "2.6.2,2.6.5-rc1-aa1,2.6.7",
    "sga": "2.4.21,2.6.2,2.6.5-rc1+00100,2.6.5-rc1-aa1",
    "swapload": "2.4.21,2.6.2,2.6.5-rc1,2.6.5-rc1-aa1,2.6.7",
}
WITH_CRYPT = "2.6.5-rc1-aa1"
"""Of swapload with --crypt: the one that reads all forms."""
F = TypeVar("F", bound=Callable[..., Any])


class Family(NamedTuple):
    """Of mallocgroup and localmalloc; helpers of the latter alone."""

    children: int
    pages: int
    walks: int
    helpers: int


class VmaPrograms(NamedTuple):
    """Of manyvmas."""

    tests: str
    indexes: str | None
    mlock: bool


class Segment(NamedTuple):
    """Of sga; None where nothing was typed."""

    users: int | None
    segment: str | None
    windows: bool


class Beyond(NamedTuple):
    """Of swapload; None where nothing was typed."""

    load: str | None
    seed: int | None
    forks: bool
    files: bool
    bursts: str
    crypt: str | None


def _of_a_mix(name: str) -> tuple[str, ...]:
    """What qsbench or kbuild has no use for; of another name what both have none for."""
    others = set(OF_MIX) - {name}
    mine = (option for other in others for option in OF_MIX[other])
    swapload = (option for option in _OF_SWAPLOAD if option != "seed")
    return (*("levels", "host", "reclaim", "plot"), *_OF_MALLOCGROUP, *_OF_MANYVMAS, *_OF_SGA, *swapload, *mine)


_OF_MALLOCGROUP = Family._fields
_OF_MANYVMAS = VmaPrograms._fields
_OF_SGA = Segment._fields
_OF_SWAPLOAD = Beyond._fields
_OF_MIX = MixOptions._fields
_OF_FORKBENCH = ("levels", "ht_list", "cpu_list", "host")
MEANINGLESS = {
    "forkbench": (*_OF_MALLOCGROUP, *_OF_MANYVMAS, *_OF_SGA, *_OF_SWAPLOAD, *_OF_MIX),
    "kbuild": _of_a_mix("kbuild"),
    "localmalloc": (
        *_OF_FORKBENCH,
        *_OF_MANYVMAS,
        *("ram", "swap", "reclaim"),
        *(*_OF_SGA, *_OF_SWAPLOAD, *_OF_MIX),
    ),
    "mallocgroup": (*_OF_FORKBENCH, "plot", "helpers", *_OF_MANYVMAS, *_OF_SGA, *_OF_SWAPLOAD, *_OF_MIX),
    "manyvmas": (*_OF_FORKBENCH, *_OF_MALLOCGROUP, "ram", *_OF_SGA, *_OF_SWAPLOAD, *_OF_MIX),
    "nonlinear-user": (*_of_a_mix(""), "seed"),
    "qsbench": _of_a_mix("qsbench"),
    "rmap-test": (*(name for name in _of_a_mix("") if name != "indexes"), "seed"),
    "sga": (*_OF_FORKBENCH, *_OF_MALLOCGROUP, *_OF_MANYVMAS, "plot", *_OF_SWAPLOAD, *_OF_MIX),
    "swapload": ("levels", "host", "reclaim", *_OF_MALLOCGROUP, *_OF_MANYVMAS, *_OF_SGA, *_OF_MIX),
}
"""Options of the other workloads."""
_FOR_SGA = {
    "ram": "several for sga; its default is 8G, that of qsbench and kbuild 64M",
    "swap": "sga's default is 0, swapload's 1G, that of qsbench and kbuild 128M",
    "boot_use": "qsbench and kbuild: 10M",
    "split": "several for sga; its default on i386 is 3:1,4:4",
    "levels": "forkbench alone",
    "host": "forkbench alone",
}
"""What is to be said besides, in the help of options that other verbs have, too."""


class OfOne(NamedTuple):
    """Options that one workload has, or two."""

    family: Family
    programs: VmaPrograms
    shared: Segment
    beyond: Beyond
    mix: MixOptions


def _options_of_one(function: F) -> F:
    """All of them, passed on as one argument `own`."""
    function = mix_options(gathered(function, "own", OfOne._fields, OfOne))
    for argument, record in (("family", Family), ("programs", VmaPrograms), ("shared", Segment), ("beyond", Beyond)):
        function = gathered(function, argument, record._fields, record)
    return function


_SERVER: dict[str, Any] = {"ram": "8G", "swap": "0"}
"""Of sga."""
_DESKTOP: dict[str, Any] = {"ram": "1G", "swap": "1G"}
"""Of swapload."""


def _one_box_is_enough(workload: str, plot: Path | None, *, host: bool) -> None:
    """Raises UsageError for what cannot be on several."""
    if workload != "forkbench":
        raise UsageError(f"{workload} runs on one box: give one --cpus and one --ht")
    if host:
        raise UsageError("--host has the CPUs it has: leave it out, or give one --cpus and one --ht")
    if plot is not None:
        raise UsageError("--plot draws times over levels on one box: give one --cpus and one --ht")


def _check_options(workload: str) -> None:
    """Raises UsageError for what only other workloads have."""
    typed = first_typed(MEANINGLESS[workload])
    if typed is not None:
        raise UsageError(f"{workload} has no {typed}: leave it out")


def _boxes(box: Box, cpu_list: str, ht_list: str) -> list[Box]:
    """Each number of CPUs with each way of hyper-threading."""
    counts, hows = split_counts(cpu_list, "cpus", "1,2,4"), split_names(ht_list, "ht")
    return [replace(box, cpus=nr, ht=how) for how in hows for nr in counts]


def _manyvmas(kernels: list[str], programs: VmaPrograms, box: Box, plot: Path | None, out: Output) -> None:
    from rmaplab.cli.work import compare as work

    tests, indexes, locked = programs
    index_list = [] if indexes is None else split_names(indexes, "indexes")
    work.manyvmas(split_names(tests, "tests"), kernels, index_list, box, plot, out, locked=locked)


def _swapload(kernels: list[str], box: Box, beyond: Beyond, plot: Path | None, out: Output) -> None:
    """The exit code is 1 if bytes were wrong."""
    from rmaplab.cli.work import compare as work

    if not work.swapload(kernels, box, beyond, split_counts(beyond.bursts, "bursts", "1,8,32"), plot, out):
        click.get_current_context().exit(1)


def _mix(workload: str, kernels: list[str], box: Box, mix: MixOptions, seed: int | None, out: Output) -> None:
    """The exit code is 1 if bytes were wrong."""
    from rmaplab.cli.work import compare as work

    if not work.mix(workload, kernels, box, mix, seed, out):
        click.get_current_context().exit(1)


def _rmap_test(kernels: list[str], indexes: str | None, box: Box, out: Output) -> None:
    from rmaplab.cli.work import compare as work

    index_list = [] if indexes is None else split_names(indexes, "indexes")
    if not work.rmap_test(kernels, index_list, box, out):
        click.get_current_context().exit(1)


def _nonlinear_user(kernels: list[str], box: Box, out: Output) -> None:
    from rmaplab.cli.work import compare as work

    if not work.nonlinear_user(kernels, box, out):
        click.get_current_context().exit(1)


def _pressed(workload: str, kernels: list[str], box: Box, own: OfOne, plot: Path | None, out: Output) -> None:
    """Those that have more to hold than there is RAM for, on the box that each has where nothing was typed."""
    if workload == "swapload":
        _swapload(kernels, with_usual(box, _DESKTOP), own.beyond, plot, out)
    elif workload == "nonlinear-user":
        _nonlinear_user(kernels, with_usual(box, TINY), out)
    elif workload == "rmap-test":
        _rmap_test(kernels, own.programs.indexes, with_usual(box, TINY | {"boot_use": "2M"}), out)
    else:
        _mix(workload, kernels, with_usual(box, SMALL), own.mix, own.beyond.seed, out)


PRESSED = ("swapload", "nonlinear-user", "rmap-test", *OF_MIX)


def _group(family: Family) -> Family:
    """What localmalloc has where nothing was typed."""
    return family._replace(**{name: nr for name, nr in _GROUP.items() if first_typed((name,)) is None})


_GROUP = {"children": 200, "pages": 32}
"""As many pages as glibc takes by mmap, and not from the heap."""


@click.command("compare")
@click.argument("workload")
@click.option("--levels", default="3,6,7", metavar="L,L,...", help="Depths of forking.")
@click.option(
    "--kernels",
    metavar="K,K,...",
    help=f"Kernels to compare.  [default: {'; '.join(f'{name}: {kernels}' for name, kernels in KERNELS.items())}]",
)
@click.option(
    "--children", default=1000, metavar="N", help="mallocgroup, localmalloc (200 there): processes that fork makes."
)
@click.option(
    "--pages", default=1000, metavar="N", help="mallocgroup, localmalloc (32 there): pages that each of them writes."
)
@click.option("--walks", default=200, metavar="N", help="mallocgroup, localmalloc: pages of each kind to walk from.")
@click.option(
    "--helpers", default=1, metavar="K", help="localmalloc: processes that each child forks to share its pages."
)
@click.option(
    "--tests",
    default="rmap-test-1,test-mmap",
    metavar="T,T,...",
    help="manyvmas: rmap-test-1 to rmap-test-4, test-mmap, test-mmap2, test-mmap3.",
)
@click.option(
    "--indexes",
    metavar="I,I,...",
    help="manyvmas, rmap-test: indexes of a file's VMAs for these kernels: list, rbtree, prio_tree, prio_tree_mended, interval_tree, or one that is "
    "installed.  [default: each kernel's own]",
)
@click.option("--mlock", is_flag=True, help="manyvmas: lock all mappings, and show what that changes.")
@click.option(
    "--users",
    type=int,
    metavar="N",
    help="sga: users that are really there, at most; of more, arithmetic.  [default: 1000; with --windows 2]",
)
@click.option("--segment", metavar="SIZE", help="sga: the segment.  [default: 2.7G; with --windows 512M]")
@click.option("--windows", is_flag=True, help="sga: mapped 32 KiB at a time, in order, backwards, by remap_file_pages.")
@click.option(
    "--load",
    metavar="SIZE",
    help="swapload: what the working set has more than RAM.  [default: 500M; below 512M of RAM half of that]",
)
@click.option(
    "--seed",
    type=int,
    metavar="N",
    help="swapload: of the pages that are touched at random; qsbench, kbuild: of what they draw.  [default: 1]",
)
@click.option("--forks/--no-forks", default=True, help="swapload: three processes are forked, or all are strangers.")
@click.option("--files", is_flag=True, help="swapload: a quarter of the working set lies in files, mapped and read.")
@click.option(
    "--bursts",
    default="32",
    metavar="N,N,...",
    help="swapload: page tables of work after which others may act; with 1,8,32 it is seen what hangs on that.",
)
@click.option(
    "--crypt",
    metavar="FORM",
    help="swapload: each kernel twice, on plain areas and on the same behind a loop device: twofish, twofish-ecb, twofish256, twofish-compat, twofishSL92. Minutes where plain areas take "
    f"seconds.  [default of --kernels then: {WITH_CRYPT}]",
)
@click.option("--host", is_flag=True, help="Run it on the real kernel too (needs a C compiler).")
@click.option(
    "--cpus",
    "cpu_list",
    default="4",
    metavar="N,N,...",
    help="Number of CPUs, such as 4; several, such as 1,2,4,8,16,32,64, show how it scales.",
)
@click.option("--ht", "ht_list", default="off", metavar="HOW,...", help=HT)
@prices_option
@box_options_but_cpus
@plot_option
@output_options
@_options_of_one
def command(
    workload: str,
    levels: str,
    kernels: str | None,
    own: OfOne,
    box: Box,
    cpu_list: str,
    ht_list: str,
    plot: Path | None,
    out: Output,
    *,
    host: bool,
) -> None:
    """Compare kernels under WORKLOAD (forkbench, kbuild, localmalloc, mallocgroup, manyvmas, nonlinear-user, qsbench, rmap-test, sga, swapload).

    forkbench is the benchmark of 18 March 2004: 512 MiB of memory, 2^level processes that read all of it. Where its seconds
    were published they stand beside the simulated ones. Several --cpus, or several --ht such as blind,aware, compare boxes.

    localmalloc: children that malloc after fork, of which the announcement says that anon_vma is better than anonmm. Case by case, what is
    visited to swap one page, and whether that sentence holds, ties or fails. --plot draws how visits grow with the children.

    mallocgroup is the mail of 21 January 2010: a thousand children write a thousand inherited pages each, on a box with the RAM
    that takes; how many VMAs does a walk visit to find a page's one mapping?

    manyvmas are the programs that map one file with up to 576,000 VMAs, of 2003 and 2004, at their published sizes: what does a walk
    from a page of the file visit, on lists, in trees, by chains? No seconds: visits alone. --plot draws how they grow with the VMAs.

    qsbench sorts more numbers than there is RAM for, as in 2001; kbuild is make -jN, short compilers on a box that they fill; rmap-test is the third of
    manyvmas where its file does not fit; nonlinear-user shows himself a file in any order (remap_file_pages): who finds his pages, and does the box live?

    sga: users attach a database's segment of 2.7 GiB until memory is gone, on 8 GiB without swap (mails of 2004). --ram and --split may be
    several. Minutes; up to 8 GiB of page tables and slabs are really there, beyond that it is arithmetic.

    swapload: RAM + 500M that four processes write, read and compare, under each kernel's reclaim. Exit code 1: a page has come back with other bytes.
    """
    check_workload(workload, KERNELS)
    _check_options(workload)
    usual = KERNELS[workload] if own.beyond.crypt is None else WITH_CRYPT
    kernel_list = split_names(usual if kernels is None else kernels, "kernels")
    level_list = split_levels(levels)
    boxes = _boxes(box, cpu_list, ht_list)
    check_files(out.path, plot)
    if len(boxes) > 1:
        _one_box_is_enough(workload, plot, host=host)
    from rmaplab.cli.work import compare as work

    if workload == "mallocgroup":
        work.mallocgroup(kernel_list, own.family[:3], boxes[0], out)
    elif workload == "localmalloc":
        work.localmalloc(kernel_list, _group(own.family), boxes[0], plot, out)
    elif workload == "manyvmas":
        _manyvmas(kernel_list, own.programs, boxes[0], plot, out)
    elif workload == "sga":
        work.sga(kernel_list, with_usual(box, _SERVER), own.shared, out)
    elif workload in PRESSED:
        _pressed(workload, kernel_list, boxes[0], own, plot, out)
    else:
        work.forkbench(kernel_list, level_list, boxes, plot, out, host=host)


for _option in command.params:
    if isinstance(_option, click.Option) and _option.name in _FOR_SGA:
        _option.help = f"{_option.help}  ({_FOR_SGA[_option.name]})"
