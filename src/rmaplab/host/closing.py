"""What is open until it is closed: `with` closes it."""

from abc import ABC, abstractmethod
from typing import Self


class Closing(ABC):
    """A context manager that is closed at the end, once or more often."""

    @abstractmethod
    def close(self) -> None:
        """Let go of all that is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
