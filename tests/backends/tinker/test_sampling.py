from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from retrain_backends.errors import RunError
from retrain_backends.randomness import Purpose
from retrain_backends.tinker.sampling import completions_of, seed_of


class Answer:
    """The part of the SDK's result that is read."""

    def __init__(self, *sequences):
        self.sequences = sequences


class Sequence:
    def __init__(self, tokens, logprobs, stop_reason="stop"):
        self.tokens = tokens
        self.logprobs = logprobs
        self.stop_reason = stop_reason


def flat(groups) -> list[list[int]]:
    return [row.tokens_T.tolist() for group in groups for row in group]


def test_groups_come_with_log_probs_and_are_announced(backend, prompts, params):
    announced = {}
    groups = backend().sample(prompts, params, announced.__setitem__)
    assert [len(group) for group in groups] == [4, 4]
    assert announced == dict(enumerate(groups))
    for row in flat_rows(groups):
        assert row.tokens_T.shape == row.logprobs_T.shape
        assert (row.stop_reason == "stop") == (row.tokens_T[-1] == 0)


def flat_rows(groups):
    return [row for group in groups for row in group]


def test_the_same_streams_give_the_same_tokens(backend, prompts, params):
    one, other = backend(), backend()
    assert flat(one.sample(prompts, params)) == flat(other.sample(prompts, params))
    again = one.sample(prompts, replace(params, step=1))
    assert flat(again) != flat(one.sample(prompts, params))


def test_prompts_may_be_asked_in_several_calls(backend, prompts, params):
    policy = backend()
    whole = policy.sample(prompts, params)
    second = policy.sample(prompts[1:], replace(params, first_prompt=1))
    assert flat(whole[1:]) == flat(second)


def test_seeds_differ_by_prompt_step_and_purpose(params):
    others = [replace(params, step=1), replace(params, purpose=Purpose.EVALUATE)]
    seeds = [seed_of(params, 0), seed_of(params, 1), *(seed_of(other, 0) for other in others)]
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert seed_of(params, 1) == seed_of(replace(params, first_prompt=1), 0)


def test_no_more_calls_than_allowed_are_in_flight(server, backend, params):
    server.failures.sample_delay_s = 0.05
    many = [np.array([token]) for token in range(1, 13)]
    assert all(backend({"backend.max_concurrent": 3}).sample(many, params))
    assert server.most_samples_at_once == 3


def test_two_callers_share_the_calls_that_are_allowed(server, backend, params):
    server.failures.sample_delay_s = 0.05
    policy = backend({"backend.max_concurrent": 2})
    many = [np.array([token]) for token in range(1, 7)]
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(policy.sample, many, params) for _ in "ab"]
        assert all(map(all, (call.result() for call in calls)))
    assert server.most_samples_at_once == 2


def test_a_failed_prompt_has_no_completions(server, backend, params):
    server.failures.failed_samples = 1
    announced = []
    many = [np.array([token]) for token in range(1, 11)]
    groups = backend().sample(many, params, lambda index, _: announced.append(index))
    empty = [index for index, group in enumerate(groups) if not group]
    assert len(empty) == 1
    assert sorted([*announced, *empty]) == list(range(10))


def test_too_many_failed_prompts_end_the_run(server, backend, prompts, params):
    server.failures.failed_samples = 1
    with pytest.raises(RunError, match=r"1 of 2 prompts got no completions.*made to fail"):
        backend().sample(prompts, params)


def test_an_evaluation_is_judged_by_all_its_questions(server, backend, params):
    policy = backend()
    asked = replace(params, purpose=Purpose.EVALUATE, num_prompts=10)
    question = [np.array([1])]
    for first in (0, 1):
        server.failures.failed_samples = 1
        assert policy.sample(question, replace(asked, first_prompt=first)) == [[]]
    server.failures.failed_samples = 1
    with pytest.raises(RunError, match=r"3 of 10 prompts got no completions.*made to fail"):
        policy.sample(question, replace(asked, first_prompt=2))
    server.failures.failed_samples = 1
    assert policy.sample(question, asked) == [[]]


def test_a_probe_does_without_answers(server, backend, prompts, params):
    server.failures.failed_samples = 2
    assert backend().sample(prompts, replace(params, purpose=Purpose.PROBE)) == [[], []]


def test_no_answer_in_time_is_no_completion(server, backend, prompts, params):
    server.failures.sample_delay_s = 1.0
    slow = backend({"backend.options": {"timeout_s": 0.2}})
    with pytest.raises(RunError, match=r"no answer within 0\.2 s"):
        slow.sample(prompts, params)


@pytest.mark.parametrize(
    ("sequences", "problem"),
    [
        ([], "0 completions instead of 1"),
        ([Sequence([], [])], "without tokens"),
        ([Sequence([1, 2], None)], "finite log-prob for every token"),
        ([Sequence([1, 2], [-0.1])], "finite log-prob for every token"),
        ([Sequence([1], [float("nan")])], "finite log-prob for every token"),
    ],
)
def test_what_is_not_whole_is_no_completion(sequences, problem):
    with pytest.raises(ValueError, match=problem):
        completions_of(Answer(*sequences), 1)
