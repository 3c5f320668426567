"""Results for other programs: JSON (a list of objects) and CSV (nested keys joined by dots)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, Protocol


class JsonRow(Protocol):
    """What an experiment yields."""

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""


def as_json(results: Sequence[JsonRow]) -> str:
    """A list of objects, one per result."""
    return json.dumps([result.as_json() for result in results], indent=2) + "\n"


def as_csv(results: Sequence[JsonRow]) -> str:
    """A header and a line per result; a key that a result does not have is empty."""
    rows = [dict(_flatten("", result.as_json())) for result in results]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flatten(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in _flatten(f"{prefix}.{key}" if prefix else key, inner)]
    return [(prefix, value)] if value is not None else []
