"""Scripts with a box: what the model makes of it, when the host is asked, and what the era did when memory was out."""

from __future__ import annotations

from pathlib import Path

import pytest

from rmaplab.errors import NotModelled, UsageError
from rmaplab.lab.differential.alone import why_alone
from rmaplab.lab.differential.compare import unexpected
from rmaplab.lab.differential.obey import Obedient, obey
from rmaplab.lab.differential.recording import load, save
from rmaplab.reclaim import direct
from rmaplab.report.differences import shown
from rmaplab.workloads.box import ScriptBox
from rmaplab.workloads.script import parse, read_script
from rmaplab.workloads.world import Circumstances

MODEL = Path(__file__).parents[2] / "data" / "model"
HERE = Circumstances(promised=5 << 30, swap=1 << 30, max_map_count=65530)


def results(text: str, kernel: str = "6.18", around: Circumstances = HERE) -> list[str]:
    record = obey(parse(text), kernel, around)
    assert record.error is None
    return record.results


@pytest.mark.parametrize("path", sorted(MODEL.glob("*.script")), ids=lambda path: path.name)
def test_scripts_that_only_a_model_can_run(path: Path) -> None:
    """Each comes to what it expects, and no host of ours would be asked."""
    script = read_script(path)
    assert any(op.expected for op in script.ops)
    assert why_alone(script, HERE)
    record = obey(script, "6.18", HERE, check_each=True)
    assert record.error is None
    assert unexpected(record) is None


@pytest.mark.parametrize(
    ("box", "why"),
    [
        ("box host", ""),
        ("box swap=1G overcommit=0 max_map_count=65530 ratio=9", ""),
        ("box swap=0", "its box has swap=0, and this machine 1G"),
        ("box overcommit=1", "its box has overcommit=1, and this machine 0"),
        ("box max_map_count=9", "its box has max_map_count=9, and this machine 65530"),
        ("box overcommit=2", "in overcommit mode 2 what all others are promised counts too"),
        ("box ram=4G", "the script has a machine of its own (box ram=4G)"),
    ],
)
def test_when_the_host_is_not_asked(box: str, why: str) -> None:
    """Where its own settings are others."""
    assert why_alone(parse(f"{box}\nA: wait"), HERE) == why


def test_what_is_expected_of_a_model_alone() -> None:
    """An expectation that is not met, and a model that breaks down, differ."""
    record = obey(parse("box ram=64M\nA: mmap w+0 1 rw => ENOMEM"), "6.18", HERE)
    difference = unexpected(record)
    assert difference is not None
    assert (difference.aspect, difference.is_of_one, difference.what) == ("expectation", True, "ENOMEM")


def test_promises_without_a_ram_are_the_hosts() -> None:
    """4 GiB of RAM and 1 GiB of swap in one mapping, not a page more; with the box's swap it is its own. Frames are ours."""
    most = 5 << 30 >> 12
    assert results(f"A: mmap w+0 {most} rw\nA: munmap w+0 {most}\nA: mmap w+0 {most + 1} rw") == ["w+0", "ok", "ENOMEM"]
    less = most - (1 << 18)
    assert results(f"box swap=0\nA: mmap w+0 {less} rw\nA: munmap w+0 {less}\nA: mmap w+0 {less + 1} rw") == [
        "w+0",
        "ok",
        "ENOMEM",
    ]
    with pytest.raises(UsageError, match="the model's box of 256M is too small"):
        results("box swap=0\nA: mmap w+0 100000 rw POPULATE")


def test_promises_of_mode_2_without_a_ram_are_counted_from_the_hosts() -> None:
    """RAM x ratio + swap; a user's reserve is a 32nd of what he has, root has no other."""
    limit = ((4 << 30) * 25 // 100 + (1 << 30)) >> 12
    for asked, result in ((limit - 1, "w+0"), (limit, "ENOMEM")):
        assert results(f"box overcommit=2 ratio=25\nA: mmap w+0 {asked} rw") == [result]


def test_with_a_ram_both_are_its_own() -> None:
    """Frames, and promises: what is not the kernel's own."""
    system = Obedient("6.18", HERE, ScriptBox(ram=96 << 20, swap=32 << 20)).system
    assert system.machine.frames.nr == 96 << 20 >> 12
    most = system.machine.allocator.totalram_pages + (32 << 20 >> 12)
    head = "box ram=96M swap=32M\n"
    assert results(f"{head}A: mmap w+0 {most} rw\nA: munmap w+0 {most}\nA: mmap w+0 {most + 1} rw") == [
        "w+0",
        "ok",
        "ENOMEM",
    ]


def test_full_memory_by_era() -> None:
    """2.4 kills who faults, 2.6 and 6.18 choose; with swap pages would go there."""
    full = "box ram=64M overcommit=1\nA: mmap w+0 30000 rw\nA: write w+0 30000\nA: read w+0"
    for kernel in ("2.4.21", "2.6.2", "6.18"):
        assert results(full, kernel) == ["w+0", "SIGKILL", "ESRCH"]
    with pytest.raises(NotModelled, match="line 3: RAM is full, and pages would go to swap"):
        results(full.replace("box", "box swap=1G"))


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2"])
def test_what_is_too_much_for_ram_goes_to_swap_and_comes_back(kernel: str) -> None:
    """26 MiB are free after boot, and 31 are written; a child copies some of what is out."""
    script = """box ram=64M swap=64M overcommit=1
    A: mmap w+0 8000 rw
    A: write w+0 8000
    A: fork B
    B: write w+7 1
    A: read w+7
    B: read w+7
    B: read w+6
    A: read w+7999"""
    assert results(script, kernel)[3:] == ["ok", "#2.7", "#4", "#2.6", "#2.7999"]


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.5-rc1-aa1"])
def test_when_swap_is_full_too_somebody_is_killed(kernel: str) -> None:
    """2.6: after ten calls of out_of_memory, the one who has mapped most. 2.4: who has faulted in vain."""
    script = """box ram=64M swap=2M overcommit=1
    A: mmap w+0 100 rw
    A: write w+0 100
    A: fork B
    B: mmap w+200 9000 rw
    B: write w+200 9000
    A: wait
    A: read w+99"""
    assert results(script, kernel)[4:] == ["SIGKILL", "B killed by SIGKILL", "#2.99"]


def test_who_locks_all_of_memory_hangs_while_swap_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be taken, and free swap keeps the killer away: for ever. Who needs none goes on. (A second is a minute here: it is much scanning.)"""
    monkeypatch.setattr(direct, "HANG_NS", 10**9)
    script = """box ram=64M swap=64M overcommit=1
    A: mmap w+0 9000 rw
    A: write w+0 1
    A: fork B
    B: mlock w+0 9000
    B: read w+0
    A: mmap w+9000 1 rw"""
    assert results(script, "2.6.7")[2:] == ["ok", "hung", "hung", "w+9000"]


def test_who_is_gone_has_no_reason_of_somebody_elses() -> None:
    """ESRCH of B, whose fork has failed, says nothing of what A's last call had."""
    record = obey(
        parse("box ram=64M overcommit=2 ratio=60\nA: mmap w+0 5000 rw\nA: fork B\nB: read w+0"), "2.6.2", HERE
    )
    assert (record.results[1:], bool(record.reasons[1]), record.reasons[2]) == (["ENOMEM", "ESRCH"], True, "")


def test_a_kernel_without_the_sysctl_says_so() -> None:
    """2.6.2 has a constant; the host's own value is nothing to it."""
    with pytest.raises(UsageError, match=r"vm\.max_map_count cannot be set on 2\.6\.2: leave max_map_count out"):
        results("box max_map_count=10\nA: wait", "2.6.2")
    assert results("A: wait", "2.6.2") == ["ECHILD"]


def test_a_box_too_small_to_boot_is_one_line() -> None:
    """With the script's name."""
    with pytest.raises(UsageError, match=r"^script: 1 MiB of RAM is too small") as caught:
        results("box ram=1M\nA: wait")
    assert "\n" not in str(caught.value)


def test_a_recording_keeps_the_box(tmp_path: Path) -> None:
    """As it stands in the script, and what the host's was."""
    record = obey(parse("box max_map_count=65530 swap=1G\nA: mmap w+0 1 rw"), "6.18", HERE)
    save(tmp_path / "x.json", [record], "the model")
    (again,) = load(tmp_path / "x.json")[1]
    assert (again.script.box, again.around) == (record.script.box, HERE)


@pytest.mark.parametrize(
    ("text", "kernel", "why"),
    [
        ("A: mmap w+0 1310721 rw", "6.18", "overcommit: 1,310,721 pages are asked for, more than all RAM and swap: 1,310,720"),
        ("box overcommit=2 ratio=0 swap=1M\nA: mmap w+0 256 rw", "6.18", "overcommit: 256 pages are asked for, more than the limit of promises leaves (mode 2): 255"),
        ("box ram=64M\nA: mmap w+0 20000 rw", "2.6.2", "overcommit: 20,000 pages are asked for, more than what is free, with swap: "),
        ("box ram=64M\nA: mmap w+0 20000 rw", "2.4.21", "overcommit: 20,000 pages are asked for, more than what is free, with swap: "),
        ("A: mmap any 34359738368 rw", "6.18", "beyond the address space"),
        ("A: mmap 0x7fffffffe000 2 rw", "6.18", "beyond the end of the address space"),
        ("box max_map_count=0\nA: mmap w+0 1 rw", "6.18", "too many mappings: 1, and max_map_count is 0"),
        ("A: limit AS 4\nA: mmap w+0 5 rw", "6.18", "5 pages would be mapped, more than RLIMIT_AS: 4"),
        ("A: mmap w+0 9 rw\nA: drop IPC_LOCK\nA: limit MEMLOCK 3\nA: mlock w+0 4", "6.18", "4 pages would be locked, more than RLIMIT_MEMLOCK: 3"),
        ("A: drop IPC_LOCK\nA: limit MEMLOCK 3\nA: mmap w+0 4 rw LOCKED", "6.18", "4 pages would be locked, more than RLIMIT_MEMLOCK: 3"),
        ("A: drop IPC_LOCK\nA: limit MEMLOCK 0\nA: mmap w+0 1 rw LOCKED", "6.18", "RLIMIT_MEMLOCK is 0, and CAP_IPC_LOCK is not there"),
        ("A: mmap w+0 2 rw\nA: mmap w+2 1 r\nA: mremap w+0 2 3", "6.18", "no room to grow, and MREMAP_MAYMOVE is not given"),
    ],
)  # fmt: skip
def test_a_refusal_names_its_rule(text: str, kernel: str, why: str) -> None:
    """From where it was asked, with the figures; what succeeds has no reason."""
    record = obey(parse(text), kernel, HERE)
    assert record.results[-1] in ("ENOMEM", "EAGAIN", "EPERM")
    assert record.reasons[-1].startswith(why)
    assert not any(record.reasons[:-1])
    assert shown(record, record)[-1].endswith(f"  {record.results[-1]}  ({record.reasons[-1]})")


# -- failing allocations ---------------------------------------------------------------------------------------------------


def test_the_nth_allocation_of_the_next_call_fails() -> None:
    """Of that process's, and only once; a call that makes fewer succeeds, and the next one does not fail for it."""
    text = "A: mmap w+0 4 rw\nA: write w+0 4\nA: fork B\nA: fail {}\nB: munmap w+0 1\nA: fork C\nA: fork D"
    came = {nth: results(text.format(nth)) for nth in (1, 2, 5, 1000)}
    for nth in (1, 2, 5):
        assert came[nth][3:] == ["ok", "ok", "ENOMEM", "ok"]
    assert came[1000][3:] == ["ok"] * 4
    record = obey(parse(text.format(2)), "6.18")
    assert record.reasons[5].startswith("no memory: ")
    worlds = record.worlds
    assert worlds[4].keys() == worlds[5].keys() == {"A", "B"}  # C has never been
    assert worlds[4]["A"].same(worlds[5]["A"], record.sees - {"exclusive"})  # what was shared is no longer exclusive


def test_a_fault_without_memory_by_era() -> None:
    """It kills, up to 5.15; today it is tried again."""
    text = "A: mmap w+0 4 rw\nA: fork B\nB: fail 1\nB: write w+0\nA: wait"
    assert results(text, "6.18")[3:] == ["ok", "nobody yet"]
    for kernel in ("2.4.21", "2.6.2"):
        assert results(text, kernel)[3:] == ["SIGKILL", "B killed by SIGKILL"]


def test_no_host_is_asked_for_failing_allocations() -> None:
    """Said in a line."""
    assert why_alone(parse("A: fail 1\nA: wait"), HERE) == "failing allocations need CONFIG_FAULT_INJECTION"


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "2.6.7"])
def test_a_mapping_may_show_what_lies_behind_every_file(kernel: str) -> None:
    """Kernels of 2004 let it: its offset is no number of bytes with a sign."""
    script = parse("A: create f0 1\nA: mmap w+0 1 r 0 f0 0xffffffffffffe000b\nA: read w+0\n")
    record = obey(script, kernel)
    assert record.error is None
    assert record.results[1:] == ["w+0", "SIGBUS w+0 ADRERR"]


def test_a_file_on_a_disk_needs_one() -> None:
    """Where no directory lies on ext4 the model runs alone, and says so."""
    on_disk, on_tmpfs = parse("A: create f0 1 rw disk"), parse("A: create f0 1")
    assert "ext4" in why_alone(on_disk, Circumstances(), disk=False)
    assert why_alone(on_disk, Circumstances()) == why_alone(on_tmpfs, Circumstances(), disk=False) == ""
