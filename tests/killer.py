"""The end of a process at one of its writes, for tests of what is left behind then."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, event


class KilledError(BaseException):
    """Nothing of the killed one's own runs after it: no handler, no next statement."""


class Killer:
    """Ends whoever writes at the n-th write transaction, before that is durable; 0 is never."""

    def __init__(self, at: int) -> None:
        self.at, self.writes = at, 0

    def __call__(self, connection: Connection) -> None:
        """Called when a transaction is about to be committed."""
        if connection.get_execution_options().get("steelyard_read"):
            return
        self.writes += 1
        if self.writes == self.at:
            raise KilledError

    @contextmanager
    def lurking(self, engine: Engine) -> Iterator[None]:
        """Within this block the writes to a database count."""
        event.listen(engine, "commit", self)
        try:
            yield
        finally:
            event.remove(engine, "commit", self)
