"""What hides a process is told by what is missing."""

import os

import pytest

from rmaplab.host import procfs, rights, unseen

ALL = (1 << 41) - 1


@pytest.mark.parametrize(
    ("user", "without", "says"),
    [
        (1000, ALL, "root sees other users' processes"),
        (0, 1 << 19, "CAP_SYS_PTRACE"),
        (0, 1 << 1 | 1 << 2, "CAP_DAC_READ_SEARCH"),
        (0, 0, "no capability is missing"),
        (1000, 0, "no capability is missing"),
    ],
)
def test_what_hides(user: int, without: int, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user is sent to root; root hears which capability it has not got, or that none is missing."""
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(rights, "read_fields", lambda _: {"CapEff": f"{ALL & ~without:x}"})
    monkeypatch.setattr(unseen, "_is_first_user_namespace", lambda: True)
    assert says in unseen.what_hides()
    if not without:
        monkeypatch.setattr(unseen, "_is_first_user_namespace", lambda: False)
        assert "user namespace" in unseen.what_hides()


def test_hidden_is_what_cannot_be_opened_and_has_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """By doing: a process is hidden if its VMAs or its page tables are, each for itself; a kernel thread has nothing to hide."""
    really, mine = procfs.open_proc, os.getpid()

    def refuse(name: str) -> int:
        if name in (f"{mine}/pagemap", "2/maps"):
            raise PermissionError(13, "Permission denied", f"/proc/{name}")
        return really(name)

    monkeypatch.setattr(procfs, "open_proc", refuse)
    monkeypatch.setattr(procfs, "processes", lambda: [2, mine])
    assert unseen.hidden() == [mine]
    assert unseen.are_hidden([mine]).startswith(f"pid {mine} is not shown to us (")
