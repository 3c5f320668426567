"""C programs for tests: compiled once a session, static, into a directory that is shown as the root."""

import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from tests.conftest import REQUIRE_ALL

from rmaplab.cpu.userland import Bounds
from rmaplab.kernels.box import Box
from rmaplab.lab.programs.executed import Asked, Executed, Watch, execute


@cache
def root() -> Path:
    """The directory of this session's programs."""
    return Path(mkdtemp(prefix="rmaplab-programs-"))


@cache
def compiled(source: str, *options: str, name: str = "") -> str:
    """A static program of this C source: its path as it is shown, such as "/p3". Skips without a compiler, or where it cannot do that."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        if REQUIRE_ALL:
            raise AssertionError("no C compiler")
        pytest.skip("no C compiler")
    path = root() / (name or f"p{len(list(root().iterdir()))}")
    made = subprocess.run(
        [compiler, "-O1", "-w", "-static", "-o", path, *options, "-x", "c", "-"],
        input=source.encode(),
        capture_output=True,
        check=False,
    )
    if made.returncode:
        if REQUIRE_ALL:
            raise AssertionError(made.stderr.decode())
        pytest.skip(f"the compiler cannot: {made.stderr.decode()[:200]}")
    return f"/{path.name}"


def ran(
    kernel: str,
    *words: str,
    stdin: bytes = b"",
    where: Path | None = None,
    bounds: Bounds | None = None,
    watch: Watch | None = None,
    **box: Any,
) -> tuple[Executed, bytes]:
    """What came of a program on a kernel, and what it has written to stdout. `where` is its root, that of compiled() if not given."""
    asked = Asked(
        tuple(map(os.fsencode, words)), (b"PATH=/bin:/usr/bin",), root=str(where or root()), bounds=bounds or Bounds()
    )
    box.setdefault("paging", "x86-64")
    with tempfile.NamedTemporaryFile() as filled, tempfile.NamedTemporaryFile() as kept:
        filled.write(stdin)
        filled.flush()
        # opened for what streams are opened for
        with Path(filled.name).open("rb") as given, Path(kept.name).open("wb") as taken:
            streams = given.fileno(), taken.fileno(), taken.fileno()
            done = execute(kernel, Box(**{"ram": "256M", "reclaim": None} | box), asked, streams, watch)
        return done, kept.read()
