"""Scripts that the host is not asked: what surrounds them is not its to give. Then the model runs them, and what they expect is looked at.

record = obey(script, "6.18", around)
difference = compare(record, record)      an expectation that is not met, or a model that breaks down
"""

from rmaplab.calls.table import CALLS
from rmaplab.workloads.box import ScriptBox, told_value
from rmaplab.workloads.script import Script
from rmaplab.workloads.world import Circumstances, has_disk

STRICT = 2


def why_alone(script: Script, around: Circumstances, *, disk: bool = True) -> str:
    """Why a machine of these circumstances is not asked, in words; "" if it may be. `disk`: files can be made on one."""
    for op in script.ops:
        if reason := CALLS[op.call].not_on_host:
            return reason
    if has_disk(script) and not disk:
        return "it has a file on a disk, and no directory here lies on ext4 (/var/tmp, /tmp, .)"
    box = script.box
    if box.ram is not None:
        return f"the script has a machine of its own ({box})"
    if box.overcommit == STRICT:
        return "in overcommit mode 2 what all others are promised counts too"
    return _unlike(box, around)


def _unlike(box: ScriptBox, around: Circumstances) -> str:
    here = {"swap": around.swap, "overcommit": around.overcommit, "max_map_count": around.max_map_count}
    for name, value in here.items():
        wanted = getattr(box, name)
        if wanted is not None and wanted != value:
            there = "nobody knows what" if value is None else told_value(name, value)
            return f"its box has {name}={told_value(name, wanted)}, and this machine {there}"
    return ""
