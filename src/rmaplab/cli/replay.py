"""`rmaplab replay LOG`."""

from pathlib import Path

import click

from rmaplab.cli.box_options import box_options
from rmaplab.cli.options import Output, check_files, output_options, plot_option, split_names
from rmaplab.kernels.box import Box

USUAL = {"ram": "2G", "swap": "0"}
"""Of the box, where nothing is typed."""


@click.command("replay")
@click.argument("log", metavar="LOG", type=click.Path(path_type=Path))
@click.option(
    "--kernels",
    default="2.4.21,2.6.2,2.6.5-rc1-aa1,2.6.7,6.18",
    metavar="K,K,...",
    help="Kernels to replay it on.",
)
@click.option(
    "--touch",
    default="used",
    metavar="WHAT",
    help="Memory that is touched, for a log does not say: none; used (what calls show to have been used); all (and every private writable mapping, whole).",
)
@click.option(
    "--over-time", "samples", type=click.IntRange(0), metavar="N", help="Show N samples over the log's calls."
)
@click.option("--check/--no-check", default=True, help="Recompute everything at the end of each, and ask the judge.")
@plot_option
@box_options
@output_options
def command(
    log: Path, kernels: str, touch: str, samples: int | None, check: bool, plot: Path | None, box: Box, out: Output
) -> None:
    """Make the calls of a recorded program again, on simulated kernels, and show what each made of them.

    LOG is one of `rmaplab record`, or of strace -f -xx -X raw (compressed if it ends in .gz). Mappings, files and processes come and go as they did;
    where they lie is each kernel's own affair. What was not understood is counted by name, and so are calls that came to something else than on the
    host. The box has 2G of RAM if no other is said, and the page tables of x86-64 where all kernels have them; when RAM is full it ends there.
    docs/replay.md says what is assumed.
    """
    names = split_names(kernels, "kernels")
    check_files(out.path, plot)
    from rmaplab.cli.work.replay import replay_log

    replay_log(log, names, touch, samples, check, plot, box, out)


command.params = [option for option in command.params if option.name != "reclaim"]  # none is here
for option in command.params:
    option.default = USUAL.get(option.name or "", option.default)
    if isinstance(option, click.Option) and option.name == "paging":
        option.help = "i386, i386-pae or x86-64.  [default: x86-64 where all these kernels have it]"
