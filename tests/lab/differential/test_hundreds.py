"""Scripts of hundreds of processes and threads, on the model and on the real kernel: too long to be recorded."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from rmaplab.host.agent import Agent
from rmaplab.lab.differential.compare import compare
from rmaplab.lab.differential.obey import obey
from rmaplab.workloads.script import MOST_PROCESSES, parse, read_script

REQUIRE_ALL = bool(os.environ.get("RMAPLAB_REQUIRE_ALL"))
SCRIPTS = sorted((Path(__file__).parents[2] / "data" / "check-many").glob("*.script"))
here = (
    os.uname().machine == "x86_64" and os.uname().sysname == "Linux" and bool(shutil.which("cc") or shutil.which("gcc"))
)
needs_agent = pytest.mark.skipif(not REQUIRE_ALL and not here, reason="no C compiler, or not Linux on x86-64")


@needs_agent
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_hundreds_do_the_same(path: Path) -> None:
    """Results, and what is looked at: those that an operation is about, all of them at the end."""
    script = read_script(path)
    with Agent() as agent:
        host = agent.run(script)
        if agent.version != (6, 18) and not REQUIRE_ALL:
            pytest.skip(f"this is Linux {agent.release}, not 6.18")
        model = obey(script, "6.18", agent.circumstances)
    assert model.error is None
    assert compare(host, model) is None
    assert len(script.processes) > 300


@needs_agent
def test_as_many_as_may_live() -> None:
    """All at once, in a chain, and everybody has what the first has written."""
    text = "A: mmap w+0 1 rw\nA: write w+0\nA: fork P0\n"
    text += f"repeat {MOST_PROCESSES - 2} i\nP{{i}}: fork P{{i+1}}\nend\nP{MOST_PROCESSES - 2}: read w+0 => #2\n"
    script = parse(text)
    with Agent() as agent:
        host = agent.run(script)
        assert host.results[-1] == "#2"
        assert len(host.worlds[-1]) == MOST_PROCESSES
        assert agent.run(parse("A: mmap w+0 1 rw")).results == ["w+0"]
