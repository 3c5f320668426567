r"""Names, paths and command lines are bytes from strangers: what a terminal or a reader would obey is shown, not obeyed.

    [/x]            as it is: no string is taken for markup (tables.py)
    ESC ] 0 ; ...   \x1b]0;...        control characters, among them a newline within a name
    U+202E ...      \u202e...         what turns writing round, what is invisible, halves of pairs

One function for a name, one for lines of our own that may contain some.
"""


def printable(text: str) -> str:
    """A name on one line. Everything that is not printable as it stands is escaped, as Python would write it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def harmless(text: str) -> str:
    """The same for a text of several lines: they stay lines."""
    return "\n".join(map(printable, text.split("\n")))
