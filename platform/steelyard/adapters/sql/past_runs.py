"""Windows of past training runs, one by one: how fast they worked, how long they started."""

from collections.abc import Collection

from sqlalchemy import Engine, select

from steelyard.adapters.sql.database import reading
from steelyard.adapters.sql.tables import measured
from steelyard.domain.estimate import PastWindow

ACTIVITIES = ("train", "compress", "distill_label", "evaluate")
"""What making a version is booked as."""
MOST_RUNS = 50
"""The newest so many runs are looked at; older ones ran older code."""


class PastRunStore:
    """What estimates are calibrated on."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def windows(self, run_ids: Collection[str], device_model: str) -> list[PastWindow]:
        """Training windows of these runs on one device model, by run, attempt and time."""
        u, s, r = measured.usage_window.c, measured.supply_window.c, measured.resource.c
        query = (
            select(u.run_id, u.attempt, r.device_count, u.window_start_us, u.window_end_us,
                   u["items"].label("done"), u.flop, s.cpu_us, s.energy_mj, s.energy_method)
            .join(measured.resource, r.resource_id == u.resource_id)
            .join(measured.supply_window, (s.resource_id == u.resource_id)
                  & (s.window_start_us == u.window_start_us))
            .where(u.run_id.in_(list(run_ids)[:MOST_RUNS]), u.phase == "training",
                   u.activity.in_(ACTIVITIES), r.device_model == device_model)
            .order_by(u.run_id, u.attempt, u.window_start_us)
        )  # fmt: skip
        with reading(self._engine) as connection:
            return [
                PastWindow(
                    row.run_id, row.attempt, row.device_count,
                    row.window_end_us - row.window_start_us, int(row.done), row.flop, row.cpu_us,
                    row.energy_mj, row.energy_method,
                )
                for row in connection.execute(query)
            ]  # fmt: skip
