"""Unmodified programs on a kernel of one's choice: they say what they say on the host, and the kernel counts what it counts of our own workloads."""

import subprocess
from pathlib import Path

import pytest
from tests.cpu.programs import compiled, ran, root

import rmaplab
from rmaplab.errors import UsageError
from rmaplab.kernels.box import Box
from rmaplab.lab.announcement.experiment import run_forkbench
from rmaplab.lab.programs.executed import Asked, execute, width_of

FORKBENCH = Path(rmaplab.__file__).parent / "workloads" / "forkbench.c"
KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1-aa1", "6.18")
HELLO = '#include <stdio.h>\nint main(int n, char **words) { printf("%d %s\\n", n, words[1]); return 3; }'


@pytest.mark.parametrize("kernel", KERNELS)
def test_it_says_what_it_says(kernel: str) -> None:
    """Arguments come in, output and exit status come out; nothing is left of it, and all that can be recounted is right."""
    done, output = ran(kernel, compiled(HELLO, name="hello"), "world")
    assert (output, done.status, done.outcome) == (b"2 world\n", 3, "ok")
    assert not done.unknown_calls
    assert done.at_exit.page_tables_bytes > 0


@pytest.mark.parametrize("kernel", KERNELS)
def test_forkbench_counts_what_the_workload_counts(kernel: str) -> None:
    """Between two sizes of its memory, PTEs copied and faults differ by exactly what the scripted workload has on as much: an eighth of its 512 MiB."""
    level, program = 4, compiled(FORKBENCH.read_text(), name="forkbench")
    small, _ = ran(kernel, program, str(level), "32", ram="1G")
    large, _ = ran(kernel, program, str(level), "96", ram="1G")
    scripted = run_forkbench(kernel, level, Box(ram="1G", swap="512M", paging="x86-64")).ledger
    assert scripted is not None
    for count in ("pte_copy", "anon_fault"):
        assert (large.ledger[count] - small.ledger[count]) * 8 == scripted[count], count
    assert small.ledger["fork"] == scripted["fork"] == 2**level - 1
    assert small.status == large.status == 0


def test_a_fork_that_is_refused_is_the_programs_own_message() -> None:
    """On a small box chains and tables eat what overcommit wants to see free: 2.6.2's run says so, aa1's goes to its end."""
    program = compiled(FORKBENCH.read_text(), name="forkbench")
    (refused, said), (done, silence) = (
        ran(kernel, program, "7", "64", ram="192M", swap="0", boot_use="38M") for kernel in ("2.6.2", "2.6.5-rc1-aa1")
    )
    assert b"fork: Cannot allocate memory\n" in said
    assert refused.status == 1
    assert (done.status, silence) == (0, b"")


def test_programs_of_32_bits_run_on_their_tables() -> None:
    """On i386 and PAE, with TLS in the GDT."""
    program = compiled(HELLO, "-m32", name="hello32")
    for paging in ("i386", "i386-pae"):
        done, output = ran("2.6.7", program, "x", paging=paging)
        assert (output, done.status) == (b"2 x\n", 3)
    with pytest.raises(UsageError, match="of 32 bits, on page tables for 64"):
        ran("2.6.7", program, "x")


def test_how_wide_a_program_is() -> None:
    """Read through the root, by PATH or by a path; who is no program is told."""
    wide, narrow = compiled(HELLO, name="hello"), compiled(HELLO, "-m32", name="hello32")
    for program, bits in ((wide, 64), (narrow, 32)):
        assert width_of(Asked((program.encode(),), (), root=str(root())), "2.6.2") == bits
    with pytest.raises(UsageError, match="nope: No such file or directory"):
        width_of(Asked((b"nope",), (b"PATH=/",), root=str(root())), "2.6.2")


def test_a_program_to_look_into() -> None:
    """System.exec gives a task; run(seconds) stops in the middle, and who_maps answers for its text."""
    program = compiled(
        "#include <unistd.h>\nint main() { int child = fork(); sleep(child ? 2 : 9); return 7; }", name="sleeps"
    )
    system = rmaplab.boot("2.6.5-rc1-aa1", ram="128M", paging="x86-64")
    task = system.exec([program], root=str(root()))
    system.run(seconds=1)
    assert task.mm is not None
    text = next(vma for vma in task.mm.vmas if vma.file is not None)
    assert sorted(where.mm.pid for where in system.who_maps(task, text.start)) == [1, 2]
    system.run()
    system.check()
    assert task.exit_code == 7 << 8
    system.close()


def test_what_cannot_be_run_is_one_line() -> None:
    """No file, a directory, garbage, an ELF file of another machine."""
    (root() / "garbage").write_bytes(b"\x7fELF\2\1\1" + bytes(range(64)))
    (root() / "garbage").chmod(0o755)
    (root() / "empty").touch(0o755)
    tried = {
        "/nope": "that the root shows",
        "nope": "sh -c nope",
        "/": "chmod",
        "/garbage": "ELF",
        "/empty": "ELF",
        "/tmp/x": "--root",
    }
    for name, said in tried.items():
        with pytest.raises(UsageError, match=said):
            execute("2.6.2", Box(ram="64M", paging="x86-64"), Asked((name.encode(),), (), root=str(root())))


def test_who_dies_with_a_robust_lock_tells() -> None:
    """The next one gets it, and hears that its owner has died; as on the host."""
    program = compiled(ROBUST, "-pthread", name="robust")
    there = subprocess.run([root() / program[1:]], capture_output=True, check=True)
    done, output = ran("2.6.5-rc1-aa1", program)
    assert (output, done.status) == (there.stdout, 0) == (b"Owner died\n", 0)


ROBUST = """
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void)
{
	int full[2];
	char c;
	pthread_mutexattr_t kind;
	pthread_mutex_t *lock = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	pthread_mutexattr_init(&kind);
	pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(lock, &kind);
	pipe(full);
	if (!fork()) {
		pthread_mutex_lock(lock);
		write(full[1], "x", 1);
		usleep(10000);
		_exit(0);
	}
	read(full[0], &c, 1);
	puts(strerror(pthread_mutex_lock(lock)));
	pthread_mutex_consistent(lock);
	return pthread_mutex_unlock(lock);
}
"""
