"""The kernels there are, by name; and any of them with another reverse map: `2.6.5-rc1+anonmm`."""

from dataclasses import replace

from rmaplab.errors import UsageError
from rmaplab.kernels.designs import find_design
from rmaplab.kernels.releases import LINUX_2_4_21, LINUX_2_6_2, LINUX_2_6_5_RC1, LINUX_2_6_5_RC1_AA1, LINUX_6_18
from rmaplab.kernels.spec import KernelSpec

KERNELS = {spec.name: spec for spec in (LINUX_2_4_21, LINUX_2_6_2, LINUX_2_6_5_RC1, LINUX_2_6_5_RC1_AA1, LINUX_6_18)}


def find_kernel(name: str) -> KernelSpec:
    """The kernel called `name`, or KERNEL+DESIGN. Raises UsageError with the names there are."""
    base, plus, design = name.partition("+")
    if base not in KERNELS:
        raise UsageError(f"no kernel {base!r}: choose from {', '.join(KERNELS)} (see: rmaplab kernels)")
    spec = KERNELS[base]
    if not plus:
        return spec
    entry = find_design(design)
    about = f"{base} with the reverse map {entry.name} ({entry.package}) in place of its own"
    return replace(spec, name=name, about=about, design=entry.path, base=base, patches=(), published={})
