"""Our encrypted images, read by a real kernel's dm-crypt: Debian's user-mode Linux, which is a kernel that runs as a process.

    twofish, twofish256            "twofish-cbc-plain": the IV is the number of the sector
    twofish-compat, twofishSL92    "twofish-cbc-null": "compatibility with obsolete loop_fish2 devices", its source says
    twofish-ecb                    "twofish-ecb"

Skipped where linux.uml is not (apt-get install user-mode-linux). Nothing of the host is written: its root is there read-only.
"""

import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from rmaplab import boot
from rmaplab.cache.loop_keys import FORMS
from rmaplab.cache.swap_area import SwapHeader, write_header
from rmaplab.kernels.loop_words import LoopWords
from rmaplab.lab.conformance.pressure_run import install
from rmaplab.units import PAGE_SIZE

GUEST = Path(__file__).with_name("uml_guest.py")
PASSPHRASE = b"open sesame"
CIPHERS = {
    "twofish": "twofish-cbc-plain",
    "twofish256": "twofish-cbc-plain",
    "twofish-compat": "twofish-cbc-null",
    "twofishSL92": "twofish-cbc-null",
    "twofish-ecb": "twofish-ecb",
}
PAGES = 24


def read_by_linux(images: dict[Path, str], where: Path) -> list[str]:
    """SHA-256 of what dm-crypt makes of each image, whose form is named. Skips where there is no user-mode Linux."""
    linux = shutil.which("linux.uml")
    if linux is None:
        pytest.skip("no user-mode Linux: apt-get install user-mode-linux")
    keys = [f"{CIPHERS[name]}:{FORMS[name].key_of(PASSPHRASE).hex()}" for name in images.values()]
    start = where / "init"
    start.write_text(f"#!/bin/sh\nexec {sys.executable} -B {GUEST} {PAGES * 8} {' '.join(keys)}\n")
    start.chmod(0o755)
    devices = [f"ubd{i}r={path}" for i, path in enumerate(images)]
    machine = ["mem=128M", "rootfstype=hostfs", "ro", f"init={start}", "con=null", "con0=fd:0,fd:1", "quiet"]
    said = subprocess.run(
        [linux, *machine, *devices], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    ).stdout
    assert "\ndone" in said, said
    return [line.split()[2] for line in said.splitlines() if line.startswith("plain ")]


def swapped_to(path: Path, form: str, key: Path) -> bytes:
    """A swap file of this form, with pages of a task that has more than there is RAM: what lies in it is to be read as this."""
    cipher = LoopWords(FORMS[form], key).cipher()
    pages = np.zeros((PAGES, PAGE_SIZE), np.uint8)
    pages[0] = np.frombuffer(write_header(SwapHeader(PAGES - 1, label=form.encode())), np.uint8)
    path.write_bytes(cipher.encrypt(np.arange(PAGES), pages).tobytes())
    system = boot("2.6.5-rc1-aa1", ram=96 * PAGE_SIZE, swap=[f"{path}@1,crypt={form},key={key}", "512K"], boot_use=0, pages_min=4, overcommit=1, paging="i386")  # fmt: skip
    install(system)
    task = system.spawn()
    at = task.mmap(130 * PAGE_SIZE)
    for i in range(130):
        task.write(at + i * PAGE_SIZE, b"page %3d" % i * 512)
    store = system.kernel.swap.stores[0]
    slots = [store.read(slot).tobytes() for slot in range(1, PAGES)]
    assert sum(slot.startswith(b"page") for slot in slots) == PAGES - 2
    return b"".join((pages[0].tobytes(), *slots))


def test_linux_reads_what_was_swapped_out(tmp_path: Path) -> None:
    """Header and pages, in each form, to the last byte."""
    key = tmp_path / "pass"
    key.write_bytes(PASSPHRASE + b"\n")
    images = {tmp_path / f"area{i}": form for i, form in enumerate(FORMS)}
    plain = [swapped_to(path, form, key) for path, form in images.items()]
    assert read_by_linux(images, tmp_path) == [sha256(page).hexdigest() for page in plain]


def test_linux_with_a_wrong_key_reads_something_else(tmp_path: Path) -> None:
    """So the test above can fail: the same image as another form is other bytes."""
    key = tmp_path / "pass"
    key.write_bytes(PASSPHRASE)
    path = tmp_path / "area"
    plain = sha256(swapped_to(path, "twofish", key)).hexdigest()
    link = tmp_path / "again"
    link.write_bytes(path.read_bytes())
    assert [found == plain for found in read_by_linux({path: "twofish", link: "twofish256"}, tmp_path)] == [True, False]
