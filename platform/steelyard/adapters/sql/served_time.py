"""What a model's replicas reserved and used lately."""

from sqlalchemy import Engine, func, select

from steelyard.adapters.sql.database import reading
from steelyard.adapters.sql.tables import measured
from steelyard.domain.rollout_spend import Served


class ServedTimeStore:
    """Sums over metered windows of replicas."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def of(self, model: str, device_model: str, since_us: int) -> Served:
        """What the model's replicas on such devices did in the windows that began since then."""
        u, s, r = measured.usage_window.c, measured.supply_window.c, measured.resource.c
        query = (
            select(
                func.count(), func.sum(s.reserved_us), func.sum(u.busy_ns), func.sum(u.requests),
                func.count(s.cpu_us), func.sum(s.cpu_us), func.count(s.energy_mj),
                func.sum(s.energy_mj), func.max(s.energy_method),
            )
            .join(measured.supply_window, (s.resource_id == u.resource_id)
                  & (s.window_start_us == u.window_start_us))
            .join(measured.resource, r.resource_id == u.resource_id)
            .where(u.model == model, u.phase == "inference", u.activity == "serve",
                   u.window_start_us >= since_us, r.device_model == device_model)
        )  # fmt: skip
        with reading(self._engine) as connection:
            windows, reserved, busy, requests, timed, cpu, metered, energy, method = (
                connection.execute(query).one()
            )
        if not windows:
            return Served()
        return Served(
            int(reserved), int(busy) // 1_000, int(requests),
            int(cpu) if timed == windows else None, int(energy) if metered == windows else None,
            method if metered == windows else "unknown",
        )  # fmt: skip
