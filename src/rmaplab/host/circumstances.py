"""What this machine is like, as far as scripts are concerned: what it promises, and what files on tmpfs are made of."""

from contextlib import suppress
from pathlib import Path

from rmaplab.host.procfs import read_fields


def huge_shmem() -> str:
    """Why files of tmpfs cannot be compared here, "" if they can: their pages must be small."""
    try:
        how = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled").read_text()
    except OSError:
        return ""
    return (
        ""
        if "[never]" in how or "[advise]" in how or "[deny]" in how
        else "files on tmpfs have huge pages here: shmem_enabled"
    )


def promises() -> dict[str, int]:
    """What this machine promises: RAM and swap, in bytes, and the sysctls that say how. Those that it does not show are the kernel's own."""
    found = read_fields("meminfo")
    ram, swap = (int(found[name].split()[0]) << 10 for name in ("MemTotal", "SwapTotal"))
    box = {"promised": ram + swap, "swap": swap}
    for name in ("overcommit_memory", "overcommit_ratio", "max_map_count"):
        with suppress(OSError, ValueError):
            box[name.removesuffix("_memory").removeprefix("overcommit_")] = int(
                Path(f"/proc/sys/vm/{name}").read_text()
            )
    return box
