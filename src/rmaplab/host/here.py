"""Which machines `who` and `live` read: Linux on x86-64. The model runs wherever Python, NumPy and Numba do.

Structures are laid out by BTF and pages have 4 KiB on other machines too, mostly; nobody has tried, so nothing is guessed.
"""

import platform

from rmaplab.errors import UsageError


def demand_x86_64(verb: str, instead: str) -> None:
    """Raises UsageError where a verb cannot look at the machine underneath; `instead` says what can be done there."""
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise UsageError(f"{verb} reads Linux on x86_64, and this is {system} on {machine}: {instead}")
