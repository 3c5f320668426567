"""`rmaplab kernels`: the list, or one of them."""

from rmaplab.kernels.catalogue import KERNELS, find_kernel
from rmaplab.machine.paging import paging_format
from rmaplab.report.kernels import kernel_details, kernel_list
from rmaplab.report.tables import console


def show_kernels(name: str | None, paging: str | None, *, highpte: bool) -> None:
    """All, or the one of this name. Raises UsageError for a kernel or a format there is not."""
    out = console()
    if name is None:
        if paging is not None:
            paging_format(paging)
        out.print(kernel_list(KERNELS.values()))
        return
    spec = find_kernel(name)
    for table in kernel_details(spec, spec.paging(paging), highpte=highpte):
        out.print(table)
