"""The kernels there are, by name."""

from rmaplab.errors import UsageError
from rmaplab.kernels.linux_2_6 import LINUX_2_6_2, LINUX_2_6_5_RC1, LINUX_2_6_5_RC1_AA1
from rmaplab.kernels.spec import KernelSpec

KERNELS = {spec.name: spec for spec in (LINUX_2_6_2, LINUX_2_6_5_RC1, LINUX_2_6_5_RC1_AA1)}


def find_kernel(name: str) -> KernelSpec:
    """The kernel called `name`. Raises UsageError with the names there are."""
    try:
        return KERNELS[name]
    except KeyError:
        raise UsageError(f"no kernel {name!r}: choose from {', '.join(KERNELS)} (see: rmaplab kernels)") from None
