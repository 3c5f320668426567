"""Where designs of protocol 1 look for MmStruct; it goes with that version."""

from rmaplab.objects.mm_types import MmStruct  # noqa: F401
