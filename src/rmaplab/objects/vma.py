"""Where designs of protocol 1 look for VmArea; it goes with that version."""

from rmaplab.objects.mm_types import VmArea  # noqa: F401
