"""What a census has rows of: processes or fork trees, and mapped files."""

from dataclasses import asdict, dataclass
from typing import Any

from rmaplab.lab.census.visits import Quantiles


@dataclass(frozen=True)
class CensusRow:
    """A process, or a fork tree named by its oldest process. None: not known on this rung.

    anon_vmas of a process are those its VMAs own; a tree also has those that nobody owns any more. `depth` is in generations,
    `longest_walk` the most VMAs on one index of an anon_vma that it hangs on; `candidates` and `useful` are over pages found in it.
    Of a row that is `torn` the tree was caught changing: its figures may be off. Memory of a tree is the sum of its processes': what n of
    them share counts n times in `shared_bytes`, and once in `pss_bytes`. `start_time_ns` is since boot, 0 if not known.
    """

    pid: int
    comm: str
    torn: bool | None
    processes: int
    roots: int | None
    largest_root_vmas: int | None
    vmas: int
    anon_vmas: int | None
    chains: int | None
    rmap_bytes: int | None
    depth: int | None
    longest_walk: int | None
    candidates: Quantiles | None
    useful: Quantiles | None
    page_tables_bytes: int | None
    private_bytes: int | None
    shared_bytes: int | None
    pss_bytes: int | None
    swap_bytes: int | None
    hugetlb_bytes: int | None
    ksm_bytes: int | None
    start_time_ns: int

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class FileRow:
    """A mapped file: a walk for a page of it has these VMAs to choose from (its i_mmap)."""

    name: str
    device: str
    inode: int
    vmas: int
    address_spaces: int


@dataclass(frozen=True)
class MemoryRow:
    """Memory of a kind in bytes: the sum of what each process says it has, what the machine says of itself, and why they differ."""

    kind: str
    of_processes: int | None
    of_machine: int | None
    why: str


@dataclass(frozen=True)
class ObjectRow:
    """A slab cache: what hangs on the VMAs of the graph, objects in use and slots as slabinfo counts them, caches that share its slabs."""

    cache: str
    in_graph: int
    in_use: int | None
    slots: int | None
    merged_with: int
