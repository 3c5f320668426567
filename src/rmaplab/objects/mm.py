"""Where designs of protocol 1 look for MmStruct: they must load before they can be told that it has changed (kernels/designs.py)."""

from rmaplab.objects.mm_types import MmStruct  # noqa: F401
