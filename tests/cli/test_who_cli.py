"""`rmaplab who` as a user types it, right and wrong, with and without the privileges it can use."""

import errno
import json
import mmap
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rmaplab.cli import main
from rmaplab.host import pagemap
from rmaplab.host.bpf import syscall
from rmaplab.host.bpf.btf import Btf

REQUIRE_ALL = bool(os.environ.get("RMAPLAB_REQUIRE_ALL"))
CAPABILITIES = "-sys_admin,-bpf,-perfmon,-sys_ptrace,-dac_override,-dac_read_search"
needs_pfns = pytest.mark.skipif(not REQUIRE_ALL and not pagemap.can_see_pfns(), reason="PFNs need CAP_SYS_ADMIN")


def call(*arguments: str) -> int:
    """Run the command line in this process: its exit code."""
    with pytest.raises(SystemExit) as stop:
        main(["who", *arguments])
    code = stop.value.code
    return code if isinstance(code, int) else 0


@pytest.fixture
def address() -> Iterator[int]:
    """A page of shared memory of ours that was written to, between pages that were not."""
    memory = np.frombuffer(mmap.mmap(-1, 64 * mmap.PAGESIZE), np.uint8)
    memory[32 * mmap.PAGESIZE] = 1
    yield memory.ctypes.data + 32 * mmap.PAGESIZE
    del memory


@needs_pfns
def test_json_has_what_the_issue_names(capsys: pytest.CaptureFixture[str], address: int) -> None:
    """mappers, candidates and wasted are [{pid, comm, address, vma}]; addresses are ints; what does not apply is null."""
    assert call(str(os.getpid()), f"{address:x}", "--format", "json") == 0
    answer = json.loads(capsys.readouterr().out)
    keys = "made_by pfn flags mapcount kind index exclusive folio mappers candidates wasted same_slot absent notes"
    assert list(answer) == keys.split()
    assert [answer[key] for key in ("exclusive", "folio", "same_slot", "absent")] == [None] * 4
    (mapper,) = answer["mappers"]
    assert list(mapper) == ["pid", "comm", "address", "vma"]
    assert (mapper["pid"], mapper["address"]) == (os.getpid(), address)
    assert list(mapper["vma"]) == ["start", "end", "perms", "name"]
    assert mapper["vma"]["start"] <= address < mapper["vma"]["end"]
    assert (answer["kind"], answer["mapcount"], answer["index"]) == ("shmem", 1, 32)
    assert (answer["candidates"], answer["wasted"]) == ([mapper], [])
    assert call("--pfn", hex(answer["pfn"]), "--format", "json") == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["mappers"], again["pfn"]) == ([mapper], answer["pfn"])


@needs_pfns
def test_the_drawing_says_it_all(capsys: pytest.CaptureFixture[str], address: int) -> None:
    """Page, count, flags, index, a branch per mapper, and what the kernel's own walk would do."""
    assert call(str(os.getpid()), f"{address:#x}") == 0
    out = capsys.readouterr().out
    assert f"pid {os.getpid()} " in out
    assert "mapcount    1\n" in out
    assert "shared memory" in out
    assert "SWAPBACKED" in out
    assert f"└── {os.getpid()} " in out
    assert "the kernel's own walk visits" in out


@needs_pfns
def test_a_kernel_that_refuses_bpf(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Locked down: all mappers and the count are there, the candidates are null and not none, and the reason is said."""

    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(syscall, "load_iterator", refuse)
    assert call(str(os.getpid()), "[heap]", "--format", "json") == 0
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert (answer["kind"], answer["candidates"], answer["wasted"]) == ("anon", None, None)
    assert (os.getpid(), answer["mapcount"]) == (answer["mappers"][0]["pid"], len(answer["mappers"]))
    assert "is not known: bpf(2) is refused: it needs CAP_BPF and CAP_PERFMON" in err


@needs_pfns
@pytest.mark.parametrize("missing", ["folio._entire_mapcount", "page.compound_head", "anon_vma_chain.anon_vma"])
def test_a_kernel_without_a_field_is_named_by_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """BPF is there and is not what is missing: as on 6.1. What is read of a dump or of a page alike."""
    really = Btf.locate

    def locate(btf: Btf, owner: str, *path: str) -> tuple[int, int] | None:
        return None if ".".join((owner, *path)) == missing else really(btf, owner, *path)

    monkeypatch.setattr(Btf, "locate", locate)
    assert call(str(os.getpid()), "[heap]", "--format", "json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["candidates"] is None
    (note,) = (line for line in err.splitlines() if "is not known" in line)
    assert missing in note
    assert "BPF" not in err


def test_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A page of a file just written, which nobody maps, and of libc, which we do."""
    (tmp_path / "file").write_bytes(bytes(5000))
    assert call("--file", str(tmp_path / "file"), "--offset", "4999") == 0
    nobody = "nobody maps it" if pagemap.can_see_pfns() else "who maps it is not known"
    assert nobody in capsys.readouterr().out
    libc = next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libc.so.6" in line)
    assert call("--file", libc, "--format", "json") == 0  # page 0 is the ELF header, which the dynamic linker reads
    answer = json.loads(capsys.readouterr().out)
    assert os.getpid() in [visit["pid"] for visit in answer["mappers"]]
    assert (answer["kind"], answer["index"]) == ("file", 0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "say which page"),
        (("999999999",), "no process 999999999"),
        (("1", "1000", "--pfn", "1"), "say which page"),
        (("--offset", "4096"), "say which page"),
        (("--pfn", "1", "--offset", "4096"), "say which page"),
        (("no-such-name", "1000"), "no process is called 'no-such-name': "),
        (("999999999", "1000"), "no process 999999999"),
        (("self", "1000"), "nothing is mapped at 0x1000"),
        (("{pid}", "xyz"), "'xyz' is no address"),
        (("{pid}", "1000"), "nothing is mapped at 0x1000"),
        (("--pfn", "twelve"), "'twelve' is no page frame number"),
        (("--pfn", "0xffffffffffffffffff"), "page frame"),
        (("--file", "/nonexistent"), "cannot open /nonexistent"),
        (("--file", "/etc/passwd", "--offset", "4k"), "'4k' is no offset"),
        (("--file", "/etc/passwd", "--offset", "999999999999"), "beyond the end of /etc/passwd"),
        (("--format", "csv", "--pfn", "1"), "'csv' is not one of"),
    ],
)
def test_a_wrong_command_line_gets_one_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    """Exit code 2, what is wrong, and no traceback."""
    assert call(*(argument.format(pid=os.getpid()) for argument in arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert says in err


@pytest.mark.skipif(not REQUIRE_ALL and (os.getuid() != 0 or not shutil.which("setpriv")), reason="root and setpriv")
@pytest.mark.parametrize("form", ["table", "json"])
def test_an_ordinary_user_and_a_process_of_his_own(form: str) -> None:
    """No capability at all: the process asks about its own stack, and hears what bit 56 and smaps can say."""
    who = f"exec {sys.executable} -m rmaplab who $$ [stack] --format {form}"
    command = ["setpriv", f"--bounding-set={CAPABILITIES}", "--inh-caps=-all", "sh", "-c", who]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    if form == "json":
        answer = json.loads(run.stdout)
        assert (answer["pfn"], answer["mapcount"], answer["kind"]) == (None, 1, "anon")
        assert (answer["candidates"], answer["wasted"]) == (None, None)
        assert len(answer["mappers"]) == 1
    said = run.stdout + run.stderr
    assert "PFNs are hidden" in said
    assert "mapped exactly once (pagemap, bit 56)" in said
    assert "Traceback" not in said


@pytest.mark.skipif(not REQUIRE_ALL and (os.getuid() != 0 or not shutil.which("setpriv")), reason="root and setpriv")
def test_an_ordinary_user_and_somebody_elses_process() -> None:
    who = f"exec {sys.executable} -m rmaplab who {os.getpid()} [stack]"
    command = ["setpriv", f"--bounding-set={CAPABILITIES}", "--inh-caps=-all", "sh", "-c", who]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout) == (2, "")
    assert (
        "cannot be read (that takes CAP_SYS_PTRACE, which root has not got here): ask about a process of" in run.stderr
    )


@pytest.mark.skipif(not REQUIRE_ALL and os.getuid() != 0, reason="to become an ordinary user needs root")
@pytest.mark.parametrize("form", ["table", "json"])
def test_an_ordinary_user_and_a_file_that_others_map(form: str) -> None:
    """We map it, and he may not look at us: he is told that he does not see, and never that there is nobody."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(mmap.PAGESIZE))
        file.flush()
        Path(file.name).chmod(0o644)
        with mmap.mmap(file.fileno(), mmap.PAGESIZE, prot=mmap.PROT_READ) as memory:
            assert memory[0] == 0
            program = [sys.executable, str(Path(__file__).with_name("drop.py")), "user"]
            asked = ["who", "--file", file.name, "--format", form]
            run = subprocess.run([*program, *asked], capture_output=True, text=True, timeout=100, check=False)
    assert run.returncode == 0, run.stderr
    said = " ".join((run.stdout + run.stderr).split())
    assert re.search(
        r"nobody that we see maps it: \d+ processes are not shown to us \(root sees other users' processes\)", said
    )
    assert "nobody maps it" not in said
    assert "there is nothing to map" not in said
    if form == "json":
        answer = json.loads(run.stdout)
        assert (answer["mappers"], answer["candidates"], answer["wasted"]) == ([], None, None)


def test_a_pid_alone_lists_its_vmas(capsys: pytest.CaptureFixture[str], address: int) -> None:
    """A line per VMA, in JSON all of them; and the next question as one would type it, which has an answer."""
    assert call("self", "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pid"] == os.getpid()
    (ours,) = (vma for vma in found["vmas"] if vma["start"] <= address < vma["end"])
    assert (ours["perms"], ours["present"], ours["anonymous"]) == ("rw-s", 1, 0)
    assert call("self") == 0
    out = capsys.readouterr().out
    assert f"{ours['start']:x}-{ours['end']:x}" in out
    assert "next" not in out
    with subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], stdin=-1, stdout=-1) as other:
        assert other.stdout
        other.stdout.readline()
        assert call(str(other.pid)) == 0
        (question,) = re.findall(r"rmaplab who (\d+ [0-9a-f]+-[0-9a-f]+)$", capsys.readouterr().out, re.MULTILINE)
        assert call(*question.split()) == 0
        other.kill()
    assert "mapcount" in capsys.readouterr().out or not pagemap.can_see_pfns()


def test_a_name_that_a_terminal_would_obey(capsys: pytest.CaptureFixture[str]) -> None:
    """A list of VMAs shows it, and does not obey it."""
    fd = os.memfd_create("\x1b]0;x\x07[/b]")
    os.ftruncate(fd, mmap.PAGESIZE)
    with mmap.mmap(fd, mmap.PAGESIZE):
        os.close(fd)
        assert call("self") == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert r"/memfd:\x1b]0;x\x07[/b]" in out
