"""Names of /proc/meminfo and /proc/vmstat, their order and form, beside the running kernel's."""

from pathlib import Path

import pytest

import rmaplab
from rmaplab.mm.proc_meminfo import MeminfoEra, meminfo_line


def test_meminfo_is_in_the_order_of_the_host() -> None:
    """As far as it has the same names; and each of its lines with one of these names we would print so, to the letter."""
    names = list(rmaplab.boot("6.18", ram="64M").meminfo())
    lines = [
        line for line in Path("/proc/meminfo").read_text().splitlines(keepends=True) if line.split(":")[0] in names
    ]
    theirs = [line.split(":")[0] for line in lines]
    assert theirs == [name for name in names if name in theirs]
    for name, line in zip(theirs, lines, strict=True):
        assert meminfo_line(name, int(line.split()[1]), MeminfoEra.LINUX_6_18) == line


def test_vmstat_is_in_the_order_of_the_host() -> None:
    names = list(rmaplab.boot("6.18", ram="64M").vmstat())
    theirs = [line.split()[0] for line in Path("/proc/vmstat").read_text().splitlines()]
    assert [name for name in theirs if name in names] == [name for name in names if name in theirs]


def test_a_6_18_has_all_these_names() -> None:
    """But for what its configuration leaves out, they are those of the kernel that is modelled."""
    if not Path("/proc/version").read_text().startswith("Linux version 6.18."):
        pytest.skip("this machine runs another kernel")
    system = rmaplab.boot("6.18", ram="64M")
    for shown, text in ((system.meminfo(), "meminfo"), (system.vmstat(), "vmstat")):
        theirs = {line.split()[0].rstrip(":") for line in Path(f"/proc/{text}").read_text().splitlines()}
        assert not shown.keys() - theirs
