"""`live` and `who` look at the machine as it is, `kernels` boots for a table of sizes: nothing of that is compiled, and Numba need not even be there.

Nor does `live` load what it has no use for: the machine that the model runs on, or what draws on a terminal. That is a third of its time.
"""

import os
import subprocess
import sys

import pytest

from rmaplab.cli import main
from rmaplab.kernels.system import boot

PROGRAM = """
import os, sys
sys.modules["numba"] = None  # an import of it fails
from rmaplab.cli import main
main(sys.argv[1:])
"""
NOT_OF_A_LOOK = {
    "greenlet",
    "rich",
    "numpy.ma",
    "numpy.random",
    "csv",
    "difflib",
    "importlib.metadata",
    "json",
    "shutil",
    "tempfile",
    "zipfile",
    "rmaplab.kernels.box",
    "rmaplab.kernels.spec",
    "rmaplab.machine.locks",
    "rmaplab.machine.machine",
    "rmaplab.machine.sched",
    "rmaplab.machine.slab",
    "rmaplab.mm",
}
LOADED = """
import sys
from rmaplab.cli import main
try:
    main(sys.argv[1:])
finally:
    print(*sorted(sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments", [["live", "--top", "3"], ["live", "--tree"], ["who", str(os.getpid()), "[stack]"]]
)
def test_the_live_half_needs_no_jit(arguments: list[str]) -> None:
    """Whatever rung we stand on: it answers, or says in one line what it would need."""
    program = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=100)
    assert "numba" not in done.stderr
    assert done.returncode == 0 or (arguments[-1] == "--tree" and "rung" in done.stderr), done.stderr


@pytest.mark.parametrize("arguments", [[], ["2.6.2"], ["6.18"]])
def test_what_a_kernel_consists_of_needs_no_jit(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """And what Python says of it is what machine code says."""
    program = [sys.executable, "-c", PROGRAM, "kernels", *arguments]
    interpreted = subprocess.run(program, capture_output=True, text=True, check=True, timeout=100).stdout
    boot("2.6.2", ram="64M")
    assert "numba" in sys.modules
    with pytest.raises(SystemExit):
        main(["kernels", *arguments])
    assert capsys.readouterr().out == interpreted
    assert not arguments or "slabs by cache line" in interpreted


def test_a_look_at_one_loads_what_it_uses() -> None:
    """Of the house and of libraries: on whatever rung, a table into a pipe."""
    program = [sys.executable, "-c", LOADED, "live", "--pid", str(os.getpid())]
    done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=100)
    assert str(os.getpid()) in done.stdout
    loaded = set(done.stderr.splitlines()[-1].split())
    assert "rmaplab.lab.census.census" in loaded
    assert sorted(loaded & NOT_OF_A_LOOK) == []


@pytest.mark.parametrize(("given", "then"), [(None, "1"), ("3", "3")])
def test_matrices_get_one_thread_unless_somebody_has_said_how_many(given: str | None, then: str) -> None:
    """OpenBLAS starts one per CPU, and they wait busily: as much CPU time as all the rest of NumPy's start."""
    own = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    said = own if given is None else own | {"OPENBLAS_NUM_THREADS": given}
    program = "import os; from rmaplab.cli import main\ntry: main(['--version'])\nfinally: print(os.environ['OPENBLAS_NUM_THREADS'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=said)
    assert done.stdout.splitlines()[-1] == then
