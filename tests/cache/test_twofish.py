"""Twofish's published vectors: what the cipher of a loop device hangs on.

    key of 16, 24, 32 bytes      the "intermediate value" vectors, then the chain of ecb_tbl.txt: each key and text from the ciphertexts before

Source: the AES submission of Twofish, ecb_ival.txt and ecb_tbl.txt.
"""

import subprocess
import sys

import pytest

from rmaplab.cache.twofish import BLOCK, KEY_SIZES, Twofish

KEY = bytes.fromhex("0123456789ABCDEFFEDCBA987654321000112233445566778899AABBCCDDEEFF")
OF_ZEROS = {
    16: (bytes(16), "9F589F5CF6122C32B6BFEC2F2AE8C35A"),
    24: (KEY[:24], "CFD1D2E5A9BE9CDF501F13B892BD2248"),
    32: (KEY, "37527BE0052334B89F0CFCCAE87CFA20"),
}
AFTER_49 = {
    16: "5D9D4EEFFA9151575524F115815A12E0",
    24: "E75449212BEEF9F4A390BD860A640941",
    32: "37FE26FF1CF66175F5DDF4C33B97A205",
}


@pytest.mark.parametrize("size", KEY_SIZES)
def test_a_block_of_zeros(size: int) -> None:
    """There and back."""
    key, there = OF_ZEROS[size]
    assert Twofish(key).encrypt(bytes(BLOCK)).hex().upper() == there
    assert Twofish(key).decrypt(bytes.fromhex(there)) == bytes(BLOCK)


@pytest.mark.parametrize("size", KEY_SIZES)
def test_the_chain_of_49(size: int) -> None:
    """Each plain text is the ciphertext before, each key the plain texts before that."""
    key, plain = bytes(size), bytes(BLOCK)
    for _ in range(49):
        there = Twofish(key).encrypt(plain)
        key, plain = (plain + key)[:size], there
    assert there.hex().upper() == AFTER_49[size]


def test_blocks_stand_alone() -> None:
    """Many at once are each as one."""
    cipher, blocks = Twofish(KEY), [bytes([i]) * BLOCK for i in range(5)]
    assert cipher.encrypt(b"".join(blocks)) == b"".join(map(cipher.encrypt, blocks))
    assert cipher.encrypt(b"") == cipher.decrypt(b"") == b""


WITHOUT = """
import sys
sys.modules["oxifish"] = None
from rmaplab.cli import main
main({words})
"""


@pytest.mark.parametrize("swap", ["8M,crypt=twofish", "8M,crypt=twofish-compat", "8M"])
def test_without_the_library(swap: str) -> None:
    """One line that says what to install, and the exit code 2; who encrypts nothing does without it."""
    words = ["run", "forkbench", "--level", "1", "--kernel", "2.6.5-rc1-aa1", "--swap", swap]
    found = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(words=words)], capture_output=True, text=True, check=False
    )
    if swap == "8M":
        assert (found.returncode, found.stderr) == (0, "")
        return
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.count("\n") == 1
    assert "crypt=twofish needs oxifish, which is not here: pip install '.[crypto]'" in found.stderr
