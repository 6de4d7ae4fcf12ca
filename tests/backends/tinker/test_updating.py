from dataclasses import replace

import numpy as np
import pytest

from retrain_backends.errors import RunError
from retrain_backends.types import TrainBatch
from retrain_test_support.tinker.failures import RequestKind


@pytest.fixture
def batch(backend, prompts, sampling, to_batch):
    """`batch(policy)`: sampled from a policy."""
    return lambda policy: to_batch(sampling.sample(policy.sampler, prompts))


@pytest.fixture
def fail(server):
    """`fail(status, kind)`: the next request of a kind fails."""

    def arm(status, kind):
        failures = server.failures
        failures.kinds, failures.storm_status, failures.storm = frozenset({kind}), status, 1

    return arm


@pytest.mark.parametrize("name", ["grad_norm", "skyrl.ai/grad_norm", "unclipped_grad_l2:mean"])
def test_the_norm_of_the_gradient_is_what_the_service_reports(server, backend, batch, name):
    server.behaviour.grad_norm = name
    policy = backend()
    norm = policy.trainer.train(batch(policy)).grad_norm
    assert server.executed("optim_step")[-1].details["grad_norm"] == norm > 0


def test_a_server_that_does_not_report_it_is_named_once(server, backend, batch, caplog):
    server.behaviour.grad_norm = None
    policy = backend()
    results = [policy.trainer.train(batch(policy)) for _ in range(2)]
    assert [result.grad_norm for result in results] == [None, None]
    line = f"{server.url} does not report the norm of the gradient"
    assert sum(message.startswith(line) for message in caplog.messages) == 1


LOST = -1


@pytest.mark.parametrize("wait", [False, True])
def test_a_step_that_was_executed_twice_ends_the_run(server, backend, batch, fail, tmp_path, wait):
    server.behaviour.forgets_requests = True
    policy = backend({"backend.options": {"wait_for_gradient": wait}})
    policy.trainer.train(batch(policy))
    fail(LOST, RequestKind.STEP)
    with pytest.raises(RunError, match=r"executed the step twice.*there is no checkpoint yet"):
        policy.trainer.train(batch(policy))
    assert len(server.executed("optim_step")) == 3
    saved = policy.trainer.save(tmp_path).remote
    fail(LOST, RequestKind.STEP)
    with pytest.raises(RunError, match=rf"`retrain --resume` .* last checkpoint, {saved}$"):
        policy.trainer.train(batch(policy))


@pytest.mark.parametrize("status", [0, 503, 429])
def test_a_step_that_was_sent_again_before_it_was_executed_is_no_reason(
    server, backend, batch, fail, status
):
    server.behaviour.forgets_requests = True
    policy = backend()
    fail(status, RequestKind.STEP)
    assert policy.trainer.train(batch(policy)).grad_norm > 0
    assert server.failures.counts["storm"] == len(server.executed("optim_step")) == 1


@pytest.mark.parametrize("kind", [RequestKind.STEP, RequestKind.TRAIN])
def test_a_service_that_remembers_requests_executes_each_once(server, backend, batch, fail, kind):
    policy = backend()
    fail(LOST, kind)
    assert policy.trainer.train(batch(policy)).grad_norm > 0
    assert server.failures.counts["storm"] == len(server.executed("optim_step")) == 1
    assert len(server.executed("forward_backward")) == 1


def test_a_batch_without_a_gradient_is_no_reason(backend):
    policy = backend()
    equal = TrainBatch(
        prompts=[np.array([1, 2])],
        group_offsets_g=np.array([0, 2]),
        token_offsets_n=np.array([0, 2, 4]),
        tokens_t=np.array([5, 6, 5, 6]),
        logprobs_t=np.full(4, -3.0),
        advantages_t=np.array([1.0, 1.0, -1.0, -1.0]),
        trained_t=np.ones(4, np.bool_),
        temperature=1.0,
        step=0,
        seed=3,
    )
    assert policy.trainer.train(equal).grad_norm == 0.0
    assert policy.trainer.train(replace(equal, advantages_t=np.zeros(4))).grad_norm == 0.0


@pytest.mark.parametrize(("wait", "figures"), [(False, None), (True, pytest.approx(0, abs=1e-6))])
@pytest.mark.parametrize("kind", [RequestKind.TRAIN, RequestKind.RETRIEVE])
def test_a_gradient_whose_answer_cannot_be_read_is_used(
    server, backend, batch, fail, caplog, kind, wait, figures
):
    policy = backend({"backend.options": {"wait_for_gradient": wait}})
    sampled = batch(policy)
    fail(200, kind)
    result = policy.trainer.train(sampled)
    assert "the answer cannot be read" in caplog.text
    assert result.is_finite
    assert result.grad_norm > 0
    assert result.mean_abs_logprob_diff == figures
    assert len(server.executed("optim_step")) == len(server.executed("forward_backward")) == 1


def test_a_step_whose_answer_cannot_be_read_is_taken(server, backend, batch, fail):
    policy = backend()
    sampled = batch(policy)
    fail(200, RequestKind.STEP)
    result = policy.trainer.train(sampled)
    assert result.grad_norm is None
    assert result.mean_abs_logprob_diff < 1e-6
    assert policy.trainer.train(batch(policy)).mean_abs_logprob_diff < 1e-6
    assert len(server.executed("optim_step")) == 2
