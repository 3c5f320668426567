"""The forms of an encrypted loop device, and how a passphrase becomes the key of each.

                     IV of a sector      key
    twofish          its number          the passphrase itself, 31 bytes at most, zeros behind it to 32       losetup of util-linux 2.12
    twofish-ecb      no chain at all     the same
    twofish256       its number          32 bytes of SHA-512 of it                                            SuSE's name for it
    twofish-compat   zero                20 bytes of RIPEMD-160 of it, zeros behind them to 24                SuSE's "twofish": loop_fish2
    twofishSL92      zero                32 bytes of SHA-512 of it                                            SuSE's name for it: loop_fish2

The passphrase is the first line of what is read, up to a newline or a NUL.

Source: reclaim.md F.10 to F.12. That 00000_twofish-2.6 brings loop_fish2, so twofish-compat, is believed: the patch itself was not at hand.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from rmaplab.errors import UsageError, did_you_mean
from rmaplab.harmless import printable

SECTOR = 512  # LOOP_IV_SECTOR_SIZE
LO_KEY_SIZE = 32
OPERATION = "twofish_page"
"""What the ledger counts: a page of 4096 bytes, encrypted or decrypted (cryptoloop.py, which needs the cipher)."""
_RIPEMD160_BYTES = 20


def _as_it_is(passphrase: bytes) -> bytes:
    return passphrase[: LO_KEY_SIZE - 1].ljust(LO_KEY_SIZE, b"\0")


def _sha512(passphrase: bytes) -> bytes:
    return hashlib.sha512(passphrase).digest()[:LO_KEY_SIZE]


def _ripemd160(passphrase: bytes) -> bytes:
    try:
        digest = hashlib.new("ripemd160", passphrase, usedforsecurity=False).digest()
    except ValueError:
        raise UsageError(
            "crypt=twofish-compat: this Python's OpenSSL has no RIPEMD-160: take one that has, or crypt=twofish"
        ) from None
    return digest[:_RIPEMD160_BYTES].ljust(24, b"\0")


@dataclass(frozen=True)
class LoopForm:
    """How sectors hang together, and where the key comes from."""

    name: str
    chained: bool
    """Whether a block is xored with the one before it on the disk (CBC), or stands alone (ECB)."""
    counts: bool
    """Whether a sector's IV is its number, or zero."""
    key_bytes: int
    key_of: Callable[[bytes], bytes]
    """A passphrase to a key of so many bytes."""
    driver: str = "cryptoloop"
    """The module that reads it, where a kernel has that."""


FORMS: Mapping[str, LoopForm] = MappingProxyType(
    {
        form.name: form
        for form in (
            LoopForm("twofish", chained=True, counts=True, key_bytes=LO_KEY_SIZE, key_of=_as_it_is),
            LoopForm("twofish-ecb", chained=False, counts=False, key_bytes=LO_KEY_SIZE, key_of=_as_it_is),
            LoopForm("twofish256", chained=True, counts=True, key_bytes=LO_KEY_SIZE, key_of=_sha512),
            LoopForm(
                "twofish-compat", chained=True, counts=False, key_bytes=24, key_of=_ripemd160, driver="loop_fish2"
            ),
            LoopForm(
                "twofishSL92", chained=True, counts=False, key_bytes=LO_KEY_SIZE, key_of=_sha512, driver="loop_fish2"
            ),
        )
    }
)


def find_form(name: str) -> LoopForm:
    """The form of this name. Raises UsageError with those there are."""
    if name not in FORMS:
        raise UsageError(
            f"crypt={printable(name)} is not here{did_you_mean(name, FORMS)}: choose from {', '.join(FORMS)}"
        )
    return FORMS[name]


def passphrase_in(data: bytes) -> bytes:
    """As losetup -p reads it: up to the first newline or NUL, without it."""
    return data.partition(b"\n")[0].partition(b"\0")[0]
