"""What an engine's log-probs are: told from what the trainer says of the same tokens."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np

from retrain_backends.types import Floats

LogprobKind: TypeAlias = Literal["tempered", "raw", "truncated", "unexplained", "undecided"]

COLD, HOT = 0.2, 1.0
FEWEST = 4  # with fewer tokens than these nothing is concluded
# Distances of log-probs in nats. Rounding in bfloat16 is one or two hundredths at temperature 1,
# and grows as logits are divided by a lower one.
_SAME = {HOT: 0.05, COLD: 0.25}
_CUT = 0.01  # mean excess over the trainer that truncation makes and rounding does not
_ONE_SIDED = 0.9  # share of the distance that is excess: rounding falls to both sides
_UNMOVED = 1 / 3  # of the surprisal of likely tokens: tempering moves their log-probs by more
_AS_SURPRISING = 0.75  # of the surprisal at 1: what tokens of a low temperature stay below
_IMPLAUSIBLE = 1.0  # mean excess times temperature at which the tokens are not the trainer's

# What is compared, as `metadata.json` names it.
DISTANCES = {
    "hot": "at_temperature_1",
    "cold": f"at_temperature_{COLD}",
    "raw": f"raw_at_temperature_{COLD}",
}

DEFECTS: Mapping[str, str] = {
    "raw_logprobs": "the engine returns log-probs at temperature 1 whatever it samples at; have it "
    "return those of the distribution that it samples from",
    "truncated_logprobs": "the engine samples from a truncated distribution (top-k, top-p, min-p); "
    "switch the truncation off",
    "wrong_ids": "the trainer finds the engine's tokens implausible: they are not the tokens that "
    "its log-probs belong to, or another model sampled them",
    "other_policy": "the engine's log-probs are not quite the trainer's at any temperature: its "
    "weights, adapter or precision are others",
    "no_round_trip": "the engine's tokens do not come back from the tokenizer as the same text; "
    "compare the tokenizer of the engine with that of model.model",
    "inactive_adapter": "training has changed the adapter, but not what the engine samples; it "
    "samples from other weights",
}
_CONSEQUENCES: Mapping[LogprobKind, str] = {
    "raw": "the engine returns log-probs at temperature 1, as the trainer computes them: ratios "
    "start at 1, but the completions are sampled at temperature {} and so are not from the policy "
    "that is trained",
    "tempered": "the engine returns log-probs at temperature {}, and the trainer computes them at "
    "1: the ratio corrects for the temperature token by token, so it is not 1 even where sampler "
    "and trainer agree; clipping and caps act on that, and [health] leaves their difference alone",
}
_UNKNOWN_CONSEQUENCE = (
    "the completions are sampled at temperature {} and trained as if at 1, and it is not known at "
    "which of the two the engine's log-probs are"
)
_DEFECT_OF_KIND = {"raw": "raw_logprobs", "truncated": "truncated_logprobs"}


def explain(excess: Mapping[str, Floats]) -> tuple[LogprobKind, str | None]:
    """The kind of log-probs, and the defect if that is one, from engine minus trainer.

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


def explain_at_1(
    excess: Mapping[str, Floats], surprisal: Mapping[str, float]
) -> tuple[LogprobKind, str | None]:
    """The same with a trainer that knows temperature 1 only; raw and tempered are no defects then.

    A tempered log-prob is `logp / T - log sum p^(1/T)`: above `logp` for the likely tokens that a
    low temperature samples. Truncation shows at temperature 1 by itself: every token is above the
    trainer's. Tokens of a low temperature surprise less than those of 1, if they are the trainer's.

    Args:
      excess: `hot` and `raw`, as for `explain`.
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
    """Which of the two, from the low temperature alone; None for neither.

    The mean excess of tempered log-probs over those at 1 estimates KL(p_T || p_1), which is >= 0.
    """
    if distance(raw) <= min(_SAME[HOT], _UNMOVED * surprisal):
        return "raw"
    if distance(raw) > _SAME[HOT] and raw.mean() > 0:
        return "tempered"
    return "undecided" if raw.mean() > -_SAME[COLD] else None


def consequence(kind: LogprobKind, temperature: float) -> str:
    """What log-probs of this kind mean for training at temperature 1 on samples at another one.

    `rho = p_1 / p_T` for tempered ones, the importance weight of the token; 1 for raw ones, though
    the token was drawn from `p_T`. Empty at temperature 1, and at 0, where all samples are one.
    """
    if temperature in (0.0, 1.0):
        return ""
    return _CONSEQUENCES.get(kind, _UNKNOWN_CONSEQUENCE).format(f"{temperature:g}")


def distance(excess: Floats) -> float:
    """Mean distance, nats; 0 without tokens."""
    return float(np.abs(excess).mean()) if excess.size else 0.0
