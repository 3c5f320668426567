"""Anonymous memory under random calls on a box that is too small for it: whom a call leaves without an answer."""

from rmaplab.lab.conformance.pressure_run import PressureRun


def test_who_waits_for_memory_when_his_pages_have_moved_is_gone() -> None:
    """What is locked has moved (mremap): the new pages are waited for, and nobody has told him where the old ones are now."""
    run = PressureRun("2.6.7", 100023, paging="x86-64")
    run.run(200)
    moved = next(i for i, line in enumerate(run.lines) if "suppress(rmaplab.NoMemory)" in line and "mremap(" in line)
    task = run.lines[moved].split("= ")[1].split(".")[0]
    assert run.lines[moved + 1] == f"{task}.exit()"
