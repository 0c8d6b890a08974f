"""Steelyard's control plane: models, versions, rollouts and the ledger."""

__version__ = "0.1.0"
