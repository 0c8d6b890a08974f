"""The page of a run in the experiment tracker, as the platform needs it."""

from typing import Protocol


class RunPages(Protocol):
    """Texts that are kept with a run."""

    def text(self, run_id: str, name: str) -> str | None:
        """A text file of a run; None when there is none. Raises Unavailable."""
        ...

    def keep(self, run_id: str, name: str, text: str) -> None:
        """Keep a text file with a run, in place of an earlier one of that name.

        Raises NotFound when there is no such run, Unavailable when nobody answers.
        """
        ...
