"""Determines the kind of an engine's log-probs by comparing them with those of the trainer."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np

from retrain_backends.types import Floats

LogprobKind: TypeAlias = Literal["tempered", "raw", "truncated", "unexplained", "undecided"]

COLD, HOT = 0.2, 1.0
FEWEST = 4  # with fewer tokens nothing is concluded
# Distances of log-probs in nats. Rounding in bfloat16 is one or two hundredths at temperature 1,
# and grows as logits are divided by a lower one.
_SAME = {HOT: 0.05, COLD: 0.25}
_CUT = 0.01  # mean excess over the trainer due to truncation; rounding causes less
_ONE_SIDED = 0.9  # share of the distance that is excess; rounding goes both ways
_UNMOVED = 1 / 3  # share of the surprisal of likely tokens; tempering shifts log-probs by more
_AS_SURPRISING = 0.75  # share of the surprisal at 1; tokens of a low temperature stay below
_IMPLAUSIBLE = 1.0  # mean excess times temperature from which tokens are not the trainer's

# Names of the comparisons in `metadata.json`.
DISTANCES = {
    "hot": "at_temperature_1",
    "cold": f"at_temperature_{COLD}",
    "raw": f"raw_at_temperature_{COLD}",
}

DEFECTS: Mapping[str, str] = {
    "raw_logprobs": "the engine returns log-probs at temperature 1 whatever it samples at; "
    "configure it to return those of the distribution that it samples from",
    "truncated_logprobs": "the engine samples from a truncated distribution (top-k, top-p, min-p); "
    "switch the truncation off",
    "misaligned": "the engine returns another number of log-probs than of tokens",
    "unknown_ids": "the engine returns token ids beyond the vocabulary of model.model: it serves "
    "another model",
    "wrong_ids": "the engine's tokens are implausible to the trainer: its log-probs belong to "
    "other tokens, or another model sampled them",
    "other_policy": "the engine's log-probs differ a little from the trainer's at every "
    "temperature: its weights, adapter or precision differ",
    "no_round_trip": "the engine's tokens decode and encode to another text, and its log-probs do "
    "not confirm them; compare the tokenizer of the engine with that of model.model",
    "inactive_adapter": "training has changed the adapter, but the engine's samples have not "
    "changed: it samples from other weights",
}
_CONSEQUENCES: Mapping[LogprobKind, str] = {
    "raw": "the engine returns log-probs at temperature 1, as the trainer computes them: ratios "
    "start at 1, but the completions are sampled at temperature {} and so are not from the policy "
    "that is trained",
    "tempered": "the engine returns log-probs at temperature {}, and the trainer computes them at "
    "1: the ratio corrects for the temperature token by token, so it is not 1 even where sampler "
    "and trainer agree; clipping and caps act on it, and [health] does not check the difference",
}
_UNKNOWN_CONSEQUENCE = (
    "the completions are sampled at temperature {} and trained as if at 1, and it is unknown which "
    "of the two temperatures the engine's log-probs have"
)
_DEFECT_OF_KIND = {"raw": "raw_logprobs", "truncated": "truncated_logprobs"}


def classify(excess: Mapping[str, Floats]) -> tuple[LogprobKind, str | None]:
    """The kind of log-probs and the defect, if any, from the differences engine - trainer.

    `hot`: both at temperature 1; `cold`: both at the low one; `raw`: the engine's of the low one
    against the trainer's at 1.
    """
    hot, cold, raw = (distance(excess[name]) for name in ("hot", "cold", "raw"))
    above = {name: float(part.mean()) if part.size else 0.0 for name, part in excess.items()}
    few = min(part.size for part in excess.values()) < FEWEST
    if few or max(hot, cold, raw) <= _SAME[HOT]:
        kind = "undecided"
    elif above["cold"] <= above["hot"] > max(_CUT, _ONE_SIDED * hot):
        kind = "truncated"
    elif hot <= _SAME[HOT] and cold <= min(raw, _SAME[COLD]):
        kind = "tempered"
    elif hot <= _SAME[HOT] and raw <= min(cold, _SAME[HOT]):
        kind = "raw"
    else:
        kind = "unexplained"
    if kind == "unexplained":
        implausible = max(above["hot"], COLD * above["cold"]) >= _IMPLAUSIBLE
        return kind, "wrong_ids" if implausible else "other_policy"
    return kind, _DEFECT_OF_KIND.get(kind)


def classify_at_1(
    excess: Mapping[str, Floats], surprisal: Mapping[str, float]
) -> tuple[LogprobKind, str | None]:
    """As `classify`, for a trainer that computes at 1 only; raw and tempered are no defects then.

    A tempered log-prob is `logp / T - log sum p^(1/T)`: above `logp` for the likely tokens that a
    low temperature samples. Truncation is visible at temperature 1: every token is above the
    trainer's. Tokens of the same model have a lower surprisal at a low temperature than at 1.

    Args:
      excess: `hot` and `raw`, as for `classify`.
      surprisal: the trainer's at 1, of the tokens sampled `hot` and `cold`, mean in nats.
    """
    few = min(part.size for part in excess.values()) < FEWEST
    hot, raw = distance(excess["hot"]), distance(excess["raw"])
    if few or max(hot, raw, surprisal["cold"]) <= _SAME[HOT]:
        return "undecided", None
    above, least = float(excess["hot"].mean()), float(excess["hot"].min())
    if max(_CUT, _ONE_SIDED * hot) < above < _IMPLAUSIBLE and least > -_SAME[COLD]:
        return "truncated", "truncated_logprobs"
    surprising = surprisal["cold"] >= _AS_SURPRISING * surprisal["hot"]
    if hot > _SAME[HOT] and (above >= _IMPLAUSIBLE or surprising):
        return "unexplained", "wrong_ids"
    kind = _raw_or_tempered(excess["raw"], surprisal["cold"]) if hot <= _SAME[HOT] else None
    return (kind, None) if kind else ("unexplained", "other_policy")


def _raw_or_tempered(raw: Floats, surprisal: float) -> LogprobKind | None:
    """Which of the two, judged at the low temperature alone; None for neither.

    The mean excess of tempered log-probs over those at 1 estimates KL(p_T || p_1), which is >= 0.
    """
    if distance(raw) <= min(_SAME[HOT], _UNMOVED * surprisal):
        return "raw"
    if distance(raw) > _SAME[HOT] and raw.mean() > 0:
        return "tempered"
    return "undecided" if raw.mean() > -_SAME[COLD] else None


def consequence(kind: LogprobKind, temperature: float) -> str:
    """The consequence for a trainer at temperature 1 of samples at another temperature.

    The ratio is `p_1 / p_T` for tempered log-probs, the importance weight of the token, and 1 for
    raw ones although the token was drawn from `p_T`. Empty at temperature 1, and at 0 (greedy).
    """
    if temperature in (0.0, 1.0):
        return ""
    return _CONSEQUENCES.get(kind, _UNKNOWN_CONSEQUENCE).format(f"{temperature:g}")


def distance(excess: Floats) -> float:
    """Mean distance, nats; 0 without tokens."""
    return float(np.abs(excess).mean()) if excess.size else 0.0
