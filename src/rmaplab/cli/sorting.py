"""Which instructions NumPy sorts by: asked before NumPy is imported, for it looks at its environment once.

AVX-512 sorts store the words of a register that belong together with one instruction (VPCOMPRESSQ to memory), and on Zen 4 that is microcode: 200,000
words take 12 to 21 ms, and by AVX2 1.8 ms. Other processors that have AVX-512 are as fast with it as without, or faster.
"""

import os
import sys
from pathlib import Path

_FEATURES = "X86_V4 AVX512_SKX"  # the same, by the names of NumPy 2.4 and of those before it
_SETTING = "NPY_DISABLE_CPU_FEATURES"
_SLOW_FAMILIES = (25,)  # Zen 3, which has no AVX-512, and Zen 4


def sort_without_slow_instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Keep NumPy from sorting by AVX-512 where that is microcode; what somebody has set stays.

    NumPy warns of a name that it does not know, and Python shows no such warning unless it was asked to: then all stays as it is.
    """
    if _SETTING not in os.environ and not sys.warnoptions and _has_slow_ones(cpuinfo):
        os.environ[_SETTING] = _FEATURES


def _has_slow_ones(cpuinfo: Path) -> bool:
    try:
        with cpuinfo.open("rb", buffering=0) as file:
            lines = file.read(4096).partition(b"\n\n")[0].splitlines()  # of the first CPU
    except OSError:
        return False
    said = {key.strip(): value.strip() for key, _, value in (line.partition(b":") for line in lines)}
    family = said.get(b"cpu family", b"")
    return said.get(b"vendor_id") == b"AuthenticAMD" and family.isdigit() and int(family) in _SLOW_FAMILIES
