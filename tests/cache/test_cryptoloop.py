"""A loop device that encrypts: what lies on its disk, by each form, and what comes back.

forms   twofish   twofish256   twofish-compat   twofishSL92   twofish-ecb
IV      number    number       zeros            zeros         no chain         512 bytes at a time, by the library's own CBC and ECB
"""

from collections.abc import MutableMapping
from hashlib import sha256, sha512

import numpy as np
import pytest
from oxifish import Padding, TwofishKey

import rmaplab
from rmaplab.cache.area_store import AreaStore, MemoryAreaStore
from rmaplab.cache.cryptoloop import CryptFile, CryptStore, LoopCipher
from rmaplab.cache.loop_keys import FORMS, LoopForm, find_form, passphrase_in
from rmaplab.errors import DiskError, KernelBug, UsageError
from rmaplab.kernels.prices import GIVEN
from rmaplab.machine.arrays import U8
from rmaplab.objects.flags import MAP_SHARED, MS_SYNC
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.units import PAGE_SIZE

PASSPHRASE = b"correct horse"
RANDOM = np.random.default_rng(19).integers(0, 256, (4, PAGE_SIZE), np.uint8)
NUMBERS = np.array((0, 5, 6, (1 << 29) + 3))  # the last one's sectors are beyond 32 bits
forms = pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))


def cipher_of(form: LoopForm, passphrase: bytes = PASSPHRASE) -> LoopCipher:
    return LoopCipher(form, form.key_of(passphrase))


def sector_by_sector(form: LoopForm, number: int, page: U8) -> bytes:
    """By the library's own modes, as the kernel's transfer function goes through a page."""
    key, there = TwofishKey(form.key_of(PASSPHRASE)), b""
    for sector in range(8):
        plain = page[sector * 512 :][:512].tobytes()
        if form.name.endswith("-ecb"):
            there += key.ecb_encryptor(padding=Padding.NONE).finalize(plain)
            continue
        counted = form.name in ("twofish", "twofish256")
        low = (number * 8 + sector) % (1 << 32) if counted else 0
        there += key.encrypt(plain, iv=low.to_bytes(4, "little") + bytes(12), padding=Padding.NONE)
    return there


@forms
def test_many_pages_at_once_are_sector_by_sector(form: LoopForm) -> None:
    there = cipher_of(form).encrypt(NUMBERS, RANDOM)
    assert there.shape == RANDOM.shape
    for i, number in enumerate(NUMBERS.tolist()):
        assert there[i].tobytes() == sector_by_sector(form, number, RANDOM[i])
        assert cipher_of(form).encrypt_page(number, RANDOM[i].tobytes()) == there[i].tobytes()
        assert cipher_of(form).decrypt_page(number, there[i].tobytes()) == RANDOM[i].tobytes()
    assert np.array_equal(cipher_of(form).decrypt(NUMBERS, there), RANDOM)
    assert cipher_of(form).encrypt(NUMBERS[:0], RANDOM[:0]).shape == (0, PAGE_SIZE)


IMAGE = {
    "twofish": "3ccdd1cd27810d6caa8e51ea34825326bf1b7a9ccb039020a49b0479396ad24a",
    "twofish-ecb": "525b05d5f6e38d8d09079dea96bdcc1526d2b7f65ba73d5cae940e7cbcfbb13a",
    "twofish256": "566504b51fa7566e25e48b1a4341ab9f5039a113020fec226b1f51afa21eb277",
    "twofish-compat": "023a6654b96b2fc80041e2d8c27669360a049967251808e1538d0a5a608c1582",
    "twofishSL92": "fae8138bc27ef87447fb6a2e3339246d48988a18fa0bdfe370c31352e52d5f84",
}
"""SHA-256 of image(). A 6.1 kernel's dm-crypt has read each of these as plain_image(); tests/host/test_cryptoloop_in_uml.py asks it again."""


def plain_image() -> U8:
    """Pages 0 to 2: one of zeros, one of the same 16 bytes, one of numbers."""
    numbers = np.arange(1024, dtype="<u4").view(np.uint8)
    same = np.tile(np.arange(16, dtype=np.uint8), 256)
    return np.stack((np.zeros(PAGE_SIZE, np.uint8), same, numbers))


def image(form: LoopForm) -> bytes:
    """As it lies in a file behind a loop device of this form."""
    return cipher_of(form).encrypt(np.arange(3), plain_image()).tobytes()


@forms
def test_an_image_stays_what_it_is(form: LoopForm) -> None:
    assert sha256(image(form)).hexdigest() == IMAGE[form.name]


def test_what_shows_through() -> None:
    """With a number in the IV no two sectors of zeros are alike; with none they all are; without a chain all blocks are."""
    zeros = np.zeros((3, PAGE_SIZE), np.uint8)
    alike = {"twofish": (24, 768), "twofish-compat": (1, 32), "twofish-ecb": (1, 1)}
    for name, (sectors, blocks) in alike.items():
        there = cipher_of(FORMS[name]).encrypt(np.arange(3), zeros).tobytes()
        assert len({there[i : i + 512] for i in range(0, len(there), 512)}) == sectors
        assert len({there[i : i + 16] for i in range(0, len(there), 16)}) == blocks


# -- keys --------------------------------------------------------------------------------------------------------------


def test_keys() -> None:
    """The passphrase itself, cut at 31; RIPEMD-160 of it, filled up to 192 bits; SHA-512's first half."""
    long = b"0123456789" * 5
    assert FORMS["twofish"].key_of(b"abc") == b"abc".ljust(32, b"\0")
    assert FORMS["twofish"].key_of(long) == FORMS["twofish-ecb"].key_of(long) == long[:31] + b"\0"
    assert FORMS["twofish-compat"].key_of(b"abc").hex() == "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc" + "00" * 4
    assert FORMS["twofish256"].key_of(long) == FORMS["twofishSL92"].key_of(long) == sha512(long).digest()[:32]
    assert all(len(form.key_of(long)) == form.key_bytes for form in FORMS.values())


@pytest.mark.parametrize(
    ("data", "passphrase"), [(b"one\ntwo", b"one"), (b"one", b"one"), (b"o\0ne\n", b"o"), (b"\nx", b""), (b"", b"")]
)
def test_a_passphrase_is_a_line(data: bytes, passphrase: bytes) -> None:
    assert passphrase_in(data) == passphrase


@pytest.mark.parametrize(("name", "why"), [("towfish", "did you mean twofish"), ("\x1b[2J", r"crypt=\\x1b\[2J is not here: choose from twofish, ")])  # fmt: skip
def test_a_form_that_is_none(name: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        find_form(name)


# -- an area -----------------------------------------------------------------------------------------------------------


class Bad(AreaStore):
    """A store that fails at odd slots."""

    def __init__(self, under: AreaStore) -> None:
        self.under = under

    def read(self, slot: int) -> U8:
        if slot % 2:
            raise DiskError(f"slot {slot}")
        return self.under.read(slot)

    def write(self, slot: int, page: U8) -> None:
        if slot % 2:
            raise DiskError(f"slot {slot}")
        self.under.write(slot, page)


@forms
def test_an_area_behind_it(form: LoopForm) -> None:
    """Batches are what its pages are one by one; the store under it has nothing that can be read."""
    under = MemoryAreaStore(9)
    store = CryptStore(under, cipher_of(form))
    slots, rows = np.array((3, 8, 1)), np.array((2, 0, 3))
    assert store.write_pages(slots, RANDOM, rows) == {}
    back: U8 = np.zeros((5, PAGE_SIZE), np.uint8)
    assert store.read_pages(slots, back, np.array((4, 1, 0))) == {}
    assert np.array_equal(back[[4, 1, 0]], RANDOM[rows])
    assert not back[2:4].any()
    for slot, row in zip(slots.tolist(), rows.tolist(), strict=True):
        assert under.read(slot).tobytes() == sector_by_sector(form, slot, RANDOM[row])
        assert np.array_equal(store.read(slot), RANDOM[row])
    store.write(2, RANDOM[1])
    assert under.read(2).tobytes() == sector_by_sector(form, 2, RANDOM[1])
    with pytest.raises(KernelBug):
        store.read(9)
    with pytest.raises(KernelBug):
        store.write_pages(np.array((0,)), RANDOM, np.array((0,)))


def test_a_disk_that_fails_under_it() -> None:
    """What could not be read leaves its row as it was; what could be is right."""
    under = MemoryAreaStore(9)
    good = CryptStore(under, cipher_of(FORMS["twofish"]))
    slots = np.array((1, 2, 3, 4))
    good.write_pages(slots, RANDOM, np.arange(4))
    bad = CryptStore(Bad(under), good.cipher)
    back: U8 = np.full((4, PAGE_SIZE), 7, np.uint8)
    assert sorted(bad.read_pages(slots, back, np.arange(4))) == [0, 2]
    assert (back[[0, 2]] == 7).all()
    assert np.array_equal(back[[1, 3]], RANDOM[[1, 3]])
    assert sorted(bad.write_pages(slots, RANDOM, np.arange(4))) == [0, 2]


# -- a file ------------------------------------------------------------------------------------------------------------


@forms
def test_a_file_behind_it(form: LoopForm) -> None:
    """A mapping of pages as any other; each page that passes is counted; a hole is one."""
    under: MutableMapping[int, bytes] = {}
    counted: list[str] = []
    file = CryptFile(under, cipher_of(form), counted.append)
    assert not file
    assert 0 not in file
    file[5], file[0] = RANDOM[1].tobytes(), RANDOM[0].tobytes()
    assert under == {0: sector_by_sector(form, 0, RANDOM[0]), 5: sector_by_sector(form, 5, RANDOM[1])}
    assert (file[0], file[5], sorted(file), len(file)) == (RANDOM[0].tobytes(), RANDOM[1].tobytes(), [0, 5], 2)
    assert counted == ["twofish_page"] * 4
    del file[5]
    with pytest.raises(KeyError):
        file[5]
    assert len(counted) == 4


@pytest.mark.parametrize("kernel", ["2.6.2", "2.6.5-rc1-aa1", "6.18"])
def test_a_file_of_a_system(kernel: str) -> None:
    """Tasks see what was written, through calls and mappings; its disk has none of it; each page costs."""
    system = rmaplab.boot(kernel, ram="64M")
    words = b"a secret of many words. " * 400
    file = system.new_file(words, crypt="twofish")
    assert isinstance(file.store, CryptFile)
    lies = file.store.under
    assert sorted(lies) == [0, 1, 2]
    assert not any(b"secret" in page for page in lies.values())
    counts = system.machine.ledger.counts
    assert counts["twofish_page"] == 0
    task = system.spawn()
    fd = task.open(file, writable=True)
    assert task.pread(fd, len(words), 0) == words
    assert counts["twofish_page"] == 3
    at = task.mmap(PAGE_SIZE, flags=MAP_SHARED, file=fd)
    task.write(at, b"A SECRET")
    task.pwrite(fd, b"in public", 2 * PAGE_SIZE)
    before = dict(lies)
    task.msync(at, PAGE_SIZE, MS_SYNC)
    task.fsync(fd)
    assert counts["twofish_page"] == 5
    assert [index for index in before if lies[index] != before[index]] == [0, 2]
    assert file.store[0].startswith(b"A SECRET")
    assert file.store[2].startswith(b"in public")
    task.ftruncate(fd, PAGE_SIZE + 1)
    assert sorted(lies) == [0, 1]
    system.check()


def test_a_file_behind_it_takes_time() -> None:
    """As much as the price list says, for each page that was read or written, and nothing else is otherwise."""
    took, pages = [], 0
    for crypt in (None, "twofish-compat"):
        system = rmaplab.boot("2.6.5-rc1-aa1", ram="64M")
        file = system.new_file(b"x" * 20 * PAGE_SIZE, crypt=crypt)

        def program(task: rmaplab.Task, file: AddressSpace = file) -> None:
            fd = task.open(file, writable=True)
            for i in range(20):
                assert task.pread(fd, PAGE_SIZE, i * PAGE_SIZE) == b"x" * PAGE_SIZE
            task.pwrite(fd, b"y" * 5 * PAGE_SIZE, 0)
            task.fsync(fd)

        system.spawn(program)
        system.run()
        took.append(system.machine.sched.now_ns)
        pages = system.machine.ledger.counts["twofish_page"]
    assert pages == 25
    assert took[1] - took[0] == pages * GIVEN["twofish_page"].ns
