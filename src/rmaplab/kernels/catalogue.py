"""The kernels there are, by name; and what can be composed of them: BASE, then patches, then another reverse map.

2.6.5-rc1                      a kernel
2.6.5-rc1+anonmm               with another reverse map
2.6.5-rc1+00100                with a patch, by its number, its name (00100_objrmap-core-1) or the heart of that (objrmap-core): anonymous
                               pages still on chains
2.6.5-rc1+00100+anonmm         with both: what the announcement would have liked to split off ("one that could be re-used by the
                               anonmm design")
2.6.5-rc1+00000+00100+00101    what 2.6.5-rc1-aa1 is, without its debugger. A number stands for all patches that have it, in their order

uname says which: 2.6.5-rc1-aa1 is the base's version with what 00000_extraversion-1 appends; the rest is appended as it was composed.
"""

from dataclasses import replace

from rmaplab.errors import UsageError, did_you_mean
from rmaplab.kernels.designs import DesignEntry, designs, find_design
from rmaplab.kernels.releases import (
    LINUX_2_4_21,
    LINUX_2_6_2,
    LINUX_2_6_5_RC1,
    LINUX_2_6_5_RC1_AA1,
    LINUX_2_6_5_RC2,
    LINUX_2_6_5_RC2_AA2,
    LINUX_2_6_5_RC3,
    LINUX_2_6_5_RC3_AA3,
    LINUX_2_6_7,
    LINUX_6_18,
    PATCHES,
)
from rmaplab.kernels.spec import KernelSpec, Patch

_OF_MARCH = LINUX_2_6_5_RC1, LINUX_2_6_5_RC1_AA1, LINUX_2_6_5_RC2, LINUX_2_6_5_RC2_AA2, LINUX_2_6_5_RC3
_OF_2004 = LINUX_2_6_2, *_OF_MARCH, LINUX_2_6_5_RC3_AA3, LINUX_2_6_7
KERNELS = {spec.name: spec for spec in (LINUX_2_4_21, *_OF_2004, LINUX_6_18)}


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
        named = [] if part in designs() else _patches(spec, part)
        if not named:
            entry = _find_design(spec, part)
        for patch in named:
            _check_goes_on(spec, patches, patch)
            patches.append(patch)
    if not parts:
        return spec
    added = [patch.name for patch in patches]
    local = list(dict.fromkeys(patch.number for patch in patches if not patch.extraversion))
    if entry is not None:
        added.append(f"the reverse map {entry.name} ({entry.package}) in place of its own")
        local.append(entry.name)
    about = f"{base} with {' and '.join(added)}"
    spec = spec.patched(name, spec.released, about, *patches, local="".join(f"+{part}" for part in local))
    return spec if entry is None else replace(spec, design=entry.path, published={})


def _patches(spec: KernelSpec, what: str) -> list[Patch]:
    """Those of this number, name or title that go on `spec`, or on what it was made of."""
    return [p for p in PATCHES.get(spec.base or spec.name, ()) if what in (p.name, p.number, p.title)]


def _find_design(spec: KernelSpec, name: str) -> DesignEntry:
    """Raises UsageError with what designs and patches there are."""
    there_are = "; ".join(f"{', '.join(patch.name for patch in known)} of {base}" for base, known in PATCHES.items())
    if name[:1].isdigit():
        raise UsageError(f"no patch {name!r} of {spec.name}: there are {there_are}")
    try:
        return find_design(name)
    except UsageError as error:
        raise UsageError(f"{error}; or a patch: {there_are}") from None


def _check_goes_on(spec: KernelSpec, before: list[Patch], patch: Patch) -> None:
    """Raises UsageError if `patch` is there already, or misses what it goes on top of."""
    on = [each.name for each in (*spec.patches, *before)]
    if patch.name in on:
        raise UsageError(f"{'+'.join([spec.name, *(p.number for p in before)])} has {patch.name} already: leave it out")
    if patch.needs is not None and patch.needs not in on:
        raise UsageError(f"{patch.name} goes on top of {patch.needs}: put {patch.needs.partition('_')[0]} before it")
