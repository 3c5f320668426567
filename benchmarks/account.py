"""`make account`: the README's commands as a fresh account types them, on an install that belongs to root, for each Python given.

    root       a virtual environment, the package in it as a wheel; nobody else may write there
    account    a uid that nobody has, an empty home, an empty working directory: every `rmaplab` line of the README, top to bottom

Each must end with 0, or with 2 and one line that says why. 4242 and nginx stand for a process of the account's own. As root.
`--python` names interpreters (default: this one). Ten minutes each: what is long in the README is run too.
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
from typing import Any

HERE = Path(__file__).parents[1]
UID = 54_321
LIMIT_S = 900
COMMAND = re.compile(r"^ {4}(rmaplab .*?)(?: {2,}#.*)?$")


def commands() -> list[str]:
    """Every line of the README that is a command, once."""
    text = (HERE / "README.md").read_text()
    return list(dict.fromkeys(found[1] for line in text.splitlines() if (found := COMMAND.match(line))))


def install(python: str, place: Path) -> Path:
    """The program, installed as a wheel; raises CalledProcessError."""
    subprocess.run([python, "-m", "venv", place], check=True)
    pip = [str(place / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-c", str(HERE / "constraints.txt"), f"{HERE}[plot,designs]"], check=True)
    return place / "bin" / "rmaplab"


def run_all(program: Path, home: Path, work: Path) -> list[tuple[str, int, float, str]]:
    """(command, exit code, seconds, its one line where it was refused), for each."""
    environment = {"HOME": str(home), "PATH": f"{program.parent}:/usr/bin:/bin", "LANG": "C.UTF-8"}
    as_account: dict[str, Any] = {"user": UID, "group": UID, "extra_groups": [], "env": environment, "cwd": work}
    (work / "a.script").write_text("A: mmap w+0 8 rw\nA: write w+2\nA: fork B\nB: read w+2\n")
    found = []
    with subprocess.Popen(["sleep", "9999"], **as_account) as own:
        time.sleep(1)
        for command in commands():
            typed = command.replace("4242", str(own.pid)).replace("nginx", str(own.pid)).replace("...", "")
            began = time.perf_counter()
            done = subprocess.run(
                shlex.split(typed),
                **as_account,
                capture_output=True,
                text=True,
                check=False,
                timeout=LIMIT_S,
            )
            said = done.stderr.strip().splitlines()
            if command == "rmaplab live --save a" and not done.returncode:
                (work / "b").write_bytes((work / "a").read_bytes())  # "another, later, in b"
                os.chown(work / "b", UID, UID)
            found.append((command, done.returncode, time.perf_counter() - began, said[-1] if said else ""))
            fine = done.returncode == 0 or (done.returncode == 2 and len(said) == 1)
            print(f"  {'ok  ' if fine else 'FAIL'} {done.returncode:>3} {found[-1][2]:6.1f} s  {command}", flush=True)
            if done.returncode:
                print(f"                    {found[-1][3]}", flush=True)
        own.kill()
    return found


def main() -> None:
    """Exit with 1 if a command failed."""
    parser = argparse.ArgumentParser(description="the README's commands by a fresh account, on an install of root's")
    parser.add_argument("--python", action="append", help="an interpreter (default: this one)")
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
            bad += sum(code not in (0, 2) for _, code, _, _ in found)
            print(f"{version}: {len(found)} commands, {sum(not code for _, code, _, _ in found)} exit 0")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
