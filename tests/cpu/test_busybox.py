"""Programs of others, unmodified: busybox (static), GNU's ls and Python (dynamic), musl. What they say is what they say on the host."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import REQUIRE_ALL
from tests.cpu.programs import ran

from rmaplab.cpu.elf import HEADER_BYTES, read_elf
from rmaplab.kernels.box import Box
from rmaplab.lab.programs.executed import Asked, execute

SCRIPT = r"""
set -e
mkdir d && cd d
i=0
while [ $i -lt 40 ]; do echo "line $((i * 7919 % 101)) of $i"; i=$((i + 1)); done > lines
sort -n -k2 lines | head -n 5
sort -r lines | cut -d' ' -f2 | uniq | wc -l
sha256sum < lines
md5sum lines | sed 's/ .*//'
for word in one two three; do mkdir -p tree/$word/deep; echo $word | tee tree/$word/a > tree/$word/deep/b; done
find tree -type f -name '[ab]' | sort
find tree -type d | wc -l
grep -rl two tree | sort | xargs cat | tr a-z A-Z
awk '{ sum += $2 } END { print sum, NR }' lines
tar cf - tree | tar tf - | sort | tail -n 3
gzip < lines | gunzip | cmp - lines && echo same
seq 1 300 | awk '$1 % 7 == 0' | paste -s -d+ - | bc 2>/dev/null || seq 1 3 | tac
(echo in a child; exit 3) || echo "status $?"
{ sleep 0.01; echo late; } & wait; echo after
yes | head -n 1000 | sha256sum
set +e
sh -c 'kill -9 $$'; echo "killed: $?"
trap 'echo trapped' USR1; kill -USR1 $$
cat <<END | while read a b; do echo "$b $a"; done
here is
a document
END
ln -s lines link; readlink link; [ -L link ] && [ ! -d link ] && echo link
dd if=/dev/zero bs=4096 count=16 2>/dev/null | od -c | head -n 2
printf '%05d|%-6s|%x\n' 42 ab 255
cd .. && rm -r d && ls bin | wc -l
""".strip()


def static_busybox() -> str:
    """Skips where there is none, or one that is not static."""
    path = shutil.which("busybox")
    static = path is not None and read_elf(Path(path).read_bytes()[:HEADER_BYTES]).interpreter is None
    if not static:
        assert not REQUIRE_ALL, "no static busybox"
        pytest.skip("no static busybox: install busybox-static")
    assert path is not None
    return path


def i386_busybox(where: Path) -> str:
    """Debian's, if apt can fetch it. Skips where it cannot."""
    tools = [shutil.which(name) for name in ("apt-get", "dpkg")]
    if None in tools or os.getuid():
        pytest.skip("no apt-get that may fetch busybox-static of i386")
    if (
        "i386"
        not in subprocess.run(
            ["dpkg", "--print-foreign-architectures"], capture_output=True, text=True, check=True
        ).stdout
    ):
        pytest.skip("i386 is no architecture of this dpkg: dpkg --add-architecture i386, apt-get update")
    fetched = subprocess.run(
        ["apt-get", "-qq", "download", "busybox-static:i386"], cwd=where, capture_output=True, check=False
    )
    packages = list(where.glob("busybox-static*.deb"))
    if fetched.returncode or not packages:
        pytest.skip("busybox-static of i386 cannot be fetched")
    subprocess.run(["dpkg", "-x", packages[0], where / "x"], check=True)
    return str(next(path for path in (where / "x").rglob("busybox") if path.is_file() and os.access(path, os.X_OK)))


def busybox_root(busybox: str, root: Path) -> Path:
    """A directory with nothing but busybox and its names."""
    (root / "bin").mkdir(parents=True)
    shutil.copy(busybox, root / "bin" / "busybox")
    names = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for name in names:
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    return root


def on_the_host(words: list[str], root: Path, **variables: str) -> bytes:
    """The same on this machine, where its commands are those of the root."""
    return subprocess.run(
        words,
        cwd=root,
        env={"PATH": f"{root}/bin"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        stdin=subprocess.DEVNULL,
    ).stdout


@pytest.mark.parametrize(
    ("bits", "kernel"), [(64, "6.18"), (64, "2.6.5-rc1-aa1"), (32, "2.6.7"), (32, "2.6.5-rc1-aa1")]
)
def test_a_shell_script(bits: int, kernel: str, tmp_path: Path) -> None:
    """Pipes, loops, children, signals, files that are made and removed."""
    root = busybox_root(static_busybox() if bits == 64 else i386_busybox(tmp_path), tmp_path / "root")
    words = ["sh", "-c", SCRIPT]
    done, output = ran(kernel, "/bin/busybox", *words, where=root, paging="x86-64" if bits == 64 else "i386-pae")
    assert output.decode() == on_the_host([f"{root}/bin/busybox", *words], root).decode()
    assert output.count(b"\n") > 30
    assert (done.outcome, done.status, done.unknown_calls) == ("ok", 0, {})
    assert sorted(path.name for path in root.iterdir()) == ["bin"]


def dynamic_root(program: str, root: Path) -> Path:
    """A directory with a dynamic program and its libraries, each where it is looked for."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    libraries = [word for line in listed.splitlines() for word in line.split() if word.startswith("/")]
    for path in (*libraries, program):
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    return root


def test_a_dynamic_program(tmp_path: Path) -> None:
    """GNU ls, with ld.so, libc and more: a directory in long form."""
    program = os.path.realpath(shutil.which("ls") or "")
    if "busybox" in program or "coreutils" in Path(program).name:
        pytest.skip("ls is no program of its own here")
    root = dynamic_root(program, tmp_path / "root")
    shown = root / "shown"
    shown.mkdir()
    for name, size in (("one", 1), ("two", 5000), (".hidden", 0)):
        (shown / name).write_bytes(bytes(size))
        os.utime(shown / name, (10**9, 10**9))
    (shown / "link").symlink_to("one")
    words = [program, "-1aF", "--color=never", "shown"]
    done, output = ran("6.18", *words, where=root)
    assert output == on_the_host(words, root)
    assert (done.status, done.unknown_calls) == (0, {})


PYTHON = """
import os, sys, threading
ends = os.pipe()
pid = os.fork()
if not pid:
    os.write(ends[1], b"from a child")
    os._exit(7)
print(os.read(ends[0], 100), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
total, lock = [0], threading.Lock()
def adds(n):
    for i in range(n):
        with lock:
            total[0] += i
threads = [threading.Thread(target=adds, args=(50 * n,)) for n in range(1, 5)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(total, sorted({hash(x) % 7 for x in range(30)}), 2**200 % 10**9, f"{1/3:.17g}")
"""
PROCESSES = """
import multiprocessing
def square(n): return n * n
with multiprocessing.get_context("fork").Pool(2) as pool: print(pool.map(square, range(10)))
"""


def python(code: str) -> tuple[Any, bytes, bytes]:
    """What this interpreter does with it on 6.18, and on the host."""
    program = os.path.realpath(sys.executable)
    hidden = ("/tmp/", "/dev/", "/proc/", "/sys/", "/run/")  # what the root "/" does not show
    if any(path.startswith(hidden) for path in (program, sys.base_prefix)):
        pytest.skip("this Python lies where programs do not see it")
    words = [program, "-E", "-s", "-S", "-c", code]
    environment = {"PATH": "/bin:/usr/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    asked = Asked(tuple(map(os.fsencode, words)), tuple(f"{k}={v}".encode() for k, v in environment.items()))
    with tempfile.TemporaryFile() as nothing, tempfile.TemporaryFile() as taken:
        done = execute(
            "6.18", Box(ram="512M", paging="x86-64"), asked, (nothing.fileno(), taken.fileno(), taken.fileno())
        )
        taken.seek(0)
        output = taken.read()
    host = subprocess.run(words, env=environment, capture_output=True, check=True, stdin=subprocess.DEVNULL)
    return done, output, host.stdout


def test_python() -> None:
    """os.fork, pipes, threads, arithmetic."""
    done, output, host = python(PYTHON)
    assert output.decode() == host.decode()
    assert (done.status, done.outcome) == (0, "ok")


def test_multiprocessing() -> None:
    """Semaphores, queues, threads and children all at once."""
    done, output, host = python(PROCESSES)
    assert output.decode() == host.decode()
    assert (done.status, done.outcome) == (0, "ok")


MUSL = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
static void *adds(void *sum) { for (int i = 0; i < 1000; i++) __sync_fetch_and_add((int *)sum, i); return sum; }
int main(void)
{
	int sum = 0, status;
	pthread_t threads[3];
	for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, adds, &sum);
	for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
	char *text = malloc(300000);
	snprintf(text, 300000, "%d %s %.3f", sum, "musl", 1.0 / 3);
	puts(text);
	fflush(stdout);
	if (!fork()) { puts("child"); exit(5); }
	wait(&status);
	FILE *pipe = popen("exit 4", "r");
	printf("%d %d\n", WEXITSTATUS(status), pipe ? WEXITSTATUS(pclose(pipe)) : -1);
	return 6;
}
"""


@pytest.mark.parametrize("static", [True, False])
def test_musl(tmp_path: Path, *, static: bool) -> None:
    """Another C library, alone and with its own loader; popen is a vfork and an execve of sh, which is not there."""
    compiler = shutil.which("musl-gcc")
    if compiler is None:
        assert not REQUIRE_ALL, "no musl-gcc"
        pytest.skip("no musl-gcc: install musl-tools")
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "m.c").write_text(MUSL)
    subprocess.run([compiler, *(["-static"] if static else []), "-o", root / "m", tmp_path / "m.c"], check=True)
    if not static:
        loader = Path("/lib/ld-musl-x86_64.so.1")
        (root / "lib").mkdir()
        shutil.copy(loader, root / "lib" / loader.name)
    done, output = ran("6.18", "./m", where=root)
    assert output == b"1498500 musl 0.333\nchild\n5 -1\n"  # as in a chroot without sh on the host
    assert (done.status, done.outcome, done.unknown_calls) == (6, "ok", {})
