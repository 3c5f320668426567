"""A census in a file: the columns of its snapshot and the circumstances, so that it can be asked again, elsewhere and later.

A NumPy .npz archive: "graph.vmas.start" and the like are columns, "census" is a JSON object with the rest and the version of the
format. Pointers of the kernel are not in it: they were renamed when the graph was built. Names of commands, files and cgroups are, but for
an anonymised one: there they are numbers, the same for the same name, and so are inodes and devices.
"""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from rmaplab.errors import UsageError
from rmaplab.files import write_whole
from rmaplab.host.draw import Drawn, Sample
from rmaplab.host.footprint import Footprints
from rmaplab.host.slabs import Sizes
from rmaplab.host.snapshot import Rung, Snapshot
from rmaplab.objects.graph import LIGHTEST_TOO_HEAVY, NONE, Files, Graph

VERSION = 2
"""2: how pages were found, cgroups, the machine's own totals."""
_TEXTS, _LISTS = (
    ("kernel", "arch"),
    {"missing": str, "broken": str, "unseen": str, "torn_mms": int, "hidden": int, "cgroups": str},
)
_BY_PAGE, MOST_DRAWS = ("draw", "folio", "folio_pages"), 1 << 24
_NUMBERS = ("taken_at", "nr_pages", "cache_line_bytes", "torn", "resumed")


def save_snapshot(snapshot: Snapshot, path: Path) -> None:
    """Write it; the file appears whole or not at all. Raises UsageError."""
    import json  # noqa: PLC0415  (most censuses are not saved)

    header = {name: value for name, value in vars(snapshot).items() if name not in ("graph", "footprints", "sample")}
    sizes = {
        name: dict(value) if isinstance(value, Mapping) else value for name, value in snapshot.sizes._asdict().items()
    }
    header |= {"version": VERSION, "sizes": sizes, "rung": int(snapshot.rung)}
    header |= {"drawn": snapshot.drawn._asdict(), "machine": dict(snapshot.machine)}
    columns: dict[str, Any] = {"census": np.frombuffer(json.dumps(header).encode(), np.uint8)}
    columns |= {f"graph.{name}": column for name, column in snapshot.graph.columns().items()}
    columns |= {f"footprints.{name}": column for name, column in snapshot.footprints._asdict().items()}

    if snapshot.sample is not None:
        columns |= {f"sample.{name}": column for name, column in snapshot.sample._asdict().items()}

    def save(part: Path) -> None:
        with part.open("wb") as file:
            np.savez_compressed(file, **columns)

    write_whole(path, "--save", save, mode=0o600)


def load(path: Path) -> Snapshot:
    """The snapshot in a file. Raises UsageError, one line, for anything else."""
    import json  # noqa: PLC0415

    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # what NumPy and zipfile find odd is found again below
            with np.load(file, allow_pickle=False) as archive:
                columns = {name: archive[name] for name in archive.files}
        header = json.loads(columns["census"].tobytes())
        version = header.pop("version")
    except OSError as error:
        raise UsageError(f"cannot read {path} ({error.strerror or error}): give it a file that --save wrote") from None
    except _unreadable():
        raise UsageError(f"{path} is no census: give it a file that rmaplab live --save wrote") from None
    if version != VERSION:
        raise UsageError(
            f"{path} is a census of version {version}, and this rmaplab reads version {VERSION}: save it anew"
        )
    try:
        graph = Graph.from_columns(_under("graph.", columns))
        footprints = Footprints(**_under("footprints.", columns))
        if any(len(column) != len(graph.processes.pid) for column in footprints):
            raise ValueError("footprints and processes differ in number")
        _check_header(header, graph.nr_mms, len(graph.processes.pid))
        header["file_names"] = {int(file): name for file, name in header["file_names"].items()}
        header["hidden"] = tuple(header["hidden"])
        sizes, rung, drawn = Sizes(**header.pop("sizes")), Rung(header.pop("rung")), Drawn(**header.pop("drawn"))
        sample = _sample(graph, drawn, _under("sample.", columns))
        return Snapshot(
            graph=graph, footprints=footprints, sizes=sizes, rung=rung, sample=sample, drawn=drawn, **header
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise UsageError(f"{path} is a damaged census ({error}): save it anew") from None


def _unreadable() -> tuple[type[Exception], ...]:
    """What zipfile and NumPy raise for an archive that is none, and for one that asks for other compressions, keys, or more than there is."""
    import lzma  # noqa: PLC0415
    import struct  # noqa: PLC0415
    import tokenize  # noqa: PLC0415
    import zipfile  # noqa: PLC0415
    import zlib  # noqa: PLC0415

    no_archive = (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
    )
    return (*no_archive, lzma.LZMAError, RuntimeError, MemoryError, OverflowError, SyntaxError, tokenize.TokenError)


def _check_header(header: dict[str, Any], nr_mms: int, nr_processes: int) -> None:
    """Raises ValueError or KeyError for what save_snapshot does not write."""
    sizes = dict(header["sizes"]["by_cache"])
    wrong = [name for name in _TEXTS if not isinstance(header[name], str)]
    wrong += [name for name in _NUMBERS if not isinstance(header[name], (int, float)) or not header[name] >= 0]
    wrong += [name for name, kind in _LISTS.items() if not all(isinstance(one, kind) for one in list(header[name]))]
    sizes |= {f"machine {name}": size for name, size in header["machine"].items()}
    sizes |= {f"drawn {name}": number for name, number in header["drawn"].items() if name != "seed"}
    wrong += [
        name for name, size in sizes.items() if not isinstance(size, (int, float)) or not 0 <= size < LIGHTEST_TOO_HEAVY
    ]
    wrong += [name for name in ("seed",) if not isinstance(header["drawn"][name], (int, NoneType))]
    wrong += [name for name in header["file_names"].values() if not isinstance(name, str)]
    mms = [*header["torn_mms"], *(header["scope"] or ())]
    if wrong or len(header["hidden"]) != 2 or not all(isinstance(mm, int) and 0 <= mm < nr_mms for mm in mms):
        raise ValueError(f"{(wrong or ['torn_mms'])[0]!r} is not what it was")
    if header["cgroups"] and len(header["cgroups"]) != nr_processes:
        raise ValueError("cgroups and processes differ in number")
    if not header["cache_line_bytes"] >= 16:
        raise ValueError("a cache line holds no two words")


def _sample(graph: Graph, drawn: Drawn, columns: dict[str, Any]) -> Sample | None:
    """How the pages were found. Raises ValueError or TypeError for columns that do not fit the graph."""
    if not columns:
        return None
    sample = Sample(**columns)
    nr_pages = 0 if graph.pages is None else len(graph.pages.pfn)
    lengths = [nr_pages if name in _BY_PAGE else graph.nr_mms for name in sample._fields]
    if any(column.shape != (nr,) or column.dtype.kind != "i" for column, nr in zip(sample, lengths, strict=True)):
        raise ValueError("the sample and its pages differ")
    if sample.draw.min(initial=0) < NONE or sample.draw.max(initial=0) > min(drawn.windows, MOST_DRAWS):
        raise ValueError("a page was found by no draw")
    return sample


def anonymised(snapshot: Snapshot) -> Snapshot:
    """The same without names: of commands, files and cgroups numbers are left, of inodes and devices other ones."""
    graph = snapshot.graph
    _, comms = np.unique(graph.processes.comm, return_inverse=True)
    comm = np.array([b"command %d" % number for number in comms.reshape(-1)], "S16")
    rows = [np.unique(column, return_inverse=True)[1].reshape(-1) for column in graph.files]
    groups = {group: f"cgroup {number}" for number, group in enumerate(dict.fromkeys(snapshot.cgroups)) if group}
    return replace(
        snapshot,
        graph=replace(graph, processes=graph.processes._replace(comm=comm), files=Files(*rows)),
        file_names={file: f"file {file}" for file in snapshot.file_names},
        unseen=tuple(text.split()[0] for text in snapshot.unseen),
        cgroups=tuple(groups.get(group, "") for group in snapshot.cgroups),
    )


def _under(prefix: str, columns: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): column for name, column in columns.items() if name.startswith(prefix)}
