"""A census in a file: the columns of its snapshot and the circumstances, so that it can be asked again, elsewhere and later.

A NumPy .npz archive: "graph.vmas.start" and the like are columns, "census" is a JSON object with the rest and the version of the
format. Pointers of the kernel are not in it: they were renamed when the graph was built.
"""

import json
import lzma
import struct
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from rmaplab.errors import UsageError
from rmaplab.files import write_whole
from rmaplab.host.footprint import Footprints
from rmaplab.host.slabs import Sizes
from rmaplab.host.snapshot import Rung, Snapshot
from rmaplab.objects.graph import Graph

VERSION = 1
_NO_ARCHIVE = (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error, struct.error)
_UNREADABLE = (lzma.LZMAError, RuntimeError, MemoryError, OverflowError, SyntaxError, tokenize.TokenError)
"""What zipfile and NumPy raise for an archive that is none, and for one that asks for other compressions, keys, or more than there is."""
_TEXTS, _LISTS = ("kernel", "arch"), {"missing": str, "broken": str, "unseen": str, "torn_mms": int, "hidden": int}
_NUMBERS = ("taken_at", "nr_pages", "cache_line_bytes", "torn", "resumed")


def save_snapshot(snapshot: Snapshot, path: Path) -> None:
    """Write it; the file appears whole or not at all. Raises UsageError."""
    header = {name: value for name, value in vars(snapshot).items() if name not in ("graph", "footprints")}
    header |= {"version": VERSION, "sizes": snapshot.sizes._asdict(), "rung": int(snapshot.rung)}
    columns: dict[str, Any] = {"census": np.frombuffer(json.dumps(header).encode(), np.uint8)}
    columns |= {f"graph.{name}": column for name, column in snapshot.graph.columns().items()}
    columns |= {f"footprints.{name}": column for name, column in snapshot.footprints._asdict().items()}

    def save(part: Path) -> None:
        with part.open("wb") as file:
            np.savez_compressed(file, **columns)

    write_whole(path, "--save", save, mode=0o600)


def load(path: Path) -> Snapshot:
    """The snapshot in a file. Raises UsageError, one line, for anything else."""
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # what NumPy and zipfile find odd is found again below
            with np.load(file, allow_pickle=False) as archive:
                columns = {name: archive[name] for name in archive.files}
        header = json.loads(columns["census"].tobytes())
        version = header.pop("version")
    except OSError as error:
        raise UsageError(f"cannot read {path} ({error.strerror or error}): give it a file that --save wrote") from None
    except (*_NO_ARCHIVE, *_UNREADABLE):
        raise UsageError(f"{path} is no census: give it a file that rmaplab live --save wrote") from None
    if version != VERSION:
        raise UsageError(f"{path} is a census of version {version}, and this is version {VERSION}: save it anew")
    try:
        graph = Graph.from_columns(_under("graph.", columns))
        footprints = Footprints(**_under("footprints.", columns))
        if any(len(column) != len(graph.processes.pid) for column in footprints):
            raise ValueError("footprints and processes differ in number")
        _check_header(header, graph.nr_mms)
        header["file_names"] = {int(file): name for file, name in header["file_names"].items()}
        header["hidden"] = tuple(header["hidden"])
        sizes, rung = Sizes(**header.pop("sizes")), Rung(header.pop("rung"))
        return Snapshot(graph=graph, footprints=footprints, sizes=sizes, rung=rung, **header)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise UsageError(f"{path} is a damaged census ({error}): save it anew") from None


def _check_header(header: dict[str, Any], nr_mms: int) -> None:
    """Raises ValueError or KeyError for what save_snapshot does not write."""
    sizes = header["sizes"]["by_cache"]
    wrong = [name for name in _TEXTS if not isinstance(header[name], str)]
    wrong += [name for name in _NUMBERS if not isinstance(header[name], (int, float)) or not header[name] >= 0]
    wrong += [name for name, kind in _LISTS.items() if not all(isinstance(one, kind) for one in list(header[name]))]
    wrong += [name for name, size in sizes.items() if not isinstance(size, int)]
    wrong += [name for name in header["file_names"].values() if not isinstance(name, str)]
    if wrong or len(header["hidden"]) != 2 or not all(0 <= mm < nr_mms for mm in header["torn_mms"]):
        raise ValueError(f"{(wrong or ['torn_mms'])[0]!r} is not what it was")
    if not header["cache_line_bytes"] >= 16:
        raise ValueError("a cache line holds no two words")


def _under(prefix: str, columns: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): column for name, column in columns.items() if name.startswith(prefix)}
