"""The README's Python session is true, and so is the package docstring's."""

import doctest
from pathlib import Path

import pytest

import rmaplab

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.parametrize("text", [README.read_text(encoding="utf-8"), rmaplab.__doc__ or ""], ids=["README", "rmaplab"])
def test_what_is_written_is_what_happens(text: str) -> None:
    """Every line typed gives what is printed below it."""
    session = doctest.DocTestParser().get_doctest(text.replace("```", ""), {}, "session", None, 0)
    assert session.examples
    assert doctest.DocTestRunner().run(session).failed == 0
