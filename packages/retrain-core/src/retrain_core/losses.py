"""The policy-gradient loss in numpy: the reference that the trainers' losses are tested against.

Arithmetic is in float64 and gradients are written by hand: it is meant for tests and small checks.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from retrain_core.arrays import Floats, Mask


@dataclass(frozen=True)
class LossOptions:
    """The bounds on the ratio `rho = exp(new - old)`, and the sampler's temperature.

    Attributes:
      clip_eps: lower clip `1 - clip_eps`, and the upper one unless `clip_eps_high` is given; None:
        no clipping.
      clip_eps_high: upper clip `1 + clip_eps_high`.
      importance_cap: truncated importance sampling, for a sampler that is not the trainer:
        `min(rho, cap)` is a constant weight on the log-prob; None: off. Excludes clipping.
      temperature: of the sampler, > 0; only `policy_loss_from_logits` needs it.
    """

    clip_eps: float | None = None
    clip_eps_high: float | None = None
    importance_cap: float | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        for name in ("clip_eps", "clip_eps_high", "importance_cap", "temperature"):
            value: float | None = getattr(self, name)
            if value is not None and not value > 0.0:
                raise ValueError(f"{name} must be > 0, got {value}; None switches a bound off")
        if self.clip_eps_high is not None and self.clip_eps is None:
            raise ValueError("clip_eps_high needs clip_eps")
        if self.importance_cap is not None and self.clip_eps is not None:
            raise ValueError("importance_cap and clip_eps exclude each other: set one of them")


class PolicyLoss(NamedTuple):
    """A loss, its gradient, and the distance between the policy and its sampler.

    `gradient` is with respect to the log-probs (`policy_loss`) or the logits
    (`policy_loss_from_logits`) and has their shape. `num_tokens` is the N of the formula.
    `mean_abs_logprob_diff` is mean |new - old|, `kl_k3` the mean of `rho - 1 - ln rho` (an estimate
    of KL(old || new)), `ratio_p99` (linear interpolation) and `ratio_max` are of `rho`, all before
    any bound; `clip_fraction` is the share of tokens whose ratio a bound would change. Without a
    trained token the ratios are 1 and the rest is 0.
    """

    loss: float
    gradient: Floats
    num_tokens: int
    mean_abs_logprob_diff: float
    kl_k3: float
    ratio_p99: float
    ratio_max: float
    clip_fraction: float


def policy_loss(
    new_logprobs: npt.ArrayLike,
    old_logprobs: npt.ArrayLike,
    advantages: npt.ArrayLike,
    trained: npt.ArrayLike,
    options: LossOptions = LossOptions(),
) -> PolicyLoss:
    """Importance-weighted policy-gradient loss over the trained tokens of a batch.

        rho_j = exp(new_j - old_j),    loss = -(1 / N) sum_j rho_j A_j
        clipped:  rho_j A_j becomes min(rho_j A_j, clip(rho_j, 1 - e, 1 + e_high) A_j)
        capped:   the gradient of rho_j A_j becomes min(rho_j, cap) A_j

    Args:
      new_logprobs: log-prob of each token under the policy being trained, nats, any shape.
      old_logprobs: the same under the sampler, same shape.
      advantages: of each token, same shape.
      trained: True for the tokens that are trained; the others are ignored.
      options: bounds on the ratio.

    Returns:
      The loss, its gradient with respect to `new_logprobs`, and diagnostics; 0 without tokens.

    Source: PPO, arXiv 1707.06347, equation 7; separate clips: DAPO, arXiv 2503.14476; a capped
    constant weight: truncated importance sampling (Ionides 2008), CISPO in arXiv 2506.13585.
    """
    new, old = (np.asarray(array, dtype=np.float64) for array in (new_logprobs, old_logprobs))
    advantage = np.asarray(advantages, dtype=np.float64)
    trained_mask = _trained_mask(trained, new.shape)
    for name, array in (("old_logprobs", old), ("advantages", advantage)):
        if array.shape != new.shape:
            raise ValueError(f"{name} has shape {array.shape}, new_logprobs {new.shape}")
    difference = new[trained_mask] - old[trained_mask]
    count = difference.size
    gradient = np.zeros_like(new)
    if count == 0:
        return PolicyLoss(0.0, gradient, 1, 0.0, 0.0, 1.0, 1.0, 0.0)
    ratio = np.exp(difference)
    objective, slope, bounded = _objective(ratio, advantage[trained_mask], options)
    gradient[trained_mask] = -slope / count
    return PolicyLoss(
        loss=-float(objective.sum()) / count,
        gradient=gradient,
        num_tokens=count,
        mean_abs_logprob_diff=float(np.abs(difference).mean()),
        kl_k3=float((ratio - 1.0 - difference).mean()),
        ratio_p99=float(np.quantile(ratio, 0.99)),
        ratio_max=float(ratio.max()),
        clip_fraction=float(bounded.mean()),
    )


def _trained_mask(trained: npt.ArrayLike, shape: tuple[int, ...]) -> Mask:
    mask = np.asarray(trained)
    if mask.dtype != np.bool_ or mask.shape != shape:
        raise ValueError(
            f"trained must be a boolean mask of shape {shape}, got {mask.dtype} {mask.shape}"
        )
    return mask


def _objective(
    ratio: Floats, advantage: Floats, options: LossOptions
) -> tuple[Floats, Floats, Mask]:
    """Per token: objective, its slope in the log-prob, and whether a bound changes the ratio."""
    plain = ratio * advantage
    if options.importance_cap is not None:
        weighed = np.minimum(ratio, options.importance_cap) * advantage
        return weighed, weighed, ratio > options.importance_cap
    if options.clip_eps is None:
        return plain, plain, np.zeros(ratio.shape, dtype=np.bool_)
    high = options.clip_eps if options.clip_eps_high is None else options.clip_eps_high
    clipped_ratio = np.clip(ratio, 1.0 - options.clip_eps, 1.0 + high)
    clipped = clipped_ratio * advantage
    # The gradient is 0 where the clipped branch is the smaller one.
    slope = np.where(plain <= clipped, plain, 0.0)
    return np.minimum(plain, clipped), slope, clipped_ratio != ratio


def policy_loss_from_logits(
    logits_RTV: npt.ArrayLike,
    tokens_RT: npt.ArrayLike,
    old_logprobs_RT: npt.ArrayLike,
    advantages_RT: npt.ArrayLike,
    trained_RT: npt.ArrayLike,
    options: LossOptions = LossOptions(),
) -> PolicyLoss:
    """`policy_loss` of rows of tokens, from the logits of a language model.

        new_j = log-softmax(logits_{j-1} / T) at token j

    Args:
      logits_RTV: position j predicts token j + 1; rows padded on the right, shape [R, T, V].
      tokens_RT: token ids, shape [R, T]; padding may be any valid id.
      old_logprobs_RT: log-prob of each token where it was sampled, shape [R, T].
      advantages_RT: of each token, shape [R, T].
      trained_RT: True for the tokens that are trained, shape [R, T]; never the first of a row,
        which no logits predict.
      options: bounds on the ratio, and the sampler's temperature T.

    Returns:
      As `policy_loss`, with the gradient with respect to the logits, shape [R, T, V].
    """
    logits = np.asarray(logits_RTV, dtype=np.float64)
    tokens = np.asarray(tokens_RT, dtype=np.int64)
    if logits.ndim != 3 or logits.shape[:2] != tokens.shape:
        raise ValueError(f"logits {logits.shape} do not belong to tokens {tokens.shape}")
    trained = _trained_mask(trained_RT, tokens.shape)
    if trained[:, :1].any():
        raise ValueError("the first token of a row cannot be trained: no logits predict it")
    scaled = logits[:, :-1] / options.temperature
    scaled -= scaled.max(axis=2, keepdims=True)
    log_p = scaled - np.log(np.exp(scaled).sum(axis=2, keepdims=True))
    targets = tokens[:, 1:, np.newaxis]
    new = np.zeros(tokens.shape)
    new[:, 1:] = np.take_along_axis(log_p, targets, axis=2)[:, :, 0]
    loss = policy_loss(new, old_logprobs_RT, advantages_RT, trained, options)
    # d new / d logits = (one-hot(token) - p) / T, one position earlier.
    per_token = loss.gradient[:, 1:, np.newaxis] / options.temperature
    gradient = np.zeros_like(logits)
    predicting = gradient[:, :-1]  # a view: the positions that predict a token
    predicting[:] = -per_token * np.exp(log_p)
    at_target = np.take_along_axis(predicting, targets, axis=2) + per_token
    np.put_along_axis(predicting, targets, at_target, axis=2)
    return loss._replace(gradient=gradient)
