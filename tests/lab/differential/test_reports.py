"""What people have reported, and what the kernel's own tests look at: scripts with expectations, on the model and on the host.

Each says in its head who reported what, when and where.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from rmaplab.host.agent import Agent
from rmaplab.lab.differential.compare import compare
from rmaplab.lab.differential.obey import obey
from rmaplab.workloads.script import read_script

REPORTS = sorted((Path(__file__).parents[2] / "data" / "reports").glob("*.script"))
NAMES = [path.stem for path in REPORTS]
REQUIRE_ALL = bool(os.environ.get("RMAPLAB_REQUIRE_ALL"))
here = (
    os.uname().machine == "x86_64" and os.uname().sysname == "Linux" and bool(shutil.which("cc") or shutil.which("gcc"))
)
needs_agent = pytest.mark.skipif(not REQUIRE_ALL and not here, reason="no C compiler, or not Linux on x86-64")


@pytest.fixture(scope="module")
def linux_6_18() -> Iterator[Agent]:
    with Agent(graph=True) as agent:
        if agent.version != (6, 18) and not REQUIRE_ALL:
            pytest.skip(f"this is Linux {agent.release}, not 6.18")
        yield agent


def test_there_are_many_and_each_has_a_source() -> None:
    """A head of two lines or more; something is expected of each; no two are the same but for their names."""
    assert len(REPORTS) >= 45
    texts = set()
    for path in REPORTS:
        head = path.read_text().split("\nA: ")[0].splitlines()
        assert sum(line.startswith("# ") for line in head) >= 2, path.name
        ops = read_script(path).ops
        assert any(op.expected for op in ops), path.name
        texts.add("\n".join(str(op) for op in ops))
    assert len(texts) == len(REPORTS)


@pytest.mark.parametrize("path", REPORTS, ids=NAMES)
def test_the_model_does_it(path: Path) -> None:
    """Every line comes to what is expected; the kernel checks itself after each."""
    model = obey(read_script(path), "6.18", check_each=True, graph=True)
    assert model.error is None
    assert compare(model, model) is None, model.results


@needs_agent
@pytest.mark.parametrize("path", REPORTS, ids=NAMES)
def test_linux_does_it(linux_6_18: Agent, path: Path) -> None:
    """The same, and nothing else differs either: VMAs, pages, page tables, anon_vmas."""
    around = linux_6_18.circumstances
    if "of-root" in path.stem and not around.privileged and not REQUIRE_ALL:
        pytest.skip("this is what root may do")
    script = read_script(path)
    host = linux_6_18.run(script)
    difference = compare(host, obey(script, "6.18", around, graph=not linux_6_18.no_graph))
    assert difference is None, (difference.op, difference.aspect, host.results)
