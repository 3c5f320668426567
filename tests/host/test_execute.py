"""Running anonymous memory: the model of 6.18 and this machine's kernel (x86-64, any version with NX) say the same.

PROT_READ, not written       read fault: the zero page comes      then refused, because of NX
PROT_EXEC                    runs: a return was written there
"""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

import rmaplab
from rmaplab.errors import SegmentationFault
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.units import PAGE_SIZE

REQUIRE_ALL = bool(os.environ.get("RMAPLAB_REQUIRE_ALL"))
pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the model's entries are those of x86"),
    pytest.mark.skipif(not REQUIRE_ALL and not shutil.which("cc"), reason="no C compiler"),
]


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    binary = tmp_path_factory.mktemp("execute") / "execute"
    subprocess.run(["cc", "-O1", "-o", binary, Path(__file__).with_name("execute.c")], check=True)
    return binary


def model(prot: int, *, written: bool) -> str:
    system = rmaplab.boot("6.18", ram="64M")
    task = system.spawn()
    at = task.mmap(PAGE_SIZE)
    if written:
        task.write(at, b"\xc3")
    task.mprotect(at, PAGE_SIZE, prot)
    try:
        task.execute(at)
    except SegmentationFault as fault:
        assert fault.address == at
        assert task.mm is not None
        return f"refused, {'present' if read_page_tables(system.machine, task.mm.pgd)[0].pfns.size else 'absent'}"
    return "ran"


@pytest.mark.parametrize("prot", range(8))
@pytest.mark.parametrize("written", [False, True])
def test_what_may_be_run(runner: Path, prot: int, *, written: bool) -> None:
    if prot & 4 and not written:
        return  # zeros are no program that ends by itself
    said = subprocess.run(
        [runner, str(prot), *(["written"] if written else [])], capture_output=True, text=True, check=True
    )
    assert model(prot, written=written) == said.stdout.strip()
