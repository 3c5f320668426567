"""Twofish from oxifish, which is an extra: imported here and nowhere else, so that its absence is one line."""

from rmaplab.errors import UsageError

try:
    from oxifish import Padding, TwofishKey
except ImportError as _absent:
    raise UsageError(
        "crypt=twofish needs oxifish, which is not here: pip install '.[crypto]' in the clone (pip install oxifish)"
    ) from _absent

BLOCK = 16  # bytes
KEY_SIZES = (16, 24, 32)


class Twofish:
    """The cipher with one key, of KEY_SIZES bytes, on blocks of BLOCK bytes each for itself: one call of the library for any number of them. O(bytes).

    Source: Schneier et al., "Twofish: A 128-Bit Block Cipher", 15 June 1998; its vectors are in the tests.
    """

    def __init__(self, key: bytes) -> None:
        self._key = TwofishKey(key)

    def encrypt(self, blocks: bytes) -> bytes:
        """Whole blocks."""
        return self._key.ecb_encryptor(padding=Padding.NONE).finalize(blocks)

    def decrypt(self, blocks: bytes) -> bytes:
        """And back."""
        return self._key.ecb_decryptor(padding=Padding.NONE).finalize(blocks)
