"""Designs from other packages: found by their entry points, put under any kernel, refused in one line when broken."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import rmaplab
from rmaplab.errors import UsageError
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.designs import OURS, designs, find_design, load_design

MODULE = """
from rmaplab.rmap.anon_vma import AnonVmaMap
from rmaplab.rmap.protocol import Batch, ReverseMap
from rmaplab.objects.mm import MmStruct
from rmaplab.objects.vma import VmArea

class Good(AnonVmaMap):
    name = "good"

class Old(AnonVmaMap):
    protocol_version = 0

class OfVersion1(ReverseMap):
    name = "of_version_1"
    protocol_version = 1

    def tracked(self):
        return [MmStruct, VmArea, Batch]

class Unfinished(ReverseMap):
    name = "unfinished"

class NoDesign:
    pass
"""
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package `elsewhere` with a module and entry points, for this test."""
    modules = set(sys.modules)

    def do(module: str, **points: str) -> None:
        (tmp_path / "elsewhere.py").write_text(module)
        info = tmp_path / "elsewhere-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1\n")
        lines = "\n".join(f"{name} = {value}" for name, value in points.items())
        (info / "entry_points.txt").write_text(f"[rmaplab.designs]\n{lines}\n")
        monkeypatch.syspath_prepend(tmp_path)

    yield do
    for name in set(sys.modules) - modules:
        if name == "elsewhere":
            del sys.modules[name]


def test_a_design_of_another_package_is_found_and_boots(install: Install) -> None:
    install(MODULE, good="elsewhere:Good")
    assert find_design("good") == ("good", "elsewhere:Good", "elsewhere")
    assert list(OURS) == [name for name in designs() if name in OURS]
    system = rmaplab.boot("2.6.5-rc1+good", ram="64M")
    assert system.spec.name == "2.6.5-rc1+good"
    assert system.kernel.design.name == "good"
    task = system.spawn()
    address = task.mmap("64K")
    task.write(address, b"x")
    assert len(system.who_maps(task.fork(), address)) == 2
    system.check()


def test_one_of_ours_cannot_be_replaced(install: Install) -> None:
    install(MODULE, anon_vma="elsewhere:Good")
    assert designs()["anon_vma"].package == "rmaplab"


@pytest.mark.parametrize(
    ("module", "value", "words"),
    [
        (MODULE, "elsewhere:Missing", "cannot be loaded"),
        (MODULE, "nowhere:Missing", "cannot be loaded"),
        (MODULE, "elsewhere", "cannot be loaded"),
        ("def broken(:", "elsewhere:Good", "SyntaxError"),
        ("raise RuntimeError('two\\nlines')", "elsewhere:Good", "RuntimeError: two lines"),
        (MODULE, "elsewhere:NoDesign", "is not a ReverseMap"),
        (MODULE, "elsewhere:Old", "speaks protocol 0"),
        (MODULE, "elsewhere:OfVersion1", r"speaks protocol 1, this is 2\.dev: .* port it by docs/writing-a-design\.md"),
        (MODULE, "elsewhere:Unfinished", "does not say page_bytes, walk"),
    ],
)
def test_a_broken_one_is_refused_in_one_line(install: Install, module: str, value: str, words: str) -> None:
    install(module, bad=value)
    with pytest.raises(UsageError, match=words) as error:
        load_design(find_design("bad").path)
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match=words):
        rmaplab.boot("2.6.5-rc1+bad", ram="64M")


def test_a_design_that_there_is_not() -> None:
    with pytest.raises(UsageError, match=r"no design 'nothing': choose from .*anon_vma.*see: rmaplab designs"):
        find_kernel("2.6.2+nothing")
