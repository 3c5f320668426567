"""What tests of the host share: a family of processes whose memory is known, and the reasons to skip."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from rmaplab.host import pagemap
from rmaplab.host.bpf.errors import BpfUnavailable
from rmaplab.host.kernel_walk import KernelWalk

REQUIRE_ALL = bool(os.environ.get("RMAPLAB_REQUIRE_ALL"))


class Family(NamedTuple):
    """pids by name (A, B, C, D); the truth: each page's label with all its (pid, address), sorted; the file that is mapped."""

    pids: dict[str, int]
    pages: dict[str, list[tuple[int, int]]]
    file: Path


@pytest.fixture(scope="session")
def pfns() -> None:
    """Skips, or fails where everything is required, without the right to see PFNs."""
    if not pagemap.can_see_pfns() and not REQUIRE_ALL:
        pytest.skip("page frame numbers are hidden: needs CAP_SYS_ADMIN")


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Family]:
    """fork_tree.py, running: private, shared, file-backed, moved, copied and huge memory over A, B, C and D."""
    file = tmp_path_factory.mktemp("tree") / "file"
    file.write_bytes(bytes(8 * 4096))
    program = [sys.executable, "-E", "-S", str(Path(__file__).with_name("fork_tree.py")), str(file)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as root:
        assert root.stdout is not None
        reports = json.loads(root.stdout.readline())
        pages = defaultdict(list)
        for _, pid, table in reports:
            for address, label in table:
                pages[label].append((pid, address))
        yield Family({name: pid for name, pid, _ in reports}, {k: sorted(v) for k, v in pages.items()}, file)
        root.kill()


@pytest.fixture(scope="session")
def walk() -> Iterator[KernelWalk]:
    """The BPF programs. Skips, or fails where everything is required, where BPF is not to be had."""
    try:
        loaded = KernelWalk()
    except BpfUnavailable as error:
        if REQUIRE_ALL:
            raise
        pytest.skip(str(error))
    with loaded:
        yield loaded
