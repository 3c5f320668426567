"""Kernels sleep until one is called; their cache is private, or there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rmaplab.machine.jit import is_private

REQUIRE_ALL = bool(os.environ.get("RMAPLAB_REQUIRE_ALL"))

INNER = """
from rmaplab.machine.jit import inline, kernel

@inline
def twice(a):
    return 2 * a

@kernel
def four_times(a):
    return twice(twice(a))
"""
OUTER = """
from inner import four_times
from rmaplab.machine.jit import kernel

kept = [four_times]

@kernel
def plus(a, b):
    return four_times(a) + b
"""
PROGRAM = """
import ctypes, struct, sys
sys.dont_write_bytecode = True
import outer
assert "numba" not in sys.modules
if sys.argv[1:]:  # root's capabilities, with which one may write everywhere
    ctypes.CDLL(None).capset(struct.pack("<Ii", 0x20080522, 0), bytes(24))
print(outer.plus(10, 2), outer.kept[0](5), type(outer.plus).__name__, bool(outer.plus.stats.cache_path))
import late
print(late.last(1))
"""
LATE = """
from outer import plus
from rmaplab.machine.jit import kernel

@kernel
def last(a):
    return plus(a, a)
"""


def run(folder: Path, **environment: str) -> list[str]:
    """What PROGRAM says in a folder of kernels that nobody may write to, with a home as given."""
    folder.mkdir()
    for name, text in (("inner", INNER), ("outer", OUTER), ("late", LATE), ("program", PROGRAM)):
        (folder / f"{name}.py").write_text(text)
    folder.chmod(0o555)
    clean = {name: text for name, text in os.environ.items() if not name.startswith(("NUMBA", "XDG", "HOME"))}
    command = [sys.executable, str(folder / "program.py"), *(["drop"] if os.geteuid() == 0 else [])]
    done = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=False, timeout=200)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in folder.iterdir()) == ["inner.py", "late.py", "outer.py", "program.py"]
    return done.stdout.splitlines()


def test_without_home_and_with_a_read_only_install_kernels_work(tmp_path: Path) -> None:
    """They call each other across modules, early and late, and no cache is needed."""
    assert run(tmp_path / "installed", HOME="/dev/null") == ["42 20 CPUDispatcher False", "5"]


def test_a_home_of_ones_own_is_used(tmp_path: Path) -> None:
    """The user's cache directory, as Numba chooses it."""
    home = tmp_path / "home"
    home.mkdir(0o700)
    assert run(tmp_path / "installed", HOME=str(home))[0] == "42 20 CPUDispatcher True"
    assert list(home.rglob("*.nbi"))


def test_a_home_that_all_may_write_to_is_not(tmp_path: Path) -> None:
    """Whoever can put a file there would have it run."""
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o777)
    assert run(tmp_path / "installed", HOME=str(home))[0] == "42 20 CPUDispatcher False"
    assert not list(home.rglob("*.nbi"))


def test_a_directory_is_private_if_nobody_else_decides_what_is_in_it(tmp_path: Path) -> None:
    """Modes of the directory and of those above it; sticky ones hold what is in them; symlinks are looked at and looked through."""
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    me = os.geteuid()
    assert is_private(inner, me)
    for place, mode, private in ((inner, 0o777, False), (inner, 0o1777, False), (inner.parent, 0o777, False),
                                 (inner.parent, 0o1777, True)):  # fmt: skip
        place.chmod(mode)
        assert is_private(inner, me) is private, (place, oct(mode))
        place.chmod(0o755)
    link = tmp_path / "link"
    link.symlink_to(inner)
    assert is_private(link, me)
    inner.parent.chmod(0o777)
    assert not is_private(link, me)


def test_what_belongs_to_somebody_else_is_not_private(tmp_path: Path) -> None:
    """Unless it is who owns the source: whose code runs anyway."""
    if os.geteuid():
        if REQUIRE_ALL:
            pytest.fail("giving a directory away needs root")
        pytest.skip("giving a directory away needs root")
    (tmp_path / "link").symlink_to(tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    os.chown(tmp_path / "link", 65534, 65534, follow_symlinks=False)
    assert not is_private(tmp_path / "link", 0)
    os.chown(tmp_path / "cache", 65534, 65534)
    assert not is_private(tmp_path / "cache", 0)
    assert is_private(tmp_path / "cache", 65534)


def test_a_kernel_that_is_interpreted_sleeps_on(tmp_path: Path) -> None:
    """And says the same; whoever comes after that wakes it."""
    folder = tmp_path / "kernels"
    program = """
import sys
sys.dont_write_bytecode = True
import outer
from rmaplab.machine.jit import interpreted
with interpreted():
    with interpreted():
        inside = [outer.plus(10, 2)]
    inside += [outer.plus(10, 2), "numba" in sys.modules, type(outer.plus).__name__]
print(inside, outer.plus(10, 2), "numba" in sys.modules)
"""
    folder.mkdir()
    for name, text in (("inner", INNER), ("outer", OUTER), ("program", program)):
        (folder / f"{name}.py").write_text(text)
    done = subprocess.run([sys.executable, folder / "program.py"], capture_output=True, text=True, check=True)
    assert done.stdout == "[42, 42, False, 'Asleep'] 42 True\n"
