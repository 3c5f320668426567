"""Stories told from a running system: what a call did to page tables, frames and the reverse map, step by step.

    stories.py    which calls are made, and what is said of them: sentences chosen by what the ledger has counted
    stage.py      the running system under observation: makes a call, measures it, puts a Scene together
    picture.py    page tables and frames as ASCII, read from RAM
    trace.py      "who maps this page?", visit by visit
    scenarios.py  three rules that were wrong for a while, each with the calls that show it
    side_by_side.py  the same calls under several rules and kernels: bttv, endless_fork, fork_enomem, merge_rules, nonlinear

Nothing in a step is written beforehand but words: addresses, frames, counts and objects are read when it is made.
"""

from collections.abc import Iterator

from rmaplab.errors import UsageError, did_you_mean
from rmaplab.kernels.box import Box
from rmaplab.kernels.system import boot
from rmaplab.lab.explain.bttv import BTTV
from rmaplab.lab.explain.endless_fork import ENDLESS_FORK
from rmaplab.lab.explain.fork_enomem import FORK_ENOMEM
from rmaplab.lab.explain.merge_rules import MERGE_15_YEARS
from rmaplab.lab.explain.nonlinear import NONLINEAR
from rmaplab.lab.explain.scenarios import SCENARIOS
from rmaplab.lab.explain.side_by_side import SideBySide, Trial
from rmaplab.lab.explain.stage import Scene, Stage
from rmaplab.lab.explain.stories import STORIES

__all__ = ["COMPARED", "STORIES", "Scene", "SideBySide", "Stage", "Trial", "explain"]

COMPARED = {each.name: each for each in (BTTV, ENDLESS_FORK, FORK_ENOMEM, MERGE_15_YEARS, NONLINEAR)}


def explain(story: str, kernel: str, box: Box) -> Iterator[Scene]:
    """The steps of `story` (a key of STORIES) on a freshly booted kernel; each is made when it is asked for.

    Raises UsageError for a story, a kernel or a box there is not, before the first step.
    """
    if story not in STORIES:
        known = [*STORIES, *SCENARIOS, *COMPARED]
        raise UsageError(
            f"{f'no story {story!r}' if story else 'no story is said'}{did_you_mean(story, known)}: choose one of {', '.join(known)} (see: rmaplab explain --help)"
        )
    return STORIES[story](Stage(boot(kernel, box)))
