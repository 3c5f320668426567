"""The box that was typed."""

from collections.abc import Mapping, Sequence
from typing import Any

from rmaplab.kernels.catalogue import find_kernel
from rmaplab.lab.announcement.experiment import Box


def make_box(typed: Mapping[str, Any], kernels: Sequence[str]) -> Box:
    """The box, for these kernels. What it cannot be, boot() says. Raises UsageError for a kernel there is not.

    If no format was typed: the first of the first kernel on which all of them run; its first if there is none, and boot()
    says the rest.
    """
    paging = typed["paging"]
    if not paging:
        first, *others = [find_kernel(name).architectures for name in kernels]
        paging = next((name for name in first if all(name in formats for formats in others)), first[0])
    return Box(**{**typed, "paging": paging})
