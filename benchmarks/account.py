"""`make account`: the README as a fresh account reads it, on an install that belongs to root, for each Python given.

    root       a virtual environment, the package in it as a wheel; nobody else may write there
    account    a uid that nobody has, an empty home, an empty working directory: the README from top to bottom, every
               `rmaplab` of a line or a sentence once, and its Python session

Each must end with 0, or with 2 and one line that says why. PID, 4242 and nginx stand for a process of the account's own; what
the README types with sudo, the account types without. As root; the interpreters must be readable by others.
`--python` names them (default: this one). `--keep DIR` keeps what each command printed. What is long in the README is run too.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parents[1]
UID = 54_321
LIMIT_S = 3600
COMMAND = re.compile(r"^ {4}(?:sudo \S*)?(rmaplab .*?)(?: {2,}#.*)?$|`(rmaplab [^`]*)`|^(>>>) ", re.MULTILINE)
SESSION = "python -m doctest README.md"


class Ran(NamedTuple):
    """A command as it went: `code` is None where it took longer than LIMIT_S."""

    typed: str
    code: int | None
    seconds: float
    out: str
    err: str

    @property
    def fine(self) -> bool:
        """It did what it should, or said in one line why not."""
        return self.code == 0 or (self.code == 2 and len(self.err.strip().splitlines()) == 1)


def commands() -> list[str]:
    """What the README says to type, in its order, each once."""
    found = COMMAND.finditer((HERE / "README.md").read_text())
    typed = (" ".join((each[1] or each[2]).split()) if not each[3] else SESSION for each in found)
    return list(dict.fromkeys(typed))


def install(python: str, place: Path) -> Path:
    """The environment's programs, ours installed as a wheel; raises CalledProcessError."""
    subprocess.run([python, "-m", "venv", place], check=True)
    pip = [str(place / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-c", str(HERE / "constraints.txt"), f"{HERE}[plot,designs]"], check=True)
    return place / "bin"


def run(typed: str, account: dict[str, Any]) -> Ran:
    """One command, to its end."""
    began = time.perf_counter()
    try:
        done = subprocess.run(
            shlex.split(typed),
            **account,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        return Ran(typed, None, time.perf_counter() - began, "", f"not done after {LIMIT_S} s")
    return Ran(typed, done.returncode, time.perf_counter() - began, done.stdout, done.stderr)


def run_all(programs: Path, home: Path, work: Path) -> list[Ran]:
    """Every command, as it went."""
    environment = {"HOME": str(home), "PATH": f"{programs}:/usr/bin:/bin", "LANG": "C.UTF-8"}
    account: dict[str, Any] = {"user": UID, "group": UID, "extra_groups": [], "env": environment, "cwd": work}
    (work / "a.script").write_text("A: mmap w+0 8 rw\nA: write w+2\nA: fork B\nB: read w+2\n")
    (work / "README.md").write_bytes((HERE / "README.md").read_bytes())
    found = []
    with subprocess.Popen(["sleep", "99999"], **account) as own:
        time.sleep(1)
        for command in commands():
            typed = re.sub(r"\b(4242|nginx|PID)\b", str(own.pid), command).replace("ADDRESS", "'[heap]'")
            ran = run(typed, account)
            if command == "rmaplab live --save a" and not ran.code:
                (work / "b").write_bytes((work / "a").read_bytes())  # "another, later, in b"
                os.chown(work / "b", UID, UID)
            found.append(ran)
            print(f"  {'ok  ' if ran.fine else 'FAIL'} {ran.code!s:>4} {ran.seconds:6.1f} s  {command}", flush=True)
            if ran.code:
                print(f"                     {(ran.err.strip().splitlines() or [''])[-1]}", flush=True)
        own.kill()
    return found


def main() -> None:
    """Exit with 1 if a command failed."""
    parser = argparse.ArgumentParser(description="the README's commands by a fresh account, on an install of root's")
    parser.add_argument("--python", action="append", help="an interpreter (default: this one)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="a file for each Python: what each command printed")
    options = parser.parse_args()
    if os.geteuid():
        sys.exit("this installs as root and runs as another: run it as root")
    bad = 0
    for python in options.python or [sys.executable]:
        with tempfile.TemporaryDirectory() as directory:
            place = Path(directory)
            place.chmod(0o755)
            home, work = place / "home", place / "work"
            for each in (home, work):
                each.mkdir(mode=0o700)
                os.chown(each, UID, UID)
            version = subprocess.run([python, "--version"], capture_output=True, text=True, check=True).stdout.strip()
            print(version, flush=True)
            found = run_all(install(python, place / "venv"), home, work)
            bad += sum(not ran.fine for ran in found)
            fine, refused = sum(ran.code == 0 for ran in found), sum(ran.fine and ran.code == 2 for ran in found)
            print(f"{version}: {len(found)} commands: {fine} exit 0, {refused} say in one line why not", flush=True)
            if options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                kept = (f"$ {ran.typed}\n{ran.out}{ran.err}[{ran.code}]\n\n" for ran in found)
                (options.keep / version.replace(" ", "-")).write_text("".join(kept))
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
