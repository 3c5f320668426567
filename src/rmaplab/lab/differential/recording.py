"""Records of scripts in a file: made on one machine, compared with the model on any other.

    {"format": "rmaplab-check-1", "made_on": "Linux 6.18.44", "scripts": [
      {"name": ..., "lines": ["A: mmap w+0 8 rw", ...], "sees": [...], "privileged": true, "m": ..., "results": ["w+0", ...],
       "worlds": [{"A": {"vmas": [...], "pages": [...], "tables": 0}}, {"A": "as before", "B": ...}, ...]}]}

Worlds are in words (workloads/world_text.py), so that a person can read what a real kernel does and a diff shows what has changed.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rmaplab.errors import UsageError
from rmaplab.files import write_text
from rmaplab.units import PAGE_SIZE
from rmaplab.workloads.script import Script, parse
from rmaplab.workloads.world import Circumstances, Record, World
from rmaplab.workloads.world_text import StateText, state_of, state_text

FORMAT = "rmaplab-check-1"
BEFORE = "as before"
USER_END = 1 << 47  # of addresses on x86-64
MADE = "make one with --record FILE"


def save(path: str | Path, records: Sequence[Record], made_on: str) -> None:
    """Write records to a file. Raises UsageError where it cannot be written."""
    head = f'{{"format": {json.dumps(FORMAT)}, "made_on": {json.dumps(made_on)}, "scripts": [\n'
    text = head + ",\n".join(_as_text(record) for record in records) + "\n]}\n"
    write_text(path, "--record", text, keep_old=True)


def load(path: str | Path) -> tuple[str, list[Record]]:
    """(what it was made on, the records). Raises UsageError where it is no such file."""
    try:
        body = json.loads(Path(path).read_text(encoding="utf-8"))
        if body.get("format") != FORMAT:
            raise UsageError(f"{path} is not a recording of {FORMAT}: {MADE}")
        return str(body["made_on"]), [_of_json(each) for each in body["scripts"]]
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): {MADE}") from None
    except UsageError as error:
        raise UsageError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise UsageError(f"{path} is no recording, or a damaged one: {MADE}") from None


def _as_json(record: Record) -> dict[str, Any]:
    worlds, before = [], dict[str, StateText]()
    for world in record.worlds:
        now = {name: state_text(state, record.sees) for name, state in world.items()}
        worlds.append({name: BEFORE if before.get(name) == text else text._asdict() for name, text in now.items()})
        before = now
    return {
        "name": record.script.name,
        "lines": str(record.script).splitlines(),
        "sees": sorted(record.sees),
        **record.around._asdict(),
        "results": record.results,
        "worlds": worlds,
    }


def _as_text(record: Record) -> str:
    """JSON with a world a line."""
    body = _as_json(record)
    worlds = ",\n  ".join(json.dumps(world) for world in body.pop("worlds"))
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in body.items()]
    return "{" + ",\n".join([*lines, f' "worlds": [\n  {worlds}]']).lstrip() + "}"


def _check_circumstances(around: Circumstances) -> None:
    """Raises ValueError for what no host has: the model boots with it."""
    places = [address for address in (around.m, around.h) if address is not None]
    counts = [around.promised, around.swap, around.overcommit, around.ratio]
    counts += [] if around.max_map_count is None else [around.max_map_count]
    numbers = [*places, *counts]
    if not isinstance(around.privileged, bool) or not all(type(number) is int for number in numbers):
        raise ValueError("circumstances that are none")
    if (
        any(address % PAGE_SIZE or not 0 < address < USER_END for address in places)
        or min(counts) < 0
        or around.overcommit > 2
    ):
        raise ValueError("places or promises that no host has")


def _of_json(body: dict[str, Any]) -> Record:
    name = str(body["name"])
    script: Script = parse("\n".join(body["lines"]), name)
    around = Circumstances(**{name: body[name] for name in Circumstances._fields if name in body})
    _check_circumstances(around)
    record = Record(script, frozenset(body["sees"]), around, list(body["results"]))
    before: World = {}
    for each in body["worlds"]:
        before = {
            process: before[process]
            if told == BEFORE
            else state_of(StateText(tuple(told["vmas"]), tuple(told["pages"]), told["tables"], told.get("locked")))
            for process, told in each.items()
        }
        record.worlds.append(before)
    if not len(script.ops) == len(record.results) == len(record.worlds):
        raise ValueError(f"{name}: not a result and a world for each operation")
    return record
