"""Our BPF loader: types, objects, relocation; and the compiled objects are those of the sources."""

import os
import platform
import re
import shutil
import struct
import subprocess
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmaplab.host.bpf import btf as btf_module
from rmaplab.host.bpf import syscall
from rmaplab.host.bpf.btf import FUNC, STRUCT, VMLINUX, Btf, kernel_btf
from rmaplab.host.bpf.elf import Elf
from rmaplab.host.bpf.errors import BpfUnavailable
from rmaplab.host.bpf.loader import Iterator
from rmaplab.host.bpf.relocate import accesses, relocate

REQUIRE_ALL = bool(os.environ.get("RMAPLAB_REQUIRE_ALL"))
BPF = Path(str(files("rmaplab.host.bpf")))
SECTIONS = {"task_vma": "iter/task_vma", "task_pages": "iter/task_vma", "peek": "iter/bpf_map_elem"}
HEADERS = {"././kernel.h", "././rows.h"}

needs_btf = pytest.mark.skipif(not REQUIRE_ALL and not VMLINUX.exists(), reason="this kernel has no BTF")


def elf(name: str) -> Elf:
    return Elf((BPF / f"{name}.bpf.o").read_bytes())


# -- objects and sources -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SECTIONS)
def test_the_objects_are_those_of_the_sources(name: str, tmp_path: Path) -> None:
    """Debian 12's clang makes of each source, byte by byte, the object that is shipped."""
    if not (shutil.which("clang") and shutil.which("llvm-strip")):
        if REQUIRE_ALL:
            pytest.fail("clang and llvm are not installed: apt-get install clang llvm")
        pytest.skip("needs clang and llvm-strip: apt-get install clang llvm")
    version = subprocess.run(["clang", "--version"], check=True, capture_output=True, text=True).stdout
    if not re.search(r"Debian clang version 14\.", version):
        pytest.skip(f"the objects are made by Debian 12's clang 14, this is {version.splitlines()[0]}")
    made = tmp_path / "made.o"
    subprocess.run([BPF / "build", f"{name}.bpf.c", made], check=True)
    assert made.read_bytes() == (BPF / f"{name}.bpf.o").read_bytes(), "run make bpf and commit what it makes"


@pytest.mark.parametrize("name", SECTIONS)
def test_no_path_of_a_machine_is_in_an_object(name: str) -> None:
    """Names of the sources, relative to themselves, are all there is."""
    text = (BPF / f"{name}.bpf.o").read_bytes()
    paths = {match.decode() for match in re.findall(rb"[\w./-]*/[\w./-]+\.[ch]\b", text)}
    assert paths == {f"./{name}.bpf.c"} | {header for header in HEADERS if header.encode() in text}
    assert not re.search(rb"/(home|root|work|tmp|usr)/", text)


@pytest.mark.parametrize("name", SECTIONS)
def test_the_licence_is_one_the_kernel_takes_and_ours(name: str) -> None:
    """include/linux/license.h, license_is_gpl_compatible."""
    assert elf(name).sections["license"] == b"Dual MIT/GPL\0"


def test_something_else_is_no_object() -> None:
    """Neither ELF nor BTF."""
    with pytest.raises(ValueError, match="ELF"):
        Elf(b"MZ" + bytes(100))
    with pytest.raises(BpfUnavailable, match="is no BTF"):
        Btf(bytes(100))
    with pytest.raises(BpfUnavailable, match="is no BTF"):
        Btf(b"")


# -- types -------------------------------------------------------------------------------------------------------------


def small_btf(types: list[tuple[int, ...]], strings: bytes) -> bytes:
    words = b"".join(struct.pack(f"<{len(row)}I", *row) for row in types)
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(words), len(words), len(strings)) + words + strings


def test_fields_are_found_through_anonymous_members_and_typedefs() -> None:
    """Struct outer { int a; union { struct { int b; inner_t c; }; long d; }; }, inner_t a typedef of struct inner { int x, y; }."""
    names = b"\0int\0outer\0a\0b\0c\0d\0inner\0inner_t\0x\0y\0"
    at = {name: names.index(b"\0" + name.encode() + b"\0") + 1 for name in names.decode().split("\0") if name}
    types = [
        (at["int"], 1 << 24, 4, 32),  # 1
        (at["inner"], 4 << 24 | 2, 8, at["x"], 1, 0, at["y"], 1, 32),  # 2
        (at["inner_t"], 8 << 24, 2),  # 3
        (0, 4 << 24 | 2, 12, at["b"], 1, 0, at["c"], 3, 32),  # 4: the struct without name
        (0, 5 << 24 | 2, 12, 0, 4, 0, at["d"], 1, 0),  # 5: the union without name
        (at["outer"], 4 << 24 | 2, 16, at["a"], 1, 0, 0, 5, 32),  # 6
    ]
    btf = Btf(small_btf(types, names))
    assert btf.locate("outer", "a") == (0, 4)
    assert btf.locate("outer", "b") == (4, 4)
    assert btf.locate("outer", "c", "y") == (12, 4)
    assert btf.locate("outer", "d") == (4, 4)
    assert (btf.locate("outer", "e"), btf.locate("nobody", "a")) == (None, None)
    assert (btf.size_of("outer"), btf.size_of("nobody")) == (16, None)
    with pytest.raises(BpfUnavailable, match="this kernel has no outer\\.e"):
        btf.offset("outer", "e")


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 19), st.integers(0, 9)), min_size=1, max_size=300),
    st.sampled_from([0, 0xFFFFFFFF, 0x01000000, 4 << 24 | 2]),
)
def test_every_record_is_found_whatever_its_length(records: list[tuple[int, int]], word: int) -> None:
    """Of random kinds and numbers of members, whose words may look like another record: type n has the size of the n-th record."""
    fixed, each = btf_module._FIXED.tolist(), btf_module._EACH.tolist()
    types = [
        (0, kind << 24 | members, nth, *[word] * (fixed[kind] + each[kind] * members))
        for nth, (kind, members) in enumerate(records)
    ]
    btf = Btf(small_btf(types, b"\0"))
    assert [int(btf._words[at + 2]) for at in btf._at[1:]] == list(range(len(records)))
    assert [btf.kind(number) for number in range(1, len(records) + 1)] == [kind for kind, _ in records]


def test_a_kind_of_a_later_version_is_refused() -> None:
    """Its length is not known, so nothing behind it could be read."""
    with pytest.raises(BpfUnavailable, match="kind 25"):
        Btf(small_btf([(0, 25 << 24, 0)], b"\0"))


@needs_btf
def test_the_kernels_types_have_the_sizes_its_slabs_have() -> None:
    """sizeof(struct anon_vma_chain) fits its slot, and a pointer to it is where the C program says."""
    btf = kernel_btf()
    size = btf.size_of("anon_vma_chain")
    assert size is not None
    slab = Path("/sys/kernel/slab/anon_vma_chain/object_size")
    if os.access(slab, os.R_OK):
        assert int(slab.read_text()) >= size
    assert btf.find("bpf_iter_task_vma", FUNC)
    assert btf.find("anon_vma", STRUCT)
    assert btf.enumerator("pageflags", "PG_locked") == 0
    with pytest.raises(BpfUnavailable, match="no PG_nothing in enum pageflags"):
        btf.enumerator("pageflags", "PG_nothing")


# -- relocation --------------------------------------------------------------------------------------------------------


@needs_btf
def test_relocated_instructions_have_this_kernels_offsets() -> None:
    """Each access of each program: the number in the instruction is where the kernel's BTF puts the field."""
    for name, section in SECTIONS.items():
        object_, kernel = elf(name), kernel_btf()
        code = relocate(object_, section, kernel)
        found = accesses(object_, Btf(object_.sections[".BTF"]), section)
        assert found
        optional = {access.field for access in found if access.what == 2}
        for access in found:
            place = kernel.locate(access.owner, *access.path)
            assert place is not None or access.field in optional
            opcode, _, off, imm = struct.unpack_from("<BBhi", code, access.instruction * 8)
            said = off if opcode & 7 in (1, 2, 3) else imm
            if access.what == 7:
                assert kernel.name_of(said) == access.owner
            elif place is not None or access.what == 2:
                assert said == (place is not None if access.what == 2 or place is None else place[0]), access


def without(names: list[str]) -> Btf:
    """This kernel's BTF, had it called some things otherwise."""
    data = VMLINUX.read_bytes()
    for name in names:
        data = data.replace(b"\0" + name.encode() + b"\0", b"\0" + b"?" * len(name) + b"\0")
    return Btf(data)


@needs_btf
def test_a_kernel_whose_structures_differ_is_told_what_is_missing() -> None:
    """All of it, in one line."""
    with pytest.raises(BpfUnavailable) as caught:
        relocate(elf("task_vma"), "iter/task_vma", without(["anon_vma_chain", "same_vma"]))
    said = str(caught.value)
    assert "no anon_vma_chain.same_vma" in said
    assert "no vm_area_struct.anon_vma_chain" in said
    assert "\n" not in said


@needs_btf
def test_counters_of_later_kernels_are_optional() -> None:
    """Before 5.19 an anon_vma had a degree instead: the program loads, and the counters are unknown."""
    old = without(["num_active_vmas", "num_children"])
    relocate(elf("task_vma"), "iter/task_vma", old)
    try:
        iterator = Iterator("task_vma", kernel=old)
    except BpfUnavailable as error:
        if REQUIRE_ALL:
            raise
        pytest.skip(str(error))
    with iterator:
        rows = np.frombuffer(iterator.read(), np.int64).reshape(-1, 8)
    chains = rows[rows[:, 0] & 0xFFFFFFFF == 3]
    assert len(chains)
    assert (chains[:, 5:7] == -1).all()


@needs_btf
def test_a_kernel_without_the_iterator_is_told_so() -> None:
    """Before Linux 5.12, or without CONFIG_BPF_SYSCALL."""
    with pytest.raises(BpfUnavailable, match="no BPF iterator task_vma"):
        Iterator("task_vma", kernel=without(["bpf_iter_task_vma"]))


@needs_btf
def test_a_kernel_without_a_function_for_programs_is_told_so() -> None:
    """Linux 6.1 has none that counts: whoever wants page tables reads pagemap there. What was opened until then is closed."""
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(BpfUnavailable, match=r"no bpf_iter_num_destroy\(\)"):
        Iterator("task_pages", kernel=without(["bpf_iter_num_destroy"]))
    assert set(Path("/proc/self/fd").iterdir()) == before


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_no_btf_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """CONFIG_DEBUG_INFO_BTF is not set."""
    monkeypatch.setattr(btf_module, "VMLINUX", tmp_path / "vmlinux")
    with pytest.raises(BpfUnavailable, match="CONFIG_DEBUG_INFO_BTF"):
        btf_module.kernel_btf.__wrapped__()


@needs_btf
@pytest.mark.parametrize(
    ("number", "said"), [(1, "CAP_BPF and CAP_PERFMON"), (38, "no bpf"), (22, "does not take our BPF program")]
)
def test_a_kernel_that_refuses_is_quoted(monkeypatch: pytest.MonkeyPatch, number: int, said: str) -> None:
    """EPERM, ENOSYS, EINVAL of bpf(2); every descriptor taken so far is let go."""
    before = set(Path("/proc/self/fd").iterdir())

    def refuse(command: int, attributes: bytes) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(syscall, "bpf", refuse)
    with pytest.raises(BpfUnavailable, match=said):
        Iterator("task_vma")
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_another_architecture_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of bpf(2) is not the same everywhere."""
    monkeypatch.setattr(platform, "machine", lambda: "vax")
    with pytest.raises(BpfUnavailable, match="vax"):
        syscall.bpf(0, b"")


@needs_btf
def test_a_verifier_that_refuses_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that reads what it may not: the verifier's last words are in the message."""

    def broken(object_: Elf, section: str, kernel: Btf) -> bytes:
        code = bytearray(relocate(object_, section, kernel))
        code[:8] = struct.pack("<BBhi", 0x79, 0x10 | 1, 32000, 0)  # r1 = *(u64 *)(r1 + 32000)
        return bytes(code)

    monkeypatch.setattr("rmaplab.host.bpf.loader.relocate", broken)
    with pytest.raises(BpfUnavailable) as caught:
        Iterator("peek", over_map="requests")
    if "CAP_BPF" in str(caught.value):
        pytest.skip(str(caught.value))
    assert "the verifier: " in str(caught.value)
    assert "\n" not in str(caught.value)
