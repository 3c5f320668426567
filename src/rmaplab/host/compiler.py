"""C programs of ours, compiled with the host's compiler: at once to a place, or once and kept."""

import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rmaplab.errors import UsageError


def find_compiler() -> str:
    """The C compiler. Raises UsageError where there is none."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise UsageError("no C compiler is installed: install gcc")
    return compiler


def compile_c(source: bytes, name: str, program: Path, options: Sequence[str]) -> None:
    """Compile `source`, called `name` in messages, to `program`. Raises UsageError: no compiler, or what it says."""
    compiler = find_compiler()
    built = subprocess.run(  # noqa: S603
        [compiler, *options, "-o", program, "-x", "c", "-"], input=source, capture_output=True, check=False
    )
    if built.returncode:
        lines = built.stderr.decode(errors="replace").strip().splitlines()
        why = next((line for line in lines if "error" in line), lines[-1] if lines else "it says nothing")
        raise UsageError(
            f"{compiler} could not compile {name} ({why.removeprefix('<stdin>:')}): install a complete gcc"
        )


def compile_kept(source: bytes, name: str, options: Sequence[str]) -> Path:
    """The program that `source` makes, out of the user's cache, where it is kept by the hash of what it is made of.

    Raises UsageError as compile_c, and where no directory can be written to.
    """
    recipe = b"\0".join([source, find_compiler().encode(), *(option.encode() for option in options)])
    kept = cache_directory() / f"{Path(name).stem}-{hashlib.sha256(recipe).hexdigest()[:16]}"
    if not os.access(kept, os.X_OK):
        with tempfile.TemporaryDirectory(prefix="rmaplab-", dir=kept.parent) as directory:
            fresh = Path(directory) / kept.name
            compile_c(source, name, fresh, options)
            fresh.replace(kept)  # at once: another process may be doing the same
    return kept


def cache_directory() -> Path:
    """$XDG_CACHE_HOME/rmaplab or ~/.cache/rmaplab; else one of the user's own where temporary files go. Raises UsageError."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    uid = os.getuid()
    for directory in (Path(home) / "rmaplab", Path(tempfile.gettempdir()) / f"rmaplab-{uid}"):
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            continue
        found = directory.lstat()  # what is kept there will be run: nobody else may have put it there
        ours = stat.S_ISDIR(found.st_mode) and found.st_uid == uid and not found.st_mode & 0o022
        if ours and os.access(directory, os.W_OK):
            return directory
    raise UsageError("no directory to keep a compiled program in: set XDG_CACHE_HOME to one that you can write to")
