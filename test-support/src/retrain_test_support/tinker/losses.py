"""The Tinker API's losses and their slopes, each a sum over the positions of a sequence.

Written from the service's documentation, apart from `retrain_core.losses`, so that a mistake on
either side shows when a backend is tested against the server.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
LossInputs = dict[str, Floats]

# The service's bounds on the ratio, as ratios.
_LOW, _HIGH = 0.8, 1.2


class Loss(NamedTuple):
    """A loss and its derivative by the log-prob of every target, shape [T]."""

    value: float
    slope_T: Floats


def loss(
    name: str, logprobs_T: Floats, inputs: Mapping[str, Floats], config: Mapping[str, float]
) -> Loss:
    """One sequence's loss.

        cross_entropy:        -sum(w * new)
        importance_sampling:  -sum(rho * A)                              rho = exp(new - old)
        ppo:                  -sum(min(rho * A, clip(rho, low, high) * A))
        cispo:                -sum(constant(clip(rho, low, high)) * new * A)

    Args:
      name: one of the names above.
      logprobs_T: `new`, the log-probs of the targets, shape [T].
      inputs: `weights` (w), or `logprobs` (old) and `advantages` (A), each of shape [T].
      config: `clip_low_threshold` and `clip_high_threshold` of ppo and cispo, ratios (0.8, 1.2).

    Raises:
      ValueError: an unknown loss, or inputs or settings that are not this loss's.
    """
    if name not in _LOSSES:
        raise ValueError(f"unknown loss_fn `{name}`: one of {', '.join(_LOSSES)}")
    row = _LOSSES[name]
    if set(inputs) != row.inputs:
        raise ValueError(f"{name} takes {sorted(row.inputs)}, got {sorted(inputs)}")
    if set(config) - row.settings:
        raise ValueError(f"{name} has the settings {sorted(row.settings)}, got {sorted(config)}")
    return row.function(logprobs_T, inputs, config)


def _cross_entropy(
    new_T: Floats, inputs: Mapping[str, Floats], _config: Mapping[str, float]
) -> Loss:
    weights_T = inputs["weights"]
    return Loss(float(-(weights_T * new_T).sum()), -weights_T)


def _importance_sampling(
    new_T: Floats, inputs: Mapping[str, Floats], _config: Mapping[str, float]
) -> Loss:
    weighted_T = np.exp(new_T - inputs["logprobs"]) * inputs["advantages"]
    return Loss(float(-weighted_T.sum()), -weighted_T)


def _ppo(new_T: Floats, inputs: Mapping[str, Floats], config: Mapping[str, float]) -> Loss:
    ratio_T, clipped_T = _ratios(new_T, inputs, config)
    plain_T = ratio_T * inputs["advantages"]
    bounded_T = clipped_T * inputs["advantages"]
    slope_T = np.where(plain_T <= bounded_T, -plain_T, 0.0)
    return Loss(float(-np.minimum(plain_T, bounded_T).sum()), slope_T)


def _cispo(new_T: Floats, inputs: Mapping[str, Floats], config: Mapping[str, float]) -> Loss:
    _, clipped_T = _ratios(new_T, inputs, config)
    slope_T = -clipped_T * inputs["advantages"]
    return Loss(float((slope_T * new_T).sum()), slope_T)


def _ratios(
    new_T: Floats, inputs: Mapping[str, Floats], config: Mapping[str, float]
) -> tuple[Floats, Floats]:
    ratio_T = np.exp(new_T - inputs["logprobs"])
    low = config.get("clip_low_threshold", _LOW)
    return ratio_T, np.clip(ratio_T, low, config.get("clip_high_threshold", _HIGH))


class _Row(NamedTuple):
    function: Callable[[Floats, Mapping[str, Floats], Mapping[str, float]], Loss]
    inputs: frozenset[str]
    settings: frozenset[str]


_POLICY = frozenset({"logprobs", "advantages"})
_CLIP = frozenset({"clip_low_threshold", "clip_high_threshold"})
_LOSSES = {
    "cross_entropy": _Row(_cross_entropy, frozenset({"weights"}), frozenset()),
    "importance_sampling": _Row(_importance_sampling, _POLICY, frozenset()),
    "ppo": _Row(_ppo, _POLICY, _CLIP),
    "cispo": _Row(_cispo, _POLICY, _CLIP),
}
