"""Checks of a backend. Each takes a `BackendCase` and fails with an AssertionError."""

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import numpy as np

from retrain_backends.group_sampling import GroupSampling
from retrain_backends.protocols import PartsTrainer
from retrain_backends.testing.case import BackendCase, flat_logprobs, flat_tokens, reported
from retrain_backends.testing.lifecycle import (
    check_adapter_is_exported,
    check_backend_describes_itself,
    check_load_continues_what_save_wrote,
    check_sampling_beside_training,
    check_usage_is_reported,
)
from retrain_backends.types import Completion


def check_completions_are_well_formed(case: BackendCase) -> None:
    """Groups, lengths, log-probs and stop reasons are as `Sampler.sample` documents."""
    with case.backend() as backend:
        groups = case.sample(backend)
    assert len(groups) == len(case.prompts), "one group for each prompt"
    for group in groups:
        assert len(group) == case.sampling.group_size, "group_size completions for each prompt"
        for completion in group:
            _check_completion(completion, case.sampling)


def check_sampling_is_repeatable(case: BackendCase) -> None:
    """The same prompts, parameters and weights give the same completions."""
    with case.backend() as backend:
        first = case.sample(backend)
        second = case.sample(backend)
    assert flat_tokens(first) == flat_tokens(second), "sampling twice gave different tokens"


def check_policy_is_that_of_the_call(case: BackendCase) -> None:
    """With a step off policy, completions come from the policy at the call of `sample`."""
    with case.backend() as backend:
        if not backend.sampler.facts.steps_off_policy:
            return
        expected = case.sample(backend)
        groups = backend.sampler.sample(case.requests(), case.sampling.params)
        backend.trainer.train(case.batch(expected))
        sampled = dict(groups)
    actual = [sampled[index] for index in range(len(case.prompts))]
    assert flat_tokens(actual) == flat_tokens(expected), "an update changed an earlier call"


def check_sampling_can_be_cancelled(case: BackendCase) -> None:
    """Closing the iterator ends a call, and does not affect the next one."""
    with case.backend() as backend:
        expected = case.sample(backend)
        groups = backend.sampler.sample(case.requests(), case.sampling.params)
        next(groups)
        groups.close()
        assert flat_tokens(case.sample(backend)) == flat_tokens(expected)


def check_streams_differ(case: BackendCase) -> None:
    """Different seeds, steps, turns and samples draw different numbers."""
    next_turn = [replace(r, key=replace(r.key, turn=1)) for r in case.requests()]
    with case.backend() as backend:
        reference = flat_tokens(case.sample(backend))
        next_step = flat_tokens(case.sample(backend, step=1))
        other_seed = flat_tokens(case.sampled(backend, case.requests(seed=case.sampling.seed + 1)))
        other_turn = flat_tokens(case.sampled(backend, next_turn))
    assert reference != next_step, "two steps drew the same tokens"
    assert reference != other_seed, "two seeds drew the same tokens"
    assert reference != other_turn, "two turns drew the same tokens"
    assert any(row != reference[0] for row in reference), "all completions are the same"


def check_rows_do_not_affect_each_other(case: BackendCase) -> None:
    """A completion does not depend on the other prompts and samples of the call."""
    requests = case.requests()
    with case.backend() as backend:
        every = case.sampled(backend, requests)
        alone = case.sampled(backend, requests[:1])
        others = case.sampled(backend, requests[1:])
        fewer = case.sampled(backend, case.requests(group_size=1))
    assert flat_tokens(alone) == flat_tokens(every[:1]), "other prompts changed a completion"
    assert flat_tokens(others) == flat_tokens(every[1:]), "a second call changed a completion"
    firsts = [group[:1] for group in every]
    assert flat_tokens(fewer) == flat_tokens(firsts), "the group's size changed a completion"


def check_each_request_has_its_own_limit(case: BackendCase) -> None:
    """Requests of one call may differ in `max_tokens`; a lower limit only cuts completions off."""
    requests = case.requests()
    limits = [max(1, request.max_tokens - 3 * index) for index, request in enumerate(requests)]
    shorter = [replace(r, max_tokens=n) for r, n in zip(requests, limits, strict=True)]
    with case.backend() as backend:
        long, short = case.sampled(backend, requests), case.sampled(backend, shorter)
    for long_group, short_group, limit in zip(long, short, limits, strict=True):
        expected = [tokens[:limit] for tokens in flat_tokens([long_group])]
        assert flat_tokens([short_group]) == expected, "a limit changed the tokens before it"


def check_greedy_decoding(case: BackendCase) -> None:
    """At temperature 0 all completions of a prompt are equal, for every seed."""
    with case.backend() as backend:
        first, second = (
            flat_tokens(case.sampled(backend, case.requests(seed=seed)[:1], temperature=0.0))
            for seed in (case.sampling.seed, case.sampling.seed + 1)
        )
    assert all(row == first[0] for row in first + second), "greedy decoding is not deterministic"


def check_entropy_is_what_was_declared(case: BackendCase) -> None:
    """With the capability, entropies are returned if and only if they are requested."""
    with case.backend() as backend:
        if not backend.capabilities.sampler.entropy:
            return
        without = case.sample(backend)
        with_it = case.sample(backend, entropy=True)
    assert flat_tokens(without) == flat_tokens(with_it), "requesting entropy changed the tokens"
    assert all(row.entropy_T is None for group in without for row in group)
    for group in with_it:
        for row in group:
            assert row.entropy_T is not None, "no entropy though the backend declares it"
            assert row.entropy_T.shape == row.tokens_T.shape
            assert np.all((row.entropy_T >= 0) & np.isfinite(row.entropy_T))


def check_scores_are_those_of_the_sampler(case: BackendCase) -> None:
    """`score` returns the sampler's log-probs, and changes nothing.

    It uses the temperature of its argument, or temperature 1 if the trainer declares so.
    """
    with case.backend() as backend:
        groups = case.sample(backend)
        prompts = [p for p, group in zip(case.prompts, groups, strict=True) for _ in group]
        tokens = [row.tokens_T for group in groups for row in group]
        cold = case.sample(backend, temperature=0.5)
        cold_tokens = [row.tokens_T for group in cold for row in group]
        scores = backend.trainer.score(prompts, tokens, case.sampling.params.temperature)
        cold_scores = backend.trainer.score(prompts, cold_tokens, temperature=0.5)
        expected = flat_logprobs(cold)
        if not backend.capabilities.trainer.temperature:
            expected = np.concatenate(backend.trainer.score(prompts, cold_tokens, temperature=1.0))
        empty = backend.trainer.score(
            prompts[:1], [tokens[0][:0]], case.sampling.params.temperature
        )
        after = case.sample(backend)
    assert [score.shape for score in scores] == [row.shape for row in tokens]
    assert empty[0].shape == (0,), "an empty completion has scores"
    for actual, known in ((scores, flat_logprobs(groups)), (cold_scores, expected)):
        difference = np.abs(np.concatenate(actual) - known)
        assert difference.max() <= 10 * case.tolerance, "sampler and trainer disagree"
    assert np.array_equal(flat_logprobs(after), flat_logprobs(groups)), "scoring changed the policy"


def check_training_starts_on_policy(case: BackendCase) -> None:
    """Directly after sampling every ratio is 1, so the loss is minus the mean advantage."""
    with case.backend() as backend:
        batch = case.batch(case.sample(backend))
        result = backend.trainer.train(batch)
    assert result.num_tokens == len(batch.tokens_t)
    assert reported(result.mean_abs_logprob_diff) <= case.tolerance, "sampler and trainer disagree"
    assert abs(reported(result.kl_k3)) <= case.tolerance
    assert abs(reported(result.ratio_max) - 1) <= 100 * case.tolerance
    assert abs(reported(result.loss) + batch.advantages_t.mean()) <= 10 * case.tolerance
    assert result.grad_norm is None or 0 < result.grad_norm < np.inf
    assert all(seconds >= 0 for seconds in result.times_s.values())


def check_training_lowers_the_loss(case: BackendCase) -> None:
    """A step moves the policy towards the completions with positive advantages."""
    with case.backend() as backend:
        batch = case.batch(case.sample(backend))
        first, second = backend.trainer.train(batch), backend.trainer.train(batch)
    assert reported(second.loss) < reported(first.loss), "a step on a batch did not lower its loss"
    before, after = (reported(result.mean_abs_logprob_diff) for result in (first, second))
    assert after > before, "a step changed no log-prob"


def check_mask_leaves_tokens_out(case: BackendCase) -> None:
    """Tokens outside `trained_t` are neither counted nor part of the loss."""
    with case.backend() as backend:
        batch = case.batch(case.sample(backend))
        trained = np.zeros_like(batch.trained_t)
        trained[::2] = True
        advantages = np.where(trained, batch.advantages_t, 1e6)
        result = backend.trainer.train(replace(batch, trained_t=trained, advantages_t=advantages))
    expected = -batch.advantages_t[trained].mean()
    assert result.num_tokens == int(trained.sum())
    assert abs(reported(result.loss) - expected) <= 10 * case.tolerance, (
        "an untrained token is in the loss"
    )


def check_non_finite_loss_changes_nothing(case: BackendCase) -> None:
    """A loss that is not finite is reported, and no optimiser step is taken."""
    with case.backend() as backend:
        before = case.sample(backend)
        result = backend.trainer.train(case.batch(before, advantages=(float("nan"),)))
        after = case.sample(backend)
    assert not np.isfinite(reported(result.loss)), (
        "the loss of NaN advantages is reported as a number"
    )
    assert flat_tokens(after) == flat_tokens(before)
    assert np.array_equal(flat_logprobs(after), flat_logprobs(before)), "the policy was updated"


def check_training_is_repeatable(case: BackendCase) -> None:
    """Two backends with the same inputs give the same results."""
    with case.backend() as one, case.backend() as other:
        assert case.run(one, 0, 2) == case.run(other, 0, 2)


def check_parts_are_trained_as_a_whole(case: BackendCase) -> None:
    """A trainer that declares `parts` takes the same step on parts as on all of them together."""
    with case.backend() as whole, case.backend() as other:
        if not whole.capabilities.trainer.parts:
            return
        groups = case.sample(whole)
        expected = whole.trainer.train(case.batch(groups))
        step = cast(PartsTrainer, other.trainer).accumulate()
        for start, stop in ((1, len(groups)), (0, 1)):
            part = replace(case, prompts=case.prompts[start:stop])
            step.add(part.batch(groups[start:stop]))
        result = step.finish()
    assert result.num_tokens == expected.num_tokens, "a part is not counted"
    assert abs(reported(result.loss) - reported(expected.loss)) <= case.tolerance, (
        "parts have another loss than the whole"
    )
    norms = reported(result.grad_norm), reported(expected.grad_norm)
    assert abs(norms[0] - norms[1]) <= 10 * case.tolerance * norms[1], (
        "parts have another gradient than the whole"
    )


CHECKS: tuple[Callable[[BackendCase], None], ...] = (
    check_completions_are_well_formed,
    check_sampling_is_repeatable,
    check_policy_is_that_of_the_call,
    check_sampling_can_be_cancelled,
    check_streams_differ,
    check_rows_do_not_affect_each_other,
    check_each_request_has_its_own_limit,
    check_greedy_decoding,
    check_entropy_is_what_was_declared,
    check_scores_are_those_of_the_sampler,
    check_backend_describes_itself,
    check_usage_is_reported,
    check_sampling_beside_training,
    check_training_starts_on_policy,
    check_training_lowers_the_loss,
    check_mask_leaves_tokens_out,
    check_non_finite_loss_changes_nothing,
    check_training_is_repeatable,
    check_parts_are_trained_as_a_whole,
    check_load_continues_what_save_wrote,
    check_adapter_is_exported,
)


def _check_completion(completion: Completion, sampling: GroupSampling) -> None:
    tokens, logprobs = completion.tokens_T, completion.logprobs_T
    assert (tokens.dtype, logprobs.dtype) == (np.int64, np.float64)
    assert tokens.shape == logprobs.shape == (len(tokens),), "one log-prob for each token"
    assert len(tokens) <= sampling.max_tokens, "a completion is longer than max_tokens"
    assert np.all((logprobs <= 0) & np.isfinite(logprobs)), "log-probs are finite and <= 0"
    stops = np.isin(tokens, sampling.params.stop_token_ids)
    assert not stops[:-1].any(), "a completion continues after a stop token"
    if completion.stop_reason == "stop":
        assert stops[-1:].any(), "a completion that stopped ends with its stop token"
    else:
        assert len(tokens) == sampling.max_tokens, "a completion ends early without a stop token"
