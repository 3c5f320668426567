"""`rmaplab kernels`: the list, or one of them."""

from rmaplab.cli.options import Output
from rmaplab.files import check_writable
from rmaplab.kernels.box import Box
from rmaplab.kernels.catalogue import KERNELS, find_kernel
from rmaplab.machine.hardware import Hardware
from rmaplab.machine.paging import paging_format
from rmaplab.report.emit import emit
from rmaplab.report.kernels import KernelDetails, KernelList


def show_kernels(name: str | None, paging: str | None, out: Output, *, highpte: bool) -> None:
    """All, or the one of this name. Raises UsageError for a kernel or a format there is not."""
    check_writable(out.path)
    if name is None:
        if paging is not None:
            paging_format(paging)
        emit(KernelList.of(KERNELS.values()), *out)
        return
    spec = find_kernel(name)
    emit(KernelDetails.of(spec, Hardware(0, 0, 1, spec.paging(paging), Box().l1_cache_bytes, highpte)), *out)
