"""Logs that are spoilt: lines cut, lost, twice, out of order, with other numbers, pids, names and bytes in them.

python -m benchmarks.garble 1000 [SEED]        as many are replayed: nothing but a clear word may come of it
"""

import gzip
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rmaplab.errors import UsageError
from rmaplab.kernels.box import Box
from rmaplab.lab.replay.passed import PASSED
from rmaplab.lab.replay.plan_processes import KNOWN, plan_of
from rmaplab.lab.replay.run import replay_on
from rmaplab.workloads.strace_log import parse

KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1-aa1", "2.6.7", "6.18")
LOGS = Path(__file__).parent.parent / "tests/data/logs"
NUMBER = re.compile(r"0x[0-9a-f]+|\d+")
EXTREMES = (
    0,
    -1,
    1,
    4095,
    4096,
    1 << 20,
    1 << 31,
    (1 << 31) - 1,
    1 << 32,
    1 << 46,
    1 << 47,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
    1 << 64,
    10**30,
)
BOX = Box(ram="64M", paging="x86-64")
MOST_LINES = 120


def real_lines() -> list[str]:
    """All that the logs say that are test data."""
    texts = (gzip.decompress(path.read_bytes()).decode() for path in sorted(LOGS.glob("*.log.gz")))
    return [line for text in texts for line in text.splitlines()]


def garbled(lines: list[str], dice: random.Random) -> list[str]:
    """A stretch of a log, spoilt."""
    begin = dice.choice((0, dice.randrange(len(lines))))
    kept = lines[begin : begin + dice.randrange(1, MOST_LINES)]
    for _ in range(dice.randrange(1, 30)):
        at = dice.randrange(len(kept))
        kept[at : at + 1] = dice.choice(SPOILS)(kept[at], kept, dice)
        kept = kept or [""]
    if dice.random() < 0.1:
        dice.shuffle(kept)
    return kept


def _number(line: str, _: list[str], dice: random.Random) -> list[str]:
    found = list(NUMBER.finditer(line))
    if not found:
        return [line]
    one = dice.choice(found)
    near = int(one[0], 0 if one[0].startswith("0x") else 10) + dice.choice((-4096, -1, 1, 4096, 1 << 21))
    value = dice.choice((dice.choice(EXTREMES), dice.getrandbits(47), near))
    said = hex(value) if dice.random() < 0.5 else str(value)
    return [line[: one.start()] + said + line[one.end() :]]


def _flip(line: str, _: list[str], dice: random.Random) -> list[str]:
    letters = list(line or " ")
    for _n in range(dice.randrange(1, 4)):
        letters[dice.randrange(len(letters))] = chr(dice.choice((dice.randrange(32, 127), dice.randrange(256), 0x202E)))
    return ["".join(letters)]


def _swap(line: str, lines: list[str], dice: random.Random) -> list[str]:
    """Another's arguments or result."""
    other = dice.choice(lines)
    return [line[: len(line) // 2] + other[len(other) // 2 :]]


def _cut(line: str, _: list[str], dice: random.Random) -> list[str]:
    return [line[: dice.randrange(len(line) + 1)]]


def _lose(_: str, _lines: list[str], _dice: random.Random) -> list[str]:
    return []


def _repeat(line: str, _: list[str], dice: random.Random) -> list[str]:
    return [line] * dice.randrange(2, 5)


def _again(line: str, lines: list[str], dice: random.Random) -> list[str]:
    return [dice.choice(lines), line]


def _other_pid(line: str, _: list[str], dice: random.Random) -> list[str]:
    return [re.sub(r"^\d+", str(dice.randrange(1, 9)), line)]


def _other_name(line: str, _: list[str], dice: random.Random) -> list[str]:
    return [re.sub(r"[a-z_0-9]+\(", dice.choice(sorted(KNOWN)) + "(", line, count=1)]


def _unfinished(line: str, _: list[str], _dice: random.Random) -> list[str]:
    return [line.replace(")", " <unfinished ...>", 1)]


SPOILS = (_number, _number, _number, _flip, _swap, _cut, _lose, _repeat, _again, _other_pid, _other_name, _unfinished)


def run(nr: int, seed: int, lines: list[str]) -> Iterator[tuple[int, str]]:
    """The outcome of each, by number. Raises what must never be raised."""
    for number in range(nr):
        dice = random.Random(f"{seed}:{number}")
        spoilt = garbled(lines, dice)
        try:
            plan = plan_of(parse(spoilt, KNOWN, PASSED))
            result = replay_on(dice.choice(KERNELS), plan, BOX, dice.choice(("none", "used", "all")), 3)
        except UsageError as error:
            yield number, str(error)[:40]
        except BaseException:
            Path("/dev/stderr").write_text(f"number {number} of seed {seed}\n")
            raise
        else:
            yield number, result.outcome


def main() -> None:
    """Replay as many as the first argument says."""
    nr, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    outcomes: Counter[str] = Counter()
    slowest, began = (0.0, 0), time.perf_counter()
    before = began
    for number, outcome in run(nr, seed, real_lines()):
        outcomes[outcome] += 1
        now = time.perf_counter()
        slowest, before = max(slowest, (now - before, number)), now
    print(f"{nr:,} garbled logs in {before - began:.1f} s; the slowest, number {slowest[1]}, took {slowest[0]:.2f} s")
    for outcome, times in outcomes.most_common():
        print(f"{times:7,}  {outcome}")


if __name__ == "__main__":
    main()
