"""The calculations that a scenario can name: figures by name, with their unit in the name.

Each is a function of keyword arguments; its signature says what a scenario file must give. They
put the rules of the domain together and hold none of their own.
"""

from collections.abc import Callable, Mapping

from steelyard.domain.calculations import bills, footprints, plans, sizes
from steelyard.domain.calculations.figure import Figure, Figures

CALCULATIONS: Mapping[str, Callable[..., Figures]] = {
    function.__name__: function
    for function in (
        bills.daily_bill, bills.token_bill, bills.list_price, bills.overtaking, bills.throughput,
        bills.shared_node, bills.pay_back, bills.weekly_forecast,
        footprints.device_energy, footprints.embodied_share, footprints.carbon_intensity,
        footprints.carbon_overtaking, footprints.teacher_to_students, footprints.version_upstream,
        plans.compute_optimal_model, plans.inference_optimal_model,
        sizes.size_change, sizes.weights_on_devices, sizes.training_memory, sizes.sparse_storage,
        sizes.perceptron,
    )
}  # fmt: skip
"""By the name that a scenario file uses."""

__all__ = ["CALCULATIONS", "Figure", "Figures"]
