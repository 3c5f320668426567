"""Unicorn, which is an extra: imported here and nowhere else, so that its absence is one line. It is GPL-2.0."""

from rmaplab.errors import UsageError

try:
    import unicorn
    from unicorn import x86_const as x86
    from unicorn.unicorn_py3.unicorn import uclib
except ImportError as _absent:
    raise UsageError(
        "programs need the Unicorn engine, which is not here: pip install '.[exec]' in the clone (pip install unicorn pyelftools)"
    ) from _absent

__all__ = ["uclib", "unicorn", "x86"]
