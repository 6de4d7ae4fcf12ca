"""Post-processing of the token advantages of a step: normalisation, then a cap."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from retrain_core.arrays import Floats, Mask, as_floats, as_mask

# Below this standard deviation the advantages are equal, and dividing would amplify rounding noise.
_STD_FLOOR: Final = 1e-8


class Normalised(NamedTuple):
    """Advantages after `batch_advantage_norm`; mean and standard deviation are those before."""

    values: Floats
    num_tokens: int
    mean: float
    std: float


class Capped(NamedTuple):
    """Advantages after `advantage_cap`, and share and mean magnitude of the clipped tokens."""

    values: Floats
    fraction: float
    mean_magnitude: float


def _mask_or_all(mask: npt.ArrayLike | None, size: int) -> Mask:
    return np.ones(size, dtype=np.bool_) if mask is None else as_mask(mask, size, "mask")


def batch_advantage_norm(
    advantages: npt.ArrayLike, mask: npt.ArrayLike | None = None, eps: float = 1e-8
) -> Normalised:
    """Normalise the advantages of a step to mean 0 and standard deviation 1.

        a <- (a - mean) / (std + eps),    std < 1e-8: a <- a - mean

    Args:
      advantages: token advantages of the step, shape [t].
      mask: True for the tokens to normalise, those of groups that are not uniform, shape [t]; the
        others keep their value. None: all.
      eps: guards the division.

    Returns:
      New advantages, and count, mean and population standard deviation of the old; 0, 0, 0
      without tokens.

    Source: REINFORCE++, arXiv 2501.03262.
    """
    advantages_t = as_floats(advantages, "advantages")
    counted_t = _mask_or_all(mask, advantages_t.size)
    kept = advantages_t[counted_t]
    if kept.size == 0:
        return Normalised(advantages_t.copy(), 0, 0.0, 0.0)
    mean, std = float(kept.mean()), float(kept.std())
    kept -= mean
    if std >= _STD_FLOOR:
        kept /= std + eps
    values_t = advantages_t.copy()
    values_t[counted_t] = kept
    return Normalised(values_t, kept.size, mean, std)


def advantage_cap(
    advantages: npt.ArrayLike, cap: float, mask: npt.ArrayLike | None = None
) -> Capped:
    """Clip advantages to `[-cap, cap]`.

    Args:
      advantages: token advantages, shape [t].
      cap: largest magnitude, > 0.
      mask: True for the tokens over which the share is reported, shape [t]; None: all.

    Returns:
      Clipped advantages, the share of tokens that were beyond the cap, and their mean magnitude
      before clipping (0 if there are none).
    """
    if not cap > 0.0:
        raise ValueError(f"advantage_cap must be > 0, got {cap}; leave it out for no cap")
    advantages_t = as_floats(advantages, "advantages")
    magnitudes = np.abs(advantages_t[_mask_or_all(mask, advantages_t.size)])
    beyond = magnitudes[magnitudes > cap]
    return Capped(
        np.clip(advantages_t, -cap, cap),
        beyond.size / max(magnitudes.size, 1),
        float(beyond.mean()) if beyond.size else 0.0,
    )
