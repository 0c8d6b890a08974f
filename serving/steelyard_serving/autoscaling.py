"""How many replicas the load asks for, as Ray Serve asks a policy of ours.

Requests do not pass Ray Serve, so replicas tell it how many they have.
"""

from typing import Any

ONGOING = "ongoing"
"""Requests that a replica has, waiting ones included, averaged over Ray Serve's look-back."""


def replicas_for(context: Any) -> tuple[float, dict[str, Any]]:
    """As many as it takes for each to have the target; Ray Serve smooths, delays and bounds it.

    ``context`` is Ray Serve's ``AutoscalingContext``.
    """
    told = (context.aggregated_metrics or {}).get(ONGOING, {})
    wanted = sum(told.values()) / context.config.get_target_ongoing_requests()
    return wanted, {}
