"""Leases: who alone may act for a while, and the number that fences off whoever did before."""

from sqlalchemy import Connection, Engine, insert, select, update

from steelyard.adapters.sql.database import writing
from steelyard.adapters.sql.tables import delivery
from steelyard.domain.errors import Conflict
from steelyard.domain.rollout import CONTROLLER_LEASE


class LeaseStore:
    """Leases in SQL. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def acquire(self, name: str, holder: str, now_us: int, ttl_us: int) -> int | None:
        """Hold or renew a lease; its fencing token, or None while somebody else holds it.

        One that ends later than anybody could have meant is from before the clock was set back:
        it keeps nobody out.
        """
        lease = delivery.lease
        with writing(self._engine) as connection:
            row = connection.execute(select(lease).where(lease.c.name == name)).one_or_none()
            if row is None:
                connection.execute(
                    insert(lease),
                    {"name": name, "holder": holder, "token": 1, "expires_us": now_us + ttl_us},
                )
                return 1
            if row.holder != holder and now_us < row.expires_us <= now_us + 2 * ttl_us:
                return None
            token = row.token if row.holder == holder else row.token + 1
            connection.execute(
                update(lease)
                .where(lease.c.name == name)
                .values(holder=holder, token=token, expires_us=now_us + ttl_us)
            )
            return int(token)


def fence(connection: Connection, token: int | None) -> None:
    """Let a controller write only while its lease's number is the newest; a person has none.

    Raises:
        Conflict: another controller took over.
    """
    if token is not None and token != _newest_token(connection):
        raise Conflict("Another controller holds the lease.", "This one stands back.")


def _newest_token(connection: Connection) -> int | None:
    lease = delivery.lease
    query = select(lease.c.token).where(lease.c.name == CONTROLLER_LEASE)
    return connection.execute(query).scalar()
