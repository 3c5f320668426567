"""The light half of a verb says what may be typed, and imports its heavy half, from cli/work/, when that is used."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rmaplab.cli
from rmaplab.cli import VERBS

CLI = Path(rmaplab.cli.__file__).parent
LIGHT = {path.stem: ast.parse(path.read_text()) for path in sorted(CLI.glob("*.py"))}
HEAVY = {path.stem: ast.parse(path.read_text()) for path in sorted((CLI / "work").glob("*.py"))}
EVERYBODY = {
    "rmaplab",
    "rmaplab.errors",
    "rmaplab.units",
    "rmaplab.files",
    "rmaplab.harmless",
}  # rmaplab itself: its version
ALLOWED = {
    "click",
    *EVERYBODY,
    "rmaplab.kernels.box",
    "rmaplab.cli.options",
    "rmaplab.cli.box_options",
    "rmaplab.cli.census_options",
    "rmaplab.cli.mix_options",
    "rmaplab.cli.sorting",
    "rmaplab.cli.streams",
    *sys.stdlib_module_names,
}
DRAWING = {
    "rmaplab.report.plots",
    "rmaplab.report.plot_times",
    "rmaplab.report.boundary_plot",
    "rmaplab.report.localmalloc_plot",
    "rmaplab.report.manyvmas_plot",
    "rmaplab.report.replay_plot",
    "rmaplab.report.swapload_plot",
}
SUBCOMMANDS = ("live diff", "sweep memory", "designs check")
HELP = """
import contextlib, io, json, sys
from rmaplab.cli import main
loaded = {}
for words in json.loads(sys.argv[1]):
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        main(words)
    loaded[" ".join(words)] = sorted({"numba", "numpy", "rich", "greenlet", "matplotlib"} & set(sys.modules))
print(json.dumps(loaded))
"""


def imports(nodes: Iterator[ast.AST] | list[ast.stmt]) -> list[str]:
    """The modules that these statements import."""
    found: list[str] = []
    for node in nodes:
        match node:
            case ast.Import(names=names):
                found += [alias.name for alias in names]
            case ast.ImportFrom(module=str(module), level=0, names=names):
                inside = module == "rmaplab.cli.work"
                found += [f"{module}.{alias.name}" for alias in names] if inside else [module]
            case ast.ImportFrom():
                found.append("something relative")
    return found


def late_imports(tree: ast.Module) -> dict[str, list[str]]:
    """By function, what it imports."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return {function.name: found for function in functions if (found := imports(ast.walk(function)))}


@pytest.mark.parametrize("name", LIGHT)
def test_a_light_module_imports_nothing_heavy(name: str) -> None:
    """At its top only click, the standard library, what is everybody's, and the shared options; no `if` hides more."""
    tree = LIGHT[name]
    top = imports(tree.body)
    assert [
        module for module in top if module not in ALLOWED and module.split(".")[0] not in ALLOWED - {"rmaplab"}
    ] == []
    late = [module for modules in late_imports(tree).values() for module in modules]
    assert sorted(imports(ast.walk(tree))) == sorted(top + late)


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_imports_its_heavy_half_in_one_place(name: str) -> None:
    """A function imports one module of cli/work/, called like the verb, and nothing else."""
    late = late_imports(LIGHT[name])
    assert late
    for modules in late.values():
        (module,) = modules
        assert module.startswith(f"rmaplab.cli.work.{name}")
        assert module.rpartition(".")[2] in HEAVY


@pytest.mark.parametrize("name", [*HEAVY, *(f"../{name}" for name in LIGHT if name not in VERBS)])
def test_nobody_else_in_cli_imports_late(name: str) -> None:
    """Nothing but what draws: matplotlib is an extra, and slow to load."""
    tree = HEAVY[name] if name in HEAVY else LIGHT[name.removeprefix("../")]
    late = {module for modules in late_imports(tree).values() for module in modules}
    assert late <= DRAWING


def test_help_and_wrong_options_load_nothing_heavy() -> None:
    """The help of every verb, and click's own errors: what is typed is judged before anything is loaded."""
    commands = [name.split() for name in (*VERBS, *SUBCOMMANDS)]
    asked = [["--help"], *([*words, last] for words in commands for last in ("--help", "--no-such-option"))]
    program = [sys.executable, "-c", HELP, json.dumps(asked)]
    loaded = json.loads(subprocess.run(program, capture_output=True, text=True, check=True).stdout)
    assert len(loaded) == len(asked)
    assert {words: modules for words, modules in loaded.items() if modules} == {}
