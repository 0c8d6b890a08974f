"""Energy on this node: its counters, and who may book what they say."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from steelyard.settings import Settings

if TYPE_CHECKING:
    from steelyard.adapters.power.board import Board, EnergyAccount
    from steelyard.adapters.power.claim import NodeClaim
    from steelyard.adapters.power.processes import Node
    from steelyard.ports.power_meter import PowerMeter


def power_meter(settings: Settings) -> "PowerMeter":
    """Every energy counter of this node; its ``about`` says what there is."""
    from steelyard.adapters.power.board import monotonic_us
    from steelyard.adapters.power.joined import JoinedMeter
    from steelyard.adapters.power.nvml import open_meter
    from steelyard.adapters.power.rapl import RaplMeter

    return JoinedMeter([RaplMeter(Path(settings.powercap_root)), open_meter(monotonic_us)])


def metered_node(meter: "PowerMeter") -> "Node":
    """This node's counters and CPU time."""
    from steelyard.adapters.power.board import monotonic_us
    from steelyard.adapters.power.processes import Node

    return Node(meter, monotonic_us)


def power_board(settings: Settings, meter: "PowerMeter") -> "Board":
    """Where a meter tells processes what they used."""
    from steelyard.adapters.power.board import Board

    return Board(settings.power_dir, meter.about, int(settings.reading_interval_s * 1e6))


def node_claim(settings: Settings, meter: "PowerMeter") -> "NodeClaim":
    """The right to book what a meter reads; of all processes on the node one has it."""
    from steelyard.adapters.power.claim import NodeClaim, places

    return NodeClaim(places(meter.boundary, Path(settings.powercap_root)))


def energy_account(settings: Settings, pids: Iterable[int]) -> "EnergyAccount":
    """The metered energy of the processes with these ids on this node; unknown without a meter."""
    from steelyard.adapters.power.board import EnergyAccount

    return EnergyAccount(settings.power_dir, pids)


def energy_source(settings: Settings) -> str:
    """One line for people: which meter works for this platform, or why none does."""
    from steelyard.adapters.power.board import meter_state

    state = meter_state(settings.power_dir)
    if state is None:
        return f"not metered: {power_meter(settings).about}"
    if not state.metering:
        return f"not metered: another platform meters this node with {state.about}"
    return f"metered: {state.about}"
