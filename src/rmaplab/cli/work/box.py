"""The box that was typed, for the kernels that were."""

from collections.abc import Sequence
from dataclasses import replace

from rmaplab.kernels.box import Box
from rmaplab.kernels.catalogue import find_kernel


def with_paging(box: Box, kernels: Sequence[str]) -> Box:
    """The box with a page-table format, for these kernels. Raises UsageError for a kernel there is not.

    If none was typed: the first of the first kernel on which all of them run; its first if there is none, and boot()
    says the rest.
    """
    if box.paging:
        return box
    first, *others = [find_kernel(name).architectures for name in kernels]
    paging = next((name for name in first if all(name in formats for formats in others)), first[0])
    return replace(box, paging=paging)
