"""Published measurements of workloads that we run, each as it was printed, with its source.

The announcement of 2.6.5-rc1-aa1 has two runs of forkbench on each of three kernels at levels 6 and 7. Of the box it says 1 GB
of RAM; four logical CPUs follow from (user + sys) / real = 3.3 to 3.7. Its rows "2.6.5-rc2-aa1" are 2.6.5-rc1-aa1: that is what
the mail's subject and text call the kernel that was measured.
"""

from dataclasses import dataclass

FIGURES = ("real", "user", "sys")
ANNOUNCEMENT = (
    'Andrea Arcangeli, "2.6.5-rc1-aa1", LKML 2004-03-18, <20040318022201.GE2113@dualathlon.random>, attachment "bench"'
)


@dataclass(frozen=True)
class Published:
    """One row: a kernel at a level, the runs in milliseconds as (real, user, sys), and who says so."""

    kernel: str
    level: int
    runs_ms: tuple[tuple[int, int, int], ...]
    source: str = ANNOUNCEMENT

    @property
    def mean_s(self) -> dict[str, float]:
        """Seconds by figure: the mean of the runs."""
        return {
            figure: sum(run[i] for run in self.runs_ms) / (1000 * len(self.runs_ms)) for i, figure in enumerate(FIGURES)
        }

    @property
    def scatter(self) -> dict[str, float]:
        """Half the distance between the lowest and the highest run, relative to the mean, by figure."""
        mean = self.mean_s
        return {
            figure: (max(run[i] for run in self.runs_ms) - min(run[i] for run in self.runs_ms)) / (2000 * mean[figure])
            for i, figure in enumerate(FIGURES)
        }


_ROWS = (
    Published("2.4.21", 6, ((6548, 11340, 10730), (6684, 11120, 11090))),
    Published("2.4.21", 7, ((12145, 22180, 21330), (11862, 21680, 21100))),
    Published("2.6.5-rc1-aa1", 6, ((6520, 9926, 11791), (6527, 9823, 11975))),
    Published("2.6.5-rc1-aa1", 7, ((12072, 21913, 22034), (12062, 21331, 22161))),
    Published("2.6.2", 6, ((8359, 10490, 17840), (8185, 9684, 18078))),
    Published("2.6.2", 7, ((16150, 21184, 38473), (16082, 21441, 38025))),
)
FORKBENCH = {(row.kernel, row.level): row for row in _ROWS}
"""What was published of forkbench, by kernel and level."""
CHAINS, OBJECTS = "2.6.2", "2.6.5-rc1-aa1"
"""The two kernels whose difference is the announcement's point."""


def published_kernels(level: int) -> list[str]:
    """The kernels with a row at `level`."""
    return [kernel for kernel, at in FORKBENCH if at == level]
