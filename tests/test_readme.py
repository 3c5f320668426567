"""The README's Python session is true, and so is the package docstring's. Commands in the documents can be typed as they stand."""

import doctest
import re
import shlex
from pathlib import Path

import click
import pytest

import rmaplab
from rmaplab.cli import cli

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCUMENTS = [README, *sorted((ROOT / "docs").rglob("*.md"))]
GLOB = re.compile(r"""[\[*?]""")


@pytest.mark.parametrize("text", [README.read_text(encoding="utf-8"), rmaplab.__doc__ or ""], ids=["README", "rmaplab"])
def test_what_is_written_is_what_happens(text: str) -> None:
    """Every line typed gives what is printed below it."""
    session = doctest.DocTestParser().get_doctest(text.replace("```", ""), {}, "session", None, 0)
    assert session.examples
    assert doctest.DocTestRunner().run(session).failed == 0


def _typed(text: str) -> list[str]:
    """Lines that stand there to be typed: indented, the tool's name first (sudo, a path and `time` may stand before it)."""
    return re.findall(r"^ {4}(?:sudo |\.venv/bin/)*(rmaplab (?!\[).*)$", text, re.MULTILINE)


def _commands() -> list[str]:
    return sorted({line for path in DOCUMENTS for line in _typed(path.read_text())})


def _helps() -> list[str]:
    """The same of every help text."""
    contexts = [click.Context(cli, info_name="rmaplab")]
    for context in contexts:
        if isinstance(context.command, click.Group):
            for name in context.command.list_commands(context):
                command = context.command.get_command(context, name)
                assert command is not None
                contexts.append(click.Context(command, info_name=name, parent=context))
    return [line for context in contexts for line in re.findall(r"^ +(rmaplab .*)$", context.get_help(), re.MULTILINE)]


def test_no_shell_takes_a_word_for_a_pattern() -> None:
    """`[heap]` is one: zsh refuses the command if no file is called h, e, a or p."""
    lines = _commands() + _helps()
    assert "rmaplab who nginx '[heap]' --format json" in lines
    unquoted = {line: re.sub(r"'[^']*'|#.*|  +.*", "", line) for line in lines}
    assert [line for line, words in unquoted.items() if GLOB.search(words)] == []


@pytest.mark.parametrize("line", _typed(README.read_text()))
def test_commands_of_the_readme_are_commands(line: str) -> None:
    """Every verb and option is one: they are parsed, and not run."""
    words = shlex.split(line, comments=True)[1:]
    context = click.Context(cli, info_name="rmaplab")
    while isinstance(context.command, click.Group) and words:
        command = context.command.get_command(context, words[0])
        if command is None:
            break
        context = click.Context(command, info_name=words.pop(0), parent=context)
    assert context.parent is not None, f"no such verb: {line}"
    parsed, left, _ = context.command.make_parser(context).parse_args(words)
    assert left == [] or isinstance(context.command, click.Group), parsed
