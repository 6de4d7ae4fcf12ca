import pytest

from retrain_backends.errors import ConfigError
from retrain_campaign.statistics.declaration import (
    Contrast,
    DeclaredComparison,
    against_control,
    declaration_problems,
    evaluable,
)

CONDITIONS = ("grpo", "maxrl", "rloo")
CONTRASTS = against_control(CONDITIONS)


def test_the_first_condition_is_the_control_unless_one_is_named():
    assert [str(contrast) for contrast in CONTRASTS] == ["maxrl vs grpo", "rloo vs grpo"]
    named = against_control(CONDITIONS, "maxrl")
    assert [str(contrast) for contrast in named] == ["grpo vs maxrl", "rloo vs maxrl"]
    assert against_control(()) == ()


@pytest.mark.parametrize("alpha", [0.0, 0.5, -1.0, float("nan")])
def test_alpha_is_a_small_probability(alpha):
    with pytest.raises(ConfigError, match=r"^alpha is .*; it must be greater than 0 and less than"):
        DeclaredComparison(CONTRASTS, alpha=alpha)


@pytest.mark.parametrize(
    "declared",
    [
        DeclaredComparison(CONTRASTS),
        DeclaredComparison(CONTRASTS, margin=0.02, stop="futility"),
        DeclaredComparison(CONTRASTS, pooled=True),
        DeclaredComparison((Contrast("rloo", "maxrl"),), stop="efficacy"),
    ],
)
def test_what_can_be_evaluated_is_kept(declared):
    assert declaration_problems(declared, CONDITIONS) == ()
    assert evaluable(declared, CONDITIONS) == declared


@pytest.mark.parametrize(
    ("contrasts", "settings", "problem"),
    [
        (CONTRASTS, {"margin": 0.0}, "margin is 0: no data can show a difference of at most that"),
        (CONTRASTS, {"margin": -0.1}, "margin is -0.1: no data can show"),
        (CONTRASTS, {"margin": float("nan")}, "margin is nan: no data can show"),
        (CONTRASTS, {"stop": "futility"}, 'stop is "futility", and there is no margin to rule out'),
        (
            CONTRASTS,
            {"pooled": True, "stop": "efficacy"},
            "pooled needs all seeds of all conditions",
        ),
        (
            (Contrast("maxrll", "grpo"), *CONTRASTS),
            {},
            "contrast `maxrll vs grpo`: there is no condition `maxrll`; there are `grpo`, `maxrl`,",
        ),
        (
            (*CONTRASTS, Contrast("grpo", "grpo")),
            {},
            "contrast `grpo vs grpo` compares a condition with itself",
        ),
        ((*CONTRASTS, CONTRASTS[0]), {}, "contrast `maxrl vs grpo` is declared twice"),
    ],
)
def test_what_cannot_be_evaluated_is_a_sentence_and_the_rest_remains(contrasts, settings, problem):
    declared = DeclaredComparison(contrasts, **settings)
    (found,) = declaration_problems(declared, CONDITIONS)
    assert found.startswith(problem)
    remaining = evaluable(declared, CONDITIONS)
    assert remaining.contrasts == CONTRASTS
    assert declaration_problems(remaining, CONDITIONS) == ()


def test_one_condition_has_nothing_to_be_compared_with():
    declared = DeclaredComparison(against_control(["grpo"]))
    (found,) = declaration_problems(declared, ["grpo"])
    assert found.startswith("there is one condition, `grpo`, and a comparison needs two: only its")
