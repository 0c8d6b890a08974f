"""What was observed of a rollout: closed intervals of each metric, kept once."""

from collections.abc import Mapping
from dataclasses import asdict

from sqlalchemy import Engine, func, select

from steelyard.adapters.sql.database import reading, writing
from steelyard.adapters.sql.insert import insert_new
from steelyard.adapters.sql.leases import fence
from steelyard.adapters.sql.tables import delivery
from steelyard.domain.analysis import MetricName
from steelyard.domain.e_process import Interval
from steelyard.domain.replay import Kept


class ObservationStore:
    """Observations in SQL. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def keep(
        self, rollout_id: str, metric: str, rows: Mapping[tuple[int, int], Interval], now_us: int,
        token: int | None = None,
    ) -> None:  # fmt: skip
        """Keep closed intervals, keyed by (generation, start); a second look changes nothing.

        Raises:
            Conflict: another controller took over.
        """
        values = [
            {"rollout_id": rollout_id, "metric": metric, "generation": generation,
             "interval_start_us": start, "recorded_us": now_us, **asdict(interval)}
            for (generation, start), interval in rows.items()
        ]  # fmt: skip
        keys = ("rollout_id", "metric", "generation", "interval_start_us")
        with writing(self._engine) as connection:
            fence(connection, token)
            insert_new(connection, delivery.observation, values, keys)

    def by_metric(
        self, rollout_id: str, known_us: int | None = None
    ) -> dict[MetricName, list[Interval]]:
        """All intervals of a rollout, by metric, in order; those that were known at a moment."""
        o = delivery.observation
        query = select(o).where(o.c.rollout_id == rollout_id).order_by(o.c.interval_start_us)
        if known_us is not None:
            query = query.where(o.c.recorded_us <= known_us)
        found: dict[MetricName, list[Interval]] = {}
        with reading(self._engine) as connection:
            for r in connection.execute(query):
                interval = Interval(r.n_canary, r.x_canary, r.n_stable, r.x_stable)
                found.setdefault(r.metric, []).append(interval)
        return found

    def in_order(self, rollout_id: str) -> list[Kept]:
        """Every interval of a rollout with when it became known, in that order."""
        o = delivery.observation
        query = (
            select(o)
            .where(o.c.rollout_id == rollout_id)
            .order_by(o.c.recorded_us, o.c.interval_start_us)
        )
        with reading(self._engine) as connection:
            return [
                Kept(r.metric, r.recorded_us,
                     Interval(r.n_canary, r.x_canary, r.n_stable, r.x_stable))
                for r in connection.execute(query)
            ]  # fmt: skip

    def newest_start(self, rollout_id: str, metric: str) -> int | None:
        """Start of the newest kept interval."""
        o = delivery.observation
        query = select(func.max(o.c.interval_start_us)).where(
            o.c.rollout_id == rollout_id, o.c.metric == metric
        )
        with reading(self._engine) as connection:
            return connection.execute(query).scalar()
