"""Why BPF is not to be had here: one line each."""

from rmaplab.errors import UsageError


class BpfUnavailable(UsageError):
    """This kernel, or what we may do on it, does not allow what was asked. The message says what is missing."""
