"""Swap behind a loop device: how it is written, that nothing of it can be read on the disk, and what a wrong key says.

"8M@5,crypt=twofish"             a key nobody knows
"./area,crypt=FORM,key=./pass"   header and slots lie encrypted
"""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmaplab import UsageError, boot
from rmaplab.cache.area_store import FileAreaStore, MemoryAreaStore
from rmaplab.cache.cryptoloop import CryptStore
from rmaplab.cache.loop_keys import FORMS
from rmaplab.cache.swap_area import SwapHeader, write_header
from rmaplab.errors import DiskError, SyscallError
from rmaplab.kernels.loop_words import LoopWords, glued, parted
from rmaplab.kernels.prices import GIVEN
from rmaplab.kernels.swap_space import SwapWords, parse_swap
from rmaplab.lab.conformance.pressure_run import install
from rmaplab.objects.flags import MAP_PRIVATE
from rmaplab.units import PAGE_SIZE

TWOFISH, COMPAT = FORMS["twofish"], FORMS["twofish-compat"]
PAGES = 12


def encrypted_area(path: Path, form: str, passphrase: Path) -> Path:
    """As mkswap leaves /dev/loop0 with a file of PAGES pages behind it."""
    cipher = LoopWords(FORMS[form], passphrase).cipher()
    pages = np.full((PAGES, PAGE_SIZE), 0xEE, np.uint8)
    pages[0] = np.frombuffer(write_header(SwapHeader(PAGES - 1)), np.uint8)
    path.write_bytes(cipher.encrypt(np.arange(PAGES), pages).tobytes())
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "pass"
    path.write_bytes(b"open sesame\nand more\n")
    return path


# -- words -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "areas"),
    [
        ("64M,crypt=twofish", [(64 << 20, None, LoopWords(TWOFISH))]),
        ("8K@5 , crypt = twofish-compat, key=./a", [(8192, 5, LoopWords(COMPAT, Path("./a")))]),
        (
            "8K,crypt=twofish,16K@7,./f@3,key=/k/k,crypt=twofish",
            [(8192, None, LoopWords(TWOFISH)), (16384, 7, None), (Path("./f"), 3, LoopWords(TWOFISH, Path("/k/k")))],
        ),
        (["/a,b,crypt=twofish,key=k", "8K"], [(Path("/a,b"), None, LoopWords(TWOFISH, Path("k"))), (8192, None, None)]),
        ("./crypt=x", [(Path("./crypt=x"), None, None)]),
        (Path("./f,crypt=twofish"), [(Path("./f,crypt=twofish"), None, None)]),
        ("0,crypt=twofish", []),
    ],
)
def test_words_and_what_they_mean(words: SwapWords, areas: list[tuple[object, ...]]) -> None:
    assert list(map(tuple, parse_swap(words))) == areas


def test_options_stay_with_their_area() -> None:
    assert list(glued(["a", "crypt=b", " key=c", "d", "key=e"])) == ["a,crypt=b, key=c", "d,key=e"]
    assert list(glued(["crypt=b", "c"])) == ["crypt=b", "c"]
    assert list(glued([])) == []
    assert parted("a,b") == ("a,b", None)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("8M,crypt=blowfish", "crypt=blowfish is not here.*: choose from twofish, twofish-ecb, twofish256, twofish-compat, twofishSL92"),
        ("8M,crypt=twofish@5", "crypt=twofish@5 is not here"),
        ("8M,crypt=", "crypt= is not here"),
        ("8M,key=./k", r"key=\./k without crypt=: write crypt=twofish,key=FILE"),
        ("8M,crypt=twofish,key=", "key= of no file"),
        ("8M,crypt=twofish,crypt=twofish", "crypt= twice for 8M: leave one out"),
        ("crypt=twofish", "'crypt=twofish' is no swap by itself: write it behind a size or a file"),
        ("8M,crypt=twofish,key=./missing", r"key=missing: No such file or directory: name a file that has the passphrase"),
        ("8M,crypt=twofish,key=.", "key=.: Is a directory"),
        ("8M,crypt=twofish,key=\0", "key=.*: no path"),
        ("8M,crypt=twofish,key=/dev/null", "key=/dev/null has no passphrase in its first line"),
        ("./area,crypt=twofish", r"\./area,crypt=twofish has no key: add key=FILE"),
        ("\x1b,crypt=twofish", r"'\\\\x1b' is no swap"),
    ],
)  # fmt: skip
def test_what_is_no_loop_device(words: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=why) as refused:
        boot("2.6.2", ram="64M", swap=words)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("kernel", "forms"),
    [
        ("2.4.21", ()),
        ("2.6.2", ("twofish", "twofish-ecb", "twofish256")),
        ("2.6.5-rc1", ("twofish", "twofish-ecb", "twofish256")),
        ("2.6.5-rc1+00000_twofish-2.6", tuple(FORMS)),
        ("2.6.7", ("twofish", "twofish-ecb", "twofish256")),
        ("6.18", tuple(FORMS)),
    ],
)
def test_who_has_which(kernel: str, forms: tuple[str, ...]) -> None:
    """2.4.21 no cryptoloop yet, loop_fish2 the patch alone, 6.18 dm-crypt in place of both: under swap and under files."""
    system = boot(kernel, ram="64M")
    for name, form in FORMS.items():
        if name in forms:
            assert boot(kernel, ram="64M", swap=f"8M,crypt={name}").kernel.swap.nr_free
            assert system.new_file(b"x", crypt=name).store
            continue
        instead = "crypt=twofish" if forms else "2.6.2 to 2.6.7"
        why = f"crypt={name} is {form.driver}'s, which this kernel has not: try 2.6.5-rc1-aa1, or {instead}"
        with pytest.raises(UsageError, match=re.escape(why)):
            boot(kernel, ram="64M", swap=f"8M,crypt={name}")
        with pytest.raises(UsageError, match=re.escape(why)):
            system.new_file(b"x", crypt=name)


# -- pages -------------------------------------------------------------------------------------------------------------


class Stage:
    """A task with more pages than there is RAM, patterned."""

    PAGES = 130

    def __init__(self, swap: SwapWords, kernel: str = "2.6.5-rc1-aa1", **box: Any) -> None:
        small: dict[str, Any] = {"ram": 96 * PAGE_SIZE, "boot_use": 0, "pages_min": 4, "overcommit": 1}
        self.system = boot(kernel, swap=swap, paging="i386", **small, **box)
        install(self.system)
        self.task = self.system.spawn()
        self.at = self.task.mmap(self.PAGES * PAGE_SIZE)

    def live(self) -> "Stage":
        """All is written, then all is read: whether it is what it was."""
        for i in range(self.PAGES):
            self.task.write(self.at + i * PAGE_SIZE, self.page(i))
        self.system.check()
        for i in range(self.PAGES):
            assert self.task.read(self.at + i * PAGE_SIZE, PAGE_SIZE) == self.page(i)
        self.system.check()
        return self

    @staticmethod
    def page(i: int) -> bytes:
        return b"page %3d" % i * 512

    def raw(self, number: int = 0) -> bytes:
        """All of an area but its header, as it lies on the disk."""
        store = self.system.kernel.swap.stores[number]
        under = store.under if isinstance(store, CryptStore) else store
        assert isinstance(under, MemoryAreaStore | FileAreaStore)
        return b"".join(under.read(slot).tobytes() for slot in range(1, under.nr_slots))


@pytest.mark.parametrize("form", FORMS)
def test_pages_go_out_and_come_back(form: str) -> None:
    """Byte for byte; what lies on the disk has no word of them, where a plain area is full of them; each page is counted once each way."""
    plain, crypt = Stage("512K").live(), Stage(f"512K,crypt={form}").live()
    for word in (b"page", b"127pa"):
        assert plain.raw().count(word) >= 511
        assert crypt.raw().count(word) == 0
    counts = crypt.system.machine.ledger.counts
    assert counts["twofish_page"] == counts["swap_write"] + counts["swap_read"] > Stage.PAGES - 96
    assert "twofish_page" not in plain.system.machine.ledger.counts
    other = {name: nr for name, nr in counts.items() if name != "twofish_page"}
    assert other == dict(plain.system.machine.ledger.counts)


@pytest.mark.parametrize("kernel", ["2.6.2", "2.6.7"])
def test_on_any_kernel(kernel: str) -> None:
    """It stands before the store, whoever swaps."""
    stage = Stage("512K,crypt=twofish", kernel).live()
    assert stage.raw().count(b"page") == 0
    assert isinstance(stage.system.kernel.swap.stores[0], CryptStore)


def test_each_box_has_a_key_of_its_own() -> None:
    """Where none was named."""
    ours, theirs = (Stage("512K,crypt=twofish").live().raw() for _ in range(2))
    assert ours != theirs


def test_it_takes_time() -> None:
    """As much as the price list says, of whoever hands pages over; the disk takes none here."""
    price = GIVEN["twofish_page"]
    assert price.source.startswith("believed")
    at_once: dict[str, Any] = {"disk_seek_us": 0, "disk_rpm": 0, "disk_kib_per_s": 0}
    plain, crypt = (Stage(f"512K{behind}", **at_once).live().system.machine for behind in ("", ",crypt=twofish"))
    took = [machine.sched.now_ns + machine.ledger.pending_ns for machine in (plain, crypt)]
    assert took[1] - took[0] == crypt.ledger.counts["twofish_page"] * price.ns > 0


# -- files of the host -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_file_is_read_by_its_key_alone(form: str, tmp_path: Path, key: Path) -> None:
    """Its header lies encrypted: without the key, with another or as another form it is no swap area. Refused, it is as it was."""
    path = encrypted_area(tmp_path / "area", form, key)
    before = path.read_bytes()
    assert b"SWAPSPACE2" not in before
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"open barley\n")
    other = "twofish-compat" if form != "twofish-compat" else "twofish"
    for behind, why in {
        f",crypt={form},key={wrong}": f"area: there is no swap-space signature behind crypt={form}: is it the right key, and the form",
        f",crypt={other},key={key}": f"no swap-space signature behind crypt={other}: is it the right key",
        "": "area: there is no swap-space signature .EINVAL of swapon.: prepare",
    }.items():
        with pytest.raises(UsageError, match=why) as refused:
            boot("2.6.5-rc1-aa1", ram="64M", swap=f"{path}{behind}")
        assert "\n" not in str(refused.value)
    assert path.read_bytes() == before
    system = boot("2.6.5-rc1-aa1", ram="64M", swap=f"{path}@3,crypt={form},key={key}")
    (row,) = system.swaps
    assert (row.name, row.pages, row.priority) == (str(path), PAGES - 2, 3)


def test_pages_in_a_file(tmp_path: Path, key: Path) -> None:
    """They lie where Linux would look for them, encrypted; another system finds them with the key."""
    path = encrypted_area(tmp_path / "area", "twofish", key)
    stage = Stage([f"{path}@1,crypt=twofish,key={key}", "512K"]).live()
    assert stage.system.swaps
    whole = np.frombuffer(path.read_bytes(), np.uint8).reshape(PAGES, PAGE_SIZE)
    assert b"page" not in whole.tobytes()
    cipher = LoopWords(TWOFISH, key).cipher()
    found = {page.tobytes() for page in cipher.decrypt(np.arange(PAGES), whole)[1:-1]}
    assert found <= {stage.page(i) for i in range(stage.PAGES)}
    assert len(found) == PAGES - 2


def test_swapon_and_swapoff_behind_it(tmp_path: Path, key: Path) -> None:
    """While the system runs; errors are swapon's. What lies there comes back."""
    path = encrypted_area(tmp_path / "area", "twofish-compat", key)
    stage = Stage("512K").live()
    system = stage.system
    with pytest.raises(SyscallError, match="no swap-space signature behind crypt=twofish:") as failure:
        system.swapon(f"{path},crypt=twofish,key={key}")
    assert failure.value.name == "EINVAL"
    assert system.swapon(f"{path}@7,crypt=twofish-compat,key={key}") == 1
    assert system.swapon("64K@8,crypt=twofish") == 2
    stage.live()
    assert all(row.used for row in system.swaps)
    assert not stage.raw(2).count(b"page")
    system.swapoff(path)
    system.swapoff(2)
    system.check()
    assert stage.live().task.read(stage.at, 8) == b"page   0"


def test_a_passphrase_from_a_pipe(tmp_path: Path, key: Path) -> None:
    """It gives it once; a second system finds it, too."""
    path = encrypted_area(tmp_path / "area", "twofish", key)
    reading, writing = os.pipe()
    os.write(writing, key.read_bytes())
    os.close(writing)
    for _ in range(2):
        system = boot("2.6.2", ram="64M", swap=f"{path},crypt=twofish,key=/dev/fd/{reading}")
        assert system.kernel.swap.nr_free == PAGES - 2
        system.close()
    os.close(reading)


# -- a directory of the host -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_images_of_a_directory(form: str, tmp_path: Path, key: Path) -> None:
    """What lies in an image is shown, whole sectors of it; without the key its own bytes are."""
    shown = tmp_path / "shown"
    shown.mkdir()
    cipher = LoopWords(FORMS[form], key).cipher()
    words = (b"%8d" % i for i in range(PAGE_SIZE // 4))
    plain = b"".join(words)
    lies = b"".join(cipher.encrypt_page(i, plain[i * PAGE_SIZE :][:PAGE_SIZE]) for i in range(2))
    (shown / "image").write_bytes(lies[: PAGE_SIZE + 700])
    system = boot("2.6.5-rc1-aa1", ram="64M")
    task = system.spawn()
    file = system.mount_host(shown, crypt=form, key=key).file("image")
    assert file.size == PAGE_SIZE + 512
    fd = task.open(file)
    assert task.pread(fd, 9000, 0) == plain[: PAGE_SIZE + 512]
    at = task.mmap(2 * PAGE_SIZE, 1, MAP_PRIVATE, file=fd)
    assert task.read(at + PAGE_SIZE, PAGE_SIZE) == plain[PAGE_SIZE:][:512] + bytes(PAGE_SIZE - 512)
    assert system.machine.ledger.counts["twofish_page"] == 2
    assert task.pread(task.open(system.mount_host(shown).file("image")), 9000, 0) == lies[: PAGE_SIZE + 700]
    with pytest.raises(DiskError, match="read-only"):
        file.store[0] = bytes(PAGE_SIZE)


def test_what_is_refused_of_files(tmp_path: Path, key: Path) -> None:
    system = boot("2.6.2", ram="64M")
    with pytest.raises(UsageError, match="crypt=twofish of files that are there: give key"):
        system.mount_host(tmp_path, crypt="twofish")
    with pytest.raises(UsageError, match="a key without crypt"):
        system.mount_host(tmp_path, key=key)
    with pytest.raises(UsageError, match="crypt of a file that is on no disk"):
        system.new_file(b"x", on_disk=False, crypt="twofish")
    with pytest.raises(UsageError, match="crypt=des is not here"):
        system.new_file(b"x", crypt="des")
