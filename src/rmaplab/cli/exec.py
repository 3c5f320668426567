"""`rmaplab exec -- PROGRAM ARGS`."""

from pathlib import Path

import click

from rmaplab.cli.box_options import box_options, time_options
from rmaplab.cli.options import FILE, Output, gdb_option, output_options, split_names
from rmaplab.errors import UsageError
from rmaplab.files import check_writable
from rmaplab.kernels.box import Box

KERNEL = "2.6.5-rc1-aa1"


@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.argument("program", nargs=-1, type=click.UNPROCESSED, required=True)
@click.option("--kernel", metavar="K", help=f"The kernel (see: rmaplab kernels).  [default: {KERNEL}]")
@click.option(
    "--compare", metavar="K1,K2", help="Several kernels, one after the other; the output shown is the first one's."
)
@click.option(
    "--root",
    default="/",
    metavar="DIR",
    help="The directory that it sees as /. It is never written to: what the program writes stays in simulated memory.",
)
@click.option("--scratch", metavar="DIR", help="Write what it has written below this directory at the end.")
@click.option(
    "--env", multiple=True, metavar="NAME=VALUE", help="One more variable of its environment; NAME alone is passed on."
)
@click.option(
    "--stats", is_flag=True, help="What it has cost, as a table on stderr; with --output or --format as they say."
)
@gdb_option
@click.option("--timeline", **FILE, help="Tasks, memory and reclaim over time, as Chrome trace JSON.")
@click.option(
    "--date",
    default="2004-03-18",
    metavar="DAY",
    help="The day on which it runs: YYYY-MM-DD, or now (for make, which complains of files of the future).",
)
@click.option("--seed", default=0, metavar="N", help="Of the random bytes that it gets.")
@click.option("--output-limit", default="64M", metavar="SIZE", help="End it when it has written more than this.")
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=30_000,
    metavar="N",
    help="End it when it has more processes and threads than this at once.",
)
@click.option("--blocks", default="1T", metavar="N", help="End it when it has run more basic blocks than this.")
@click.option(
    "--seconds", type=click.IntRange(min=1), default=10**9, metavar="N", help="End it after so much simulated time."
)
@time_options
@box_options
@output_options
def command(
    program: tuple[str, ...],
    kernel: str | None,
    compare: str | None,
    root: str,
    scratch: str | None,
    env: tuple[str, ...],
    stats: bool,
    gdb: tuple[str, int] | None,
    timeline: Path | None,
    date: str,
    seed: int,
    output_limit: str,
    processes: int,
    blocks: str,
    seconds: int,
    box: Box,
    out: Output,
) -> None:
    """Run an unmodified Linux program on a kernel of your choice.

    Its loads and stores go through page tables in simulated RAM, its memory through that kernel's reverse map. stdin, stdout, stderr and the exit status are its
    own; 128 and the signal's number if one has ended it, 125 if it did not end. Programs of 64 bits run on x86-64 tables, those of 32 on i386 and i386-pae. This is no security boundary.
    """
    if kernel is not None and compare is not None:
        raise UsageError("--kernel and --compare: give one of them")
    kernels = split_names(compare, "kernels") if compare is not None else [kernel or KERNEL]
    for option, given in (("--timeline", timeline), ("--gdb", gdb)):
        if given is not None and len(kernels) > 1:
            raise UsageError(f"{option} is of one kernel: give --kernel in place of --compare")
    if timeline is not None:
        check_writable(timeline)
    check_writable(out.path)
    from rmaplab.cli.work import exec as work

    limits = work.TypedBounds(output_limit, processes, blocks, seconds)
    click.get_current_context().exit(
        work.run(
            program,
            kernels,
            box,
            out,
            work.Seen(root, scratch, env, date, seed, limits),
            stats=stats,
            compared=compare is not None,
            timeline=timeline,
            gdb=gdb,
        )
    )
