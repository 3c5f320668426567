"""The kernels there are, by name; and what can be composed of them: BASE, then patches, then another reverse map.

2.6.5-rc1                      a kernel
2.6.5-rc1+anonmm               with another reverse map
2.6.5-rc1+00100                with a patch, by its number or its full name: anonymous pages still on chains
2.6.5-rc1+00100+anonmm         with both: what the announcement would have liked to split off ("one that could be re-used by the
                               anonmm design")
2.6.5-rc1+00000+00100+00101    what 2.6.5-rc1-aa1 is
"""

from dataclasses import replace

from rmaplab.errors import UsageError, did_you_mean
from rmaplab.kernels.designs import DesignEntry, find_design
from rmaplab.kernels.releases import (
    LINUX_2_4_21,
    LINUX_2_6_2,
    LINUX_2_6_5_RC1,
    LINUX_2_6_5_RC1_AA1,
    LINUX_6_18,
    PATCHES,
)
from rmaplab.kernels.spec import KernelSpec, Patch

KERNELS = {spec.name: spec for spec in (LINUX_2_4_21, LINUX_2_6_2, LINUX_2_6_5_RC1, LINUX_2_6_5_RC1_AA1, LINUX_6_18)}


def find_kernel(name: str) -> KernelSpec:
    """The kernel called `name`, or one composed as above. Raises UsageError with the names there are."""
    base, *parts = name.split("+")
    if base not in KERNELS:
        raise UsageError(
            f"no kernel {base!r}{did_you_mean(base, KERNELS)}: choose from {', '.join(KERNELS)} (see: rmaplab kernels)"
        )
    spec = KERNELS[base]
    patches: list[Patch] = []
    entry: DesignEntry | None = None
    for part in parts:
        if entry is not None:
            raise UsageError(f"{name}: nothing goes behind the reverse map {entry.name}; write BASE+PATCH+DESIGN")
        if part[:1].isdigit():
            patches.append(_find_patch(spec, patches, part))
        else:
            entry = find_design(part)
    if not parts:
        return spec
    added = [patch.name for patch in patches]
    if entry is not None:
        added.append(f"the reverse map {entry.name} ({entry.package}) in place of its own")
    spec = spec.patched(name, spec.released, f"{base} with {' and '.join(added)}", *patches)
    return spec if entry is None else replace(spec, design=entry.path, published={})


def _find_patch(spec: KernelSpec, before: list[Patch], what: str) -> Patch:
    """The patch of this number or name, to go on top of `before`. Raises UsageError if there is none, or it cannot go there."""
    found = next((p for p in PATCHES.get(spec.base or spec.name, ()) if what in (p.name, p.number)), None)
    if found is None:
        there_are = "; ".join(
            f"{', '.join(patch.name for patch in known)} of {base}" for base, known in PATCHES.items()
        )
        raise UsageError(f"no patch {what!r} of {spec.name}: there are {there_are}")
    on = [patch.name for patch in (*spec.patches, *before)]
    if found.name in on:
        raise UsageError(f"{'+'.join([spec.name, *(p.number for p in before)])} has {found.name} already: leave it out")
    if found.needs is not None and found.needs not in on:
        raise UsageError(f"{found.name} goes on top of {found.needs}: put {found.needs.partition('_')[0]} before it")
    return found
