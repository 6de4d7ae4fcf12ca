"""The modes: one row for each advantage and each transform that a configuration can name.

Configuration, documentation and `retrain explain` read these rows. A row may name its function
as `module:name`, so that reading the table does not load numpy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from retrain_core.parameters import bind, parameters_of, summary_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from retrain_core.advantages import AdvantageFunction
    from retrain_core.arrays import Floats
    from retrain_core.chains import TransformFunction, TransformInput

_GTPO: Final = {"gtpo_beta": 0.1}


@dataclass(frozen=True)
class AdvantageSpec:
    """An advantage mode. Calling it calls its function, with the defaults of its parameters.

    Attributes:
      function: rewards of one group, shape [G], to advantages, shape [G]; or where to import it
        from, as `module:name`.
      parameters: keyword parameters that can be set, with their defaults, as far as they have
        any (`inspect.Parameter.empty`); None: the function takes whatever is set.
      summary: what it computes, in a few words.
      batch_advantage_norm: whether the token advantages are normalised unless otherwise set.
      non_negative: whether it is defined for rewards >= 0 only.
    """

    function: "AdvantageFunction | str"
    parameters: Mapping[str, object] | None = field(default_factory=dict[str, object])
    summary: str = ""
    batch_advantage_norm: bool = False
    non_negative: bool = False

    @classmethod
    def from_function(cls, function: "AdvantageFunction") -> "AdvantageSpec":
        """The row of a plain function: parameters of its signature, first line of its docstring."""
        return cls(function, parameters_of(function), summary_of(function))

    def __call__(self, rewards: "npt.ArrayLike", **params: object) -> "Floats":
        """The advantages of one group."""
        return bind(self.function, self.parameters, params)(rewards)


@dataclass(frozen=True)
class TransformSpec:
    """A transform mode. Calling it calls its function, with the defaults of its parameters.

    Attributes:
      function: `TransformInput` to token advantages, shape [t]; or where to import it from, as
        `module:name`.
      parameters: keyword parameters that can be set, with their defaults, as far as they have
        any (`inspect.Parameter.empty`); None: the function takes whatever is set.
      uses_sepa: whether it reads `TransformInput.sepa_lambda`; None: not known. The strength of
        SEPA is 0 in every step where it is False.
      by_group: whether the advantages of a group's tokens depend on that group alone, so that it
        can be trained on before the other groups of the step are known.
      summary: what a token gets of its completion's advantage, in a few words.
    """

    function: "TransformFunction | str"
    parameters: Mapping[str, object] | None = field(default_factory=dict[str, object])
    uses_sepa: bool | None = None
    summary: str = ""
    by_group: bool = False

    @classmethod
    def from_function(cls, function: "TransformFunction") -> "TransformSpec":
        """The row of a plain function: parameters of its signature, first line of its docstring."""
        return cls(function, parameters_of(function), summary=summary_of(function))

    def __call__(self, tokens: "TransformInput", **params: object) -> "Floats":
        """The advantages of all tokens."""
        return bind(self.function, self.parameters, params)(tokens)


ADVANTAGE_MODES: Final[Mapping[str, AdvantageSpec]] = {
    "grpo": AdvantageSpec(
        "retrain_core.advantages:grpo",
        summary="each reward minus the mean of its group",
    ),
    "grpo_std": AdvantageSpec(
        "retrain_core.advantages:grpo_std",
        summary="each reward minus the mean of its group, divided by the standard deviation",
    ),
    "rloo": AdvantageSpec(
        "retrain_core.advantages:rloo",
        summary="each reward minus the mean of the others in its group",
    ),
    "reinforce_pp": AdvantageSpec(
        "retrain_core.advantages:reinforce_pp",
        summary="each reward minus the mean of its group, then normalised over the batch",
        batch_advantage_norm=True,
    ),
    "maxrl": AdvantageSpec(
        "retrain_core.advantages:maxrl",
        {"eps": 1e-6},
        summary="each reward minus the mean of its group, divided by that mean",
        non_negative=True,
    ),
}

TRANSFORM_MODES: Final[Mapping[str, TransformSpec]] = {
    "none": TransformSpec(
        "retrain_core.chains:none",
        uses_sepa=False,
        by_group=True,
        summary="every token gets the advantage of its completion",
    ),
    "gtpo": TransformSpec(
        "retrain_core.chains:gtpo",
        _GTPO,
        uses_sepa=False,
        by_group=True,
        summary="uncertain tokens get more of the advantage",
    ),
    "entropy_mask": TransformSpec(
        "retrain_core.chains:entropy_mask",
        {**_GTPO, "entropy_mask_rho": 0.2},
        uses_sepa=False,
        by_group=True,
        summary="uncertain tokens get more of the advantage, and only the most uncertain of a "
        "group get any",
    ),
    "gtpo_hicra": TransformSpec(
        "retrain_core.chains:gtpo_hicra",
        {**_GTPO, "hicra_alpha": 0.2},
        uses_sepa=False,
        by_group=True,
        summary="uncertain tokens get more of the advantage, and planning tokens more still",
    ),
    "gtpo_sepa": TransformSpec(
        "retrain_core.chains:gtpo_sepa",
        _GTPO,
        uses_sepa=True,
        by_group=True,
        summary="uncertain tokens get more of the advantage, after the uncertainties of execution "
        "tokens are pooled",
    ),
    "gtpo_sepa_amp": TransformSpec(
        "retrain_core.chains:gtpo_sepa_amp",
        _GTPO,
        uses_sepa=True,
        by_group=True,
        summary="uncertain tokens get more of the advantage, after the uncertainties of execution "
        "tokens are driven apart",
    ),
    "gtpo_sepa_amp_c": TransformSpec(
        "retrain_core.chains:gtpo_sepa_amp_c",
        _GTPO,
        uses_sepa=True,
        by_group=True,
        summary="as `gtpo_sepa_amp`, with uncertainties floored at 0",
    ),
}
