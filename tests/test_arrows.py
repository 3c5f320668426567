"""The arrows of the house: a floor imports only floors below it (docs/design.md, "Floors").

    cli -> gdb -> report -> lab -> cpu -> host -> workloads -> kernels -> mm -> rmap -> objects -> machine      errors, units: everybody
                                                                   |       ^
                                                                   +-------+  by pages, queries and the protocol only (mm/validate.py: the judge too)

Imports are read off the source: wherever they stand, for type checkers only or inside a function. They never go in a circle.
A module has at most 400 lines, a function at most 60, and a class name means one thing. And nothing compares the name of a
kernel: what a kernel does is in its figures.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import rmaplab

SOURCE = Path(rmaplab.__file__).parent
MODULES = {
    ".".join(("rmaplab", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}
FLOORS = (
    "machine",
    "objects",
    "cache",
    "rmap",
    "mm",
    "reclaim",
    "calls",
    "kernels",
    "workloads",
    "host",
    "cpu",
    "lab",
    "report",
    "gdb",
    "cli",
)
EVERYBODY = ("errors", "units", "files", "harmless")
FACADE = "rmaplab"  # the package itself: what users import; inside the house, for cli/ only


def imported_modules(source: str, module: str, *, is_package: bool = False) -> Iterator[str]:
    """Every dotted name under rmaplab that `source` imports, by any statement or by import_module("...")."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        match node:
            case ast.Import(names=aliases):
                names = [alias.name for alias in aliases]
            case ast.ImportFrom(module=name, names=aliases, level=level):
                base = package[: len(package) - level + 1] if level else []
                names = [".".join((*base, *([name] if name else []), alias.name)) for alias in aliases]
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                names = [name]
        yield from (name for name in names if name.split(".")[0] == "rmaplab")


def floor_of(module: str) -> str:
    """The floor, or the shared module, or the facade that a dotted name belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in (*FLOORS, *EVERYBODY) else FACADE


def height(floor: str) -> int:
    """0 for what everybody may import, 1 for machine ... 15 for cli; the facade stands on report/."""
    if floor in EVERYBODY:
        return 0
    return FLOORS.index("report") + 1 if floor == FACADE else FLOORS.index(floor) + 1


def arrows_up(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """What `module` imports although it must not, in words."""
    if module in (FACADE, f"{FACADE}.__main__"):
        return []
    own = floor_of(module)
    if own == FACADE:
        return [f"{module} is on no floor"]
    wrong = []
    for name in imported_modules(source, module, is_package=is_package):
        floor = floor_of(name)
        judge_for_validate = module == "rmaplab.mm.validate" and f"{name}.".startswith("rmaplab.rmap.brute_force.")
        if floor in EVERYBODY:
            continue
        if floor != own and height(floor) >= height(own):
            wrong.append(f"{module} ({own}) imports {name}: not below it")
        elif floor == FACADE and height(own) <= height(FACADE):
            wrong.append(f"{module} ({own}) imports the facade")
        elif (
            (own, floor) == ("mm", "rmap")
            and not f"{name}.".startswith(
                tuple(f"rmaplab.rmap.{room}." for room in ("protocol", "pages", "queries", "walk_rules"))
            )
            and not judge_for_validate
        ):
            wrong.append(f"{module} imports {name}: mm/ knows pages, queries and the protocol, and no design")
    return wrong


@pytest.mark.parametrize("module", MODULES)
def test_a_floor_imports_only_floors_below_it(module: str) -> None:
    """No arrow of this module points up or sideways past the protocol."""
    path = MODULES[module]
    assert arrows_up(path.read_text(), module, is_package=path.name == "__init__.py") == []


def test_the_house_is_the_one_in_the_drawing() -> None:
    """Every module stands on a floor that has a place in the order, and every floor is there but those still to be built."""
    to_come = {"cache", "cpu", "reclaim"}
    standing = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()}
    assert standing <= set(FLOORS)
    assert set(FLOORS) - standing <= to_come
    assert {path.stem for path in SOURCE.glob("*.py")} <= {"__init__", "__main__", *EVERYBODY}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("rmaplab.machine.slab", "from rmaplab.objects.mm_types import VmArea"),
        ("rmaplab.machine.slab", "import rmaplab.objects.mm_types as nouns"),
        ("rmaplab.machine.slab", "from rmaplab import objects"),
        ("rmaplab.machine.slab", "from ..objects import mm_types"),
        ("rmaplab.machine.slab", "from .. import objects"),
        ("rmaplab.machine.slab", "def late() -> None:\n    from rmaplab.mm import fault"),
        ("rmaplab.machine.slab", "if TYPE_CHECKING:\n    from rmaplab.objects.mm_types import MmStruct"),
        ("rmaplab.machine.slab", "importlib.import_module('rmaplab.mm.fault')"),
        ("rmaplab.machine.slab", "import rmaplab"),
        ("rmaplab.rmap.anon_vma", "from rmaplab.mm.fork import dup_mm"),
        ("rmaplab.rmap.anon_vma", "import json, rmaplab.mm.fork"),
        ("rmaplab.mm.fork", "from rmaplab.rmap.anon_vma import AnonVmaMap"),
        ("rmaplab.mm.fork", "from rmaplab.rmap import pte_chain"),
        ("rmaplab.mm.fork", "from rmaplab.rmap.brute_force import judge"),
        ("rmaplab.mm.fork", "from rmaplab.rmap.protocol_extras import x"),
        ("rmaplab.mm.validate", "from rmaplab.rmap import anon_vma"),
        ("rmaplab.mm.fork", "from rmaplab.kernels.spec import KernelSpec"),
        ("rmaplab.kernels.system", "from rmaplab import boot"),
        ("rmaplab.lab.costs.sweep", "from rmaplab import boot"),
        ("rmaplab.report.tables", "from rmaplab import boot"),
        ("rmaplab.mm.fork", "from rmaplab.calls.task import Task"),
        ("rmaplab.host.agent", "from rmaplab.cpu import x86"),
        ("rmaplab.lab.announcement.experiment", "from rmaplab.report.tables import table"),
        ("rmaplab.errors", "from rmaplab.units import PAGE_SIZE\nfrom rmaplab.machine import ram"),
        ("rmaplab.units", "from rmaplab import boot"),
        ("rmaplab.helpers", "import json"),
    ],
)
def test_the_reader_of_arrows_sees_a_violation(module: str, source: str) -> None:
    """A forbidden import is found whatever form it has and wherever it stands."""
    assert len(arrows_up(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("rmaplab.machine.slab", "from rmaplab.units import PAGE_SIZE\nfrom rmaplab import errors\nfrom . import ram"),
        (
            "rmaplab.machine.slab",
            "import numpy\nfrom rmaplab_extras import mm\n# from rmaplab.mm import fork\n'import rmaplab.mm'",
        ),
        (
            "rmaplab.mm.fork",
            "from rmaplab.rmap.protocol import ReverseMap\nfrom rmaplab.rmap import protocol, pages, queries",
        ),
        ("rmaplab.mm.validate", "from rmaplab.rmap.brute_force import judge"),
        ("rmaplab.rmap.anon_vma", "from rmaplab.rmap import pte_chain\nfrom rmaplab.objects.mm_types import MmStruct"),
        ("rmaplab.cli.run", "from rmaplab import boot\nfrom rmaplab.kernels.system import System"),
        ("rmaplab", "from rmaplab.kernels.system import boot"),
    ],
)
def test_the_reader_of_arrows_lets_the_rest_pass(module: str, source: str) -> None:
    """What goes down, stays on the floor, or is nobody's business is no violation."""
    assert arrows_up(source, module) == []


# -- circles, sizes, names ---------------------------------------------------------------------------------------------

MOST_LINES, MOST_LINES_OF_A_FUNCTION = 400, 60


def module_named(name: str, modules: Iterable[str]) -> str | None:
    """The module that a dotted name is, or lies in: rmaplab.host.procfs.processes is rmaplab.host.procfs."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def circle(imports: dict[str, set[str]]) -> list[str]:
    """A way along the arrows that ends where it began, or nothing."""
    sorter = TopologicalSorter(imports)
    try:
        sorter.prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def arrows(sources: dict[str, str], packages: Iterable[str] = ()) -> dict[str, set[str]]:
    """By module: the modules it imports. A package's own `__init__` is one like any other; importing below it is no arrow to it."""
    found: dict[str, set[str]] = {}
    for module, source in sources.items():
        names = imported_modules(source, module, is_package=module in packages)
        found[module] = {target for name in names if (target := module_named(name, sources)) and target != module}
    return found


def long_functions(source: str) -> list[str]:
    """Functions over the limit: "name: lines". A decorator is not counted, a docstring is."""
    return [
        f"{node.name}: {length}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > MOST_LINES_OF_A_FUNCTION
    ]


def test_imports_go_in_no_circle() -> None:
    """Not even those that are for type checkers only."""
    packages = {module for module, path in MODULES.items() if path.name == "__init__.py"}
    assert circle(arrows({module: path.read_text() for module, path in MODULES.items()}, packages)) == []


@pytest.mark.parametrize(
    "sources",
    [
        {"rmaplab.a": "import rmaplab.b", "rmaplab.b": "import rmaplab.a"},
        {"rmaplab.a": "from rmaplab import b", "rmaplab.b": "if TYPE_CHECKING:\n    from rmaplab.a import A"},
        {
            "rmaplab.a": "from rmaplab.b import f",
            "rmaplab.b": "from rmaplab import c",
            "rmaplab.c": "def late():\n    from rmaplab.a import x",
        },
    ],
)
def test_the_reader_of_circles_sees_one(sources: dict[str, str]) -> None:
    """Of two modules or more, by any import."""
    assert circle(arrows(sources))


def test_the_reader_of_circles_lets_the_rest_pass() -> None:
    """Two ways to the same module are no circle."""
    assert (
        circle(arrows({"rmaplab.a": "from rmaplab import b, c", "rmaplab.b": "import rmaplab.c", "rmaplab.c": ""}))
        == []
    )


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_a_room(module: str) -> None:
    """It can be read at one sitting, and each of its functions on one screen."""
    source = MODULES[module].read_text()
    assert len(source.splitlines()) <= MOST_LINES
    assert long_functions(source) == []


def test_the_reader_of_long_functions_sees_one() -> None:
    """Sixty lines are as many as there may be, in a method too."""
    body = "".join(f"        x = {i}\n" for i in range(MOST_LINES_OF_A_FUNCTION - 1))
    assert long_functions(f"class A:\n    def f(self):\n{body}") == []
    assert long_functions(f"class A:\n    def f(self):\n{body}        y = 1\n") == ["f: 61"]


def test_a_class_name_means_one_thing() -> None:
    """No two classes share a name, whatever their modules; a leading underscore makes no other name."""
    homes: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name.lstrip("_"), []).append(module)
    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == {}


# -- kernel names ------------------------------------------------------------------------------------------------------

RELEASE = re.compile(r"\d+\.\d+(\.|-|$)")


def is_kernel_name(node: ast.AST) -> bool:
    """Whether an expression is, or holds, the name of a kernel: spec.name, "2.6.2", ("2.6.", "3.19")."""
    match node:
        case ast.Constant(value=str(text)):
            return bool(RELEASE.match(text))
        case ast.Attribute(value=ast.Name(id=owner) | ast.Attribute(attr=owner), attr="name"):
            return owner in ("spec", "kernel", "base")
        case ast.Tuple(elts=elements) | ast.List(elts=elements) | ast.Set(elts=elements):
            return any(map(is_kernel_name, elements))
    return False


def name_comparisons(source: str) -> list[int]:
    """The lines where the name of a kernel is compared."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        compared: list[ast.AST] = []
        match node:
            case ast.Compare(left=left, comparators=others):
                compared = [left, *others]
            case ast.Match(subject=subject):
                compared = [subject]
            case ast.MatchValue(value=value):
                compared = [value]
            case ast.Call(func=ast.Attribute(value=value, attr="startswith" | "endswith"), args=arguments):
                compared = [value, *arguments]
        lines += [node.lineno for each in compared if is_kernel_name(each) and hasattr(node, "lineno")]
    return lines


@pytest.mark.parametrize("module", MODULES)
def test_nothing_compares_the_name_of_a_kernel(module: str) -> None:
    """A kernel's rules are figures of its specification: no code asks which kernel it is."""
    assert name_comparisons(MODULES[module].read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "if spec.name == other: pass",
        "old = system.spec.name in OLD",
        "x = 1 if self.kernel.name != y else 2",
        "if release < '2.6.5': pass",
        "if name in ('2.4.21', '2.6.2'): pass",
        "if '2.6.2' == name: pass",
        "name.startswith('2.6.')",
        "spec.name.endswith(suffix)",
        "match name:\n    case '6.18': pass",
        "match spec.name:\n    case other: pass",
    ],
)
def test_the_reader_of_comparisons_sees_one(source: str) -> None:
    """Every way to ask for a kernel's name is found."""
    assert name_comparisons(source)


@pytest.mark.parametrize(
    "source",
    [
        "find_kernel('2.6.2')",
        "kernels = {spec.name: spec for spec in ALL}",
        "if paging.name == 'i386': pass",
        "if version == '1': pass",
        "print(f'{spec.name} on {box}')",
    ],
)
def test_the_reader_of_comparisons_lets_the_rest_pass(source: str) -> None:
    """Naming a kernel is no comparison."""
    assert name_comparisons(source) == []
