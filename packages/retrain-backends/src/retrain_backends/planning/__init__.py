"""Planning: finds the tokens that plan rather than execute."""

from retrain_backends.planning.build import build_detector, planning_masks

__all__ = ["build_detector", "planning_masks"]
