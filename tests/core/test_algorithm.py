from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrain_core import (
    ADVANTAGE_MODES,
    TRANSFORM_MODES,
    Algorithm,
    CompletionBatch,
    EntropyStats,
    TransformInput,
    entropy_stats,
    offsets_from_lengths,
    sepa_amp,
    sepa_amp_clamped,
    sepa_pool,
    spread,
    uncertainty,
)


def flat(rows):
    return [value for row in rows for value in row]


def golden_batch(inputs, numbers):
    lengths = [len(row) for row in inputs["logprobs"]]
    # The vectors sample tokens of probability 0; a batch refuses them, and 50 nats is their cap.
    logprobs = np.maximum(numbers(flat(inputs["logprobs"])), -50.0)
    return CompletionBatch(
        inputs["rewards"],
        [0, len(lengths)],
        offsets_from_lengths(lengths),
        logprobs,
        flat(inputs["entropies"]) if "entropies" in inputs else None,
        numbers(flat(inputs["planning_masks"])) == 1,
    )


def golden_algorithm(params):
    transform_params = params["transform_params"]
    return Algorithm.from_names(
        params["advantage_mode"],
        params["transform_mode"],
        transform_params.get("uncertainty_kind", "surprisal"),
        gtpo_beta=params["gtpo_beta"],
        hicra_alpha=params["hicra_alpha"],
        entropy_mask_rho=transform_params.get("surprisal_mask_rho", 0.2),
        batch_advantage_norm=False,  # the vectors are of one group, before that step
    )


SEPA = {
    "gtpo_sepa": sepa_pool,
    "gtpo_sepa_amp": sepa_amp,
    "gtpo_sepa_amp_c": sepa_amp_clamped,
}


def after_sepa(params, batch):
    """Statistics of the uncertainty that weighs the tokens; the vectors have them, runs do not."""
    mode = params["transform_mode"]
    if mode == "none":
        return EntropyStats()
    kind = params["transform_params"].get("uncertainty_kind", "surprisal")
    h = uncertainty(kind, batch.logprobs, batch.entropy)
    if mode in SEPA:
        SEPA[mode](h, batch.planning, params["sepa_lambda"], batch.token_offsets, out=h)
    return entropy_stats(h, batch.planning)


@pytest.mark.golden("pipeline", "pipeline")
def test_golden_pipeline(case, check, numbers):
    batch = golden_batch(case["inputs"], numbers)
    result = golden_algorithm(case["params"])(batch, case["params"]["sepa_lambda"])
    after = after_sepa(case["params"], batch)
    stats = result.entropy_stats._asdict()
    stats |= {f"post_{name}": value for name, value in after._asdict().items()}
    values = [list(part) for part in np.split(result.values, batch.token_offsets[1:-1])]
    check(case, {"token_advantages": values if batch.rewards.size else [], "stats": stats})


def random_batch(seed, groups=3, *, binary=True, **fields):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 5, groups)
    lengths = rng.integers(0, 6, sizes.sum())
    tokens = lengths.sum()
    rewards = rng.integers(0, 2, sizes.sum()) if binary else rng.random(sizes.sum())
    return CompletionBatch(
        rewards,
        offsets_from_lengths(sizes),
        offsets_from_lengths(lengths),
        -rng.exponential(size=tokens),
        rng.exponential(size=tokens),
        rng.random(tokens) < 0.3,
        **fields,
    )


def joined(first, second):
    fields = ("rewards", "logprobs", "entropy", "planning")
    flat = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in fields}
    offsets = {
        name: np.concatenate([getattr(first, name), getattr(second, name)[1:] + size])
        for name, size in [
            ("group_offsets", first.rewards.size),
            ("token_offsets", first.logprobs.size),
        ]
    }
    return CompletionBatch(**flat, **offsets)


@pytest.mark.parametrize("transform", sorted(TRANSFORM_MODES))
@pytest.mark.parametrize("advantage", sorted(ADVANTAGE_MODES))
@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_concatenating_groups_changes_nothing(advantage, transform, seed):
    algorithm = Algorithm.from_names(advantage, transform, batch_advantage_norm=False)
    first, second = random_batch(seed), random_batch(seed + 1, binary=False)
    both = algorithm(joined(first, second), 0.6)
    parts = [algorithm(batch, 0.6) for batch in (first, second)]
    for name in ("values", "episode", "informative"):
        expected = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_allclose(getattr(both, name), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("transform", sorted(TRANSFORM_MODES))
@pytest.mark.parametrize("advantage", sorted(ADVANTAGE_MODES))
@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), place=st.integers(0, 3))
def test_an_empty_group_anywhere_changes_nothing(advantage, transform, seed, place):
    algorithm, batch = Algorithm.from_names(advantage, transform), random_batch(seed)
    offsets = np.insert(batch.group_offsets, place, batch.group_offsets[place])
    without, with_it = algorithm(batch, 0.6), algorithm(replace(batch, group_offsets=offsets), 0.6)
    np.testing.assert_array_equal(np.delete(with_it.informative, place), without.informative)
    assert not with_it.informative[place]
    np.testing.assert_array_equal(with_it.values, without.values)
    np.testing.assert_array_equal(with_it.episode, without.episode)
    assert (with_it.entropy_stats, with_it.metrics) == (without.entropy_stats, without.metrics)


@pytest.mark.parametrize("transform", sorted(TRANSFORM_MODES))
@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_permuting_completions_within_a_group_permutes_the_advantages(transform, seed):
    algorithm = Algorithm.from_names("maxrl", transform, advantage_cap=2.0)
    batch = random_batch(seed, groups=1)
    order = np.random.default_rng(seed).permutation(batch.rewards.size)
    token_order = np.concatenate(
        [np.arange(batch.token_offsets[i], batch.token_offsets[i + 1]) for i in order]
        + [np.array([], dtype=int)]
    ).astype(int)
    permuted = CompletionBatch(
        batch.rewards[order],
        batch.group_offsets,
        offsets_from_lengths(batch.lengths[order]),
        batch.logprobs[token_order],
        planning=batch.planning[token_order],
    )
    values = algorithm(batch, 0.7).values[token_order]
    np.testing.assert_allclose(algorithm(permuted, 0.7).values, values, rtol=1e-9, atol=1e-12)


def one_group(rewards, lengths, **fields):
    offsets = offsets_from_lengths(lengths)
    logprobs = -np.arange(1.0, offsets[-1] + 1)
    return CompletionBatch(rewards, [0, len(rewards)], offsets, logprobs, **fields)


def test_tokens_that_are_not_trainable_get_nothing_and_count_for_nothing():
    trainable = np.array([True, False, True, True, False])
    planning = np.array([False, True, True, False, False])
    batch = one_group([1.0, 0.0], [3, 2], planning=planning, trainable=trainable)
    result = Algorithm.from_names("grpo", "gtpo_sepa")(batch, 0.5)
    alone = Algorithm.from_names("grpo", "gtpo_sepa")(batch.sampled_tokens(), 0.5)
    np.testing.assert_array_equal(result.values[trainable], alone.values)
    np.testing.assert_array_equal(result.values[~trainable], [0.0, 0.0])
    assert result.entropy_stats == alone.entropy_stats
    assert (result.entropy_stats.exec_count, result.entropy_stats.plan_count) == (2, 1)


def test_reinforce_pp_normalises_over_informative_groups_only():
    batch = CompletionBatch(
        [1.0, 0.0, 1.0, 1.0], [0, 2, 4], [0, 2, 3, 4, 6], [-0.1, -0.2, -0.3, -0.4, -0.5, -0.6]
    )
    result = Algorithm.from_names("reinforce_pp", "none")(batch)
    informative = result.values[:3]
    assert informative.mean() == pytest.approx(0.0, abs=1e-12)
    assert informative.std() == pytest.approx(1.0, rel=1e-6)
    np.testing.assert_array_equal(result.values[3:], [0.0, 0.0, 0.0])
    np.testing.assert_array_equal(result.informative, [True, False])
    assert result.metrics["batch_adv_count"] == 3


def test_norm_comes_before_the_cap():
    batch = one_group([9.0, 0.0, 0.0, 0.0, 0.0], [1] * 5)
    result = Algorithm.from_names("grpo", "none", batch_advantage_norm=True, advantage_cap=1.5)(
        batch
    )
    np.testing.assert_allclose(result.values, [1.5, -0.5, -0.5, -0.5, -0.5], rtol=1e-6)
    assert result.metrics["adv_cap_fraction"] == 0.2
    assert result.metrics["adv_cap_mean_magnitude"] == pytest.approx(2.0)


def test_reinforce_pp_without_the_norm_is_grpo():
    batch = random_batch(5)
    plain = Algorithm.from_names("reinforce_pp", "gtpo", batch_advantage_norm=False)(batch)
    np.testing.assert_array_equal(plain.values, Algorithm.from_names("grpo", "gtpo")(batch).values)
    assert plain.metrics == {}


def test_parameters_reach_their_functions():
    batch = one_group([1.0, 0.0], [2, 2], planning=[True, False, False, False])
    zero = Algorithm.from_names("maxrl", "gtpo_hicra", gtpo_beta=0.0, hicra_alpha=0.0, eps=0.5)
    np.testing.assert_allclose(zero(batch).values, [0.0, 0.0, 0.0, 0.0])
    raised = Algorithm.from_names("grpo", "gtpo_hicra", gtpo_beta=0.0, hicra_alpha=0.5)
    np.testing.assert_allclose(raised(batch).values, [0.75, 0.5, -0.5, -0.5])
    masked = Algorithm.from_names("grpo", "entropy_mask", gtpo_beta=0.0, entropy_mask_rho=0.25)
    np.testing.assert_allclose(masked(batch).values, [0.0, 0.0, 0.0, -0.5])


def median_advantage(rewards, scale=1.0):
    return scale * (rewards - np.median(rewards))


def by_position(tokens: TransformInput, *, decay: float = 1.0) -> np.ndarray:
    offsets = tokens.batch.token_offsets
    position = np.arange(offsets[-1]) - spread(offsets[:-1].astype(float), offsets)
    return spread(tokens.advantages, offsets) * decay**position


def test_plug_in_functions_and_their_parameters():
    batch = one_group([1.0, 0.0, 0.0], [1, 3, 2])
    algorithm = Algorithm.from_names(median_advantage, by_position, scale=2.0, decay=0.5)
    np.testing.assert_allclose(algorithm(batch).values, [2.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    mixed = Algorithm.from_names("grpo", by_position, decay=0.5, gtpo_beta=0.3)
    third = 1 / 3
    expected = [2 * third, -third, -third / 2, -third / 4, -third, -third / 2]
    np.testing.assert_allclose(mixed(batch).values, expected)


def test_a_plug_in_may_take_any_parameter():
    def advantage(rewards, **params):
        return rewards * params["gain"]

    batch = one_group([1.0, 0.0], [1, 1])
    np.testing.assert_allclose(
        Algorithm.from_names(advantage, "none", gain=3)(batch).values, [3, 0]
    )


@pytest.mark.parametrize(
    ("advantage", "transform", "message"),
    [
        (lambda r: r[:1], "none", "the advantage function returned shape .1,. for 2 completions"),
        (lambda r: r / 0.0, "none", "the advantage function returned a number that is not finite"),
        ("grpo", lambda t: t.advantages, "the transform returned shape .2,. for 4"),
        ("grpo", lambda t: t.uncertainty * np.nan, "the transform returned a number"),
    ],
)
def test_a_broken_plug_in_is_named(advantage, transform, message):
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=message):
        Algorithm.from_names(advantage, transform)(one_group([1.0, 0.0], [2, 2]))


@pytest.mark.parametrize(
    ("names", "params", "message"),
    [
        (("maxlr", "none"), {}, "unknown advantage_mode `maxlr`: use one of grpo, .*`maxrl`"),
        (("grpo", "gtpo_sep"), {}, "unknown transform_mode .*did you mean `gtpo_sepa`"),
        (("grpo", "none", "surprise"), {}, "unknown uncertainty_kind `surprise`"),
        (("grpo", "none"), {"gtpo_bta": 1.0}, "unknown parameter `gtpo_bta`.*`gtpo_beta`"),
        (("grpo", "none"), {"batch_norm": True}, "use one of advantage_cap, batch_advantage_norm"),
        (("grpo", "gtpo"), {"gtpo_beta": "0.1"}, "gtpo_beta must be a finite number, got `0.1`"),
        (("grpo", "gtpo"), {"gtpo_beta": float("nan")}, "gtpo_beta must be a finite number"),
        (("grpo", "none"), {"batch_advantage_norm": 1}, "batch_advantage_norm must be true or"),
        (("grpo", "none"), {"advantage_cap": -1.0}, "advantage_cap must be > 0 or None"),
    ],
)
def test_wrong_names_and_parameters(names, params: Mapping[str, object], message):
    with pytest.raises(ValueError, match=message):
        Algorithm.from_names(*names, **params)


def test_shannon_entropy_is_read_from_the_batch():
    batch = one_group([1.0, 0.0], [2, 1], entropy=[0.5, 1.5, 60.0])
    result = Algorithm.from_names("grpo", "gtpo", "shannon_entropy")(batch)
    assert result.entropy_stats.exec_mean == pytest.approx(52.0 / 3)
    with pytest.raises(ValueError, match="shannon_entropy"):
        Algorithm.from_names("grpo", "gtpo", "entropy")(one_group([1.0, 0.0], [2, 1]))


@pytest.mark.parametrize(("kind", "kept"), [("surprisal", 2), ("shannon_entropy", 0)])
def test_the_entropy_mask_ranks_by_the_kind_of_uncertainty(kind, kept):
    batch = one_group([1.0, 0.0], [2, 1], entropy=[1.5, 0.5, 0.1])
    masked = Algorithm.from_names("grpo", "entropy_mask", kind, entropy_mask_rho=0.1)(batch)
    assert np.flatnonzero(masked.values).tolist() == [kept]


def test_nothing_in_the_batch_is_changed():
    batch = random_batch(11)
    copies = {
        name: getattr(batch, name).copy() for name in ("rewards", "logprobs", "entropy", "planning")
    }
    for transform in TRANSFORM_MODES:
        for kind in ("surprisal", "shannon_entropy"):
            Algorithm.from_names("reinforce_pp", transform, kind, advantage_cap=0.1)(batch, 0.9)
    for name, copy in copies.items():
        np.testing.assert_array_equal(getattr(batch, name), copy)
