"""What `rmaplab check` has found, for programs: a row per script, per recording or per campaign."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from rmaplab.harmless import printable
from rmaplab.lab.differential.compare import Difference
from rmaplab.report.emit import Report


@dataclass(frozen=True)
class Verdict:
    """`what` was run on the model's `kernel` and on `host`. `reasons` say why some of the scripts were not compared, `alone` why `host` was not asked.

    `differ` counts scripts by what differs after which call, where more than the first difference was looked for.
    """

    what: str
    kernel: str
    host: str
    scripts: int
    operations: int
    reasons: tuple[str, ...] = ()
    difference: Difference | None = None
    differ: Mapping[str, int] = field(default_factory=dict)
    alone: str = ""

    def as_json(self) -> dict[str, Any]:
        """A JSON object. The difference is the first: the operation, its result on both sides, and in which aspect they differ."""
        found = self.difference
        told = None
        if found is not None:
            results = [
                side.results[found.index]
                if found.index < len(side.results) and not (found.is_of_one and i == 0)
                else None
                for i, side in enumerate((found.host, found.model))
            ]
            told = {
                "script": str(found.script),
                "line": found.op.line,
                "operation": str(found.op),
                "aspect": found.aspect,
                "process": found.process or None,
                "what": found.what or None,
                "result_on_host": results[0],
                "result_in_model": results[1],
            }
        return {
            "what": self.what,
            "kernel": self.kernel,
            "host": self.host,
            "scripts": self.scripts,
            "operations": self.operations,
            "not_compared": list(self.reasons),
            "host_not_asked": self.alone or None,
            "difference": told,
            "differ": dict(self.differ),
        }


def junit_xml(found: Sequence[Verdict]) -> str:
    """A test suite with a case per script: a difference is a failure, what was not compared is skipped."""
    differ, skipped = sum(row.difference is not None for row in found), sum(bool(row.reasons) for row in found)
    counts = {"tests": len(found), "failures": differ, "skipped": skipped}
    suite = Element("testsuite", {"name": "rmaplab check", **{name: str(count) for name, count in counts.items()}})
    for row in found:
        case = SubElement(suite, "testcase", {"name": printable(row.what), "classname": f"{row.kernel}, {row.host}"})
        if row.difference is not None:
            told = row.as_json()["difference"]
            what = f"line {told['line']}: {told['aspect']} differs: {told['result_on_host']} on the host, {told['result_in_model']} in the model"
            if row.alone:
                what = f"line {told['line']}: {told['aspect']} differs: {told['result_in_model']} in the model"
            SubElement(case, "failure", {"message": printable(what)}).text = printable(told["operation"])
        for reason in row.reasons:
            SubElement(case, "skipped", {"message": printable(reason)})
    indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(suite, encoding="unicode") + "\n"


class VerdictReport(Report[Verdict]):
    """What `check` found."""

    def text(self) -> str:
        """A line each; `check` itself says more, as it goes."""
        return "".join(f"{row.what}: {'a difference' if row.difference else 'no difference'}\n" for row in self.rows)
