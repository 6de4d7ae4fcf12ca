from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from retrain_backends.errors import RunError
from retrain_backends.randomness import Purpose, service_seed
from retrain_backends.tinker.sampler import TinkerSampler, completions_of
from retrain_backends.tinker.throttle import Throttle
from retrain_backends.waiting import Waiting
from retrain_test_support.tinker.failures import RequestKind


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


def test_groups_come_with_log_probs(backend, prompts, sampling):
    groups = sampling.sample(backend().sampler, prompts)
    assert [len(group) for group in groups] == [4, 4]
    for row in flat_rows(groups):
        assert row.tokens_T.shape == row.logprobs_T.shape
        assert (row.stop_reason == "stop") == (row.tokens_T[-1] == 0)


def flat_rows(groups):
    return [row for group in groups for row in group]


def test_the_same_streams_give_the_same_tokens(backend, prompts, sampling):
    one, other = backend().sampler, backend().sampler
    first = flat(sampling.sample(one, prompts))
    assert first == flat(sampling.sample(other, prompts))
    assert first != flat(sampling.sample(one, prompts, step=1))


def test_requests_may_be_made_in_several_calls(backend, prompts, sampling):
    sampler, requests = backend().sampler, sampling.requests(prompts, Purpose.SAMPLE, 0)
    whole = sampling.sample(sampler, prompts)
    ((_, second),) = sampler.sample(requests[1:], sampling.params)
    assert flat(whole[1:]) == flat([second])


def test_seeds_differ_by_prompt_step_turn_and_purpose(prompts, sampling):
    first, second = sampling.requests(prompts, Purpose.SAMPLE, 0)
    (later, _), (held_out, _) = (
        sampling.requests(prompts, purpose, step)
        for purpose, step in ((Purpose.SAMPLE, 1), (Purpose.EVALUATE, 0))
    )
    answer = replace(first, key=replace(first.key, turn=1))
    seeds = [
        service_seed(r.key.stream(r.samples[0])) for r in (first, second, later, held_out, answer)
    ]
    assert len(set(seeds)) == 5
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_no_more_calls_than_allowed_are_in_flight(server, backend, sampling):
    server.failures.samples_together = 3
    many = [np.array([token]) for token in range(1, 13)]
    assert all(sampling.sample(backend({"backend.max_concurrent": 3}).sampler, many))
    assert server.most_samples_at_once == 3


def test_two_callers_share_the_calls_that_are_allowed(server, backend, sampling):
    server.failures.samples_together = 2
    policy = backend({"backend.max_concurrent": 2})
    many = [np.array([token]) for token in range(1, 7)]
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(sampling.sample, policy.sampler, many) for _ in "ab"]
        assert all(map(all, (call.result() for call in calls)))
    assert server.most_samples_at_once == 2


def test_a_failed_prompt_is_left_out(server, backend, sampling):
    server.failures.failed_samples = 1
    many = [np.array([token]) for token in range(1, 11)]
    requests = sampling.requests(many, Purpose.SAMPLE, 0)
    answered = dict(backend().sampler.sample(requests, sampling.params))
    assert len(answered) == 9
    assert all(len(group) == 4 for group in answered.values())


@pytest.mark.parametrize(("broken", "answered"), [(1, 1), (2, 0)])
def test_an_answer_that_cannot_be_read_is_asked_for_once_more(
    server, backend, prompts, sampling, broken, answered
):
    sampler = backend({"backend.options": {"max_failed_prompts": 1.0}}).sampler
    requests = sampling.requests(prompts[:1], Purpose.SAMPLE, 0)
    expected = flat(group for _, group in sampler.sample(requests, sampling.params))
    failures = server.failures
    failures.kinds, failures.storm_status = frozenset({RequestKind.RETRIEVE}), 200
    failures.storm = broken
    groups = [group for _, group in sampler.sample(requests, sampling.params)]
    assert len(groups) == answered
    assert flat(groups) == expected[: len(flat(groups))]


def test_closing_the_iterator_cancels(server, backend, sampling):
    server.failures.sample_delay_s = 0.05
    sampler = backend({"backend.max_concurrent": 1}).sampler
    many = [np.array([token]) for token in range(1, 11)]
    groups = sampler.sample(sampling.requests(many, Purpose.SAMPLE, 0), sampling.params)
    next(groups)
    groups.close()
    assert len(server.executed("sample")) < 5
    assert all(sampling.sample(sampler, many[:2]))


def test_too_many_failed_prompts_end_the_run(server, backend, prompts, sampling):
    server.failures.failed_samples = 1
    with pytest.raises(RunError, match=r"1 of 2 prompts got no completions.*made to fail"):
        sampling.sample(backend().sampler, prompts)


def test_a_probe_does_without_answers(server, backend, prompts, sampling):
    server.failures.failed_samples = 2
    assert sampling.sample(backend().sampler, prompts, Purpose.PROBE) == [[], []]


class Silent:
    """A client of a service that answers nothing."""

    def sample(self, **_):
        return Future()


def test_no_answer_in_time_is_no_completion(prompts, sampling):
    session = SimpleNamespace(
        sampling=Silent,
        options=SimpleNamespace(timeout_s=0.01, max_failed_prompts=0.1),
        service=SimpleNamespace(
            endpoint="the service", waiting=Waiting("the service", lambda: None, 0.01, "timeout_s")
        ),
        throttle=Throttle(None, 1.0),
    )
    with pytest.raises(RunError, match=r"2 of 2 prompts got no .*no answer within 0\.01 s"):
        sampling.sample(TinkerSampler(session, at_once=2), prompts)


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
