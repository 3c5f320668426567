"""--gdb: a run with a debugger, for `run` and `exec`."""

from __future__ import annotations

from rmaplab.gdb.session import Session
from rmaplab.kernels.system import System


class Debugging:
    """One run. `where` is where to listen, None: nowhere; `comm` is what tasks are called that have no name of their own."""

    def __init__(self, where: tuple[str, int] | None, comm: str) -> None:
        self._where, self._comm = where, comm
        self._session: Session | None = None

    def begin(self, system: System) -> None:
        """The system is about to run. Raises UsageError: nobody can listen there."""
        if self._where is not None:
            host, port = self._where
            self._session = Session(system, self._comm, host=host, port=port)

    def end(self, status: int = 0) -> None:
        """It has run."""
        if self._session is not None:
            self._session.end(status)
