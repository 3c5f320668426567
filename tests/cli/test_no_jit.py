"""`live` and `who` look at the machine as it is: nothing of that is compiled, and Numba need not even be there."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
sys.modules["numba"] = None  # an import of it fails
from rmaplab.cli import main
main(sys.argv[1:])
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
