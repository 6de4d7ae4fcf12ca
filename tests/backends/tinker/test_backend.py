import numpy as np
import pytest

from retrain_backends.config import load_config
from retrain_backends.errors import ConfigError, ModelError, RunError
from retrain_backends.testing import CHECKS, BackendCase
from retrain_backends.tinker.backend import TinkerBackend
from retrain_core import policy_loss
from retrain_test_support.tinker.server import MODEL_NAME, TinkerServer


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check, configure, tmp_path):
    check(
        BackendCase(
            make=lambda: TinkerBackend.from_config(configure().policy()), directory=tmp_path
        )
    )


def test_the_trainer_gives_samples_the_log_probs_they_were_sampled_with(backend, prompts, sampling):
    policy = backend()
    groups = sampling.sample(policy.sampler, prompts)
    rows = [(prompt, row) for prompt, group in zip(prompts, groups, strict=True) for row in group]
    scores = policy.trainer.score(
        [prompt for prompt, _ in rows],
        [row.tokens_T for _, row in rows],
        sampling.params.temperature,
    )
    for (_, row), score in zip(rows, scores, strict=True):
        assert score == pytest.approx(row.logprobs_T, abs=1e-6)


@pytest.mark.parametrize(
    "algorithm",
    [
        {},
        {"algorithm.params": {"clip_eps": 0.1, "clip_eps_high": 0.2}},
        {"algorithm.importance_cap": 1.1},
    ],
    ids=["plain", "clipped", "capped"],
)
def test_a_step_reports_what_the_reference_loss_does(
    backend, configure, prompts, sampling, to_batch, algorithm
):
    policy = backend(algorithm)
    batch = to_batch(sampling.sample(policy.sampler, prompts))
    first = policy.trainer.train(batch)
    assert first.loss == pytest.approx(-batch.advantages_t[batch.trained_t].mean(), abs=1e-6)
    rows = np.split(batch.tokens_t, batch.token_offsets_n[1:-1])
    asked = [prompts[0]] * 4 + [prompts[1]] * 4
    new_t = np.concatenate(policy.trainer.score(asked, rows, 1.0))
    bounds = configure(algorithm).algorithm.loss_options()
    expected = policy_loss(new_t, batch.logprobs_t, batch.advantages_t, batch.trained_t, bounds)
    result = policy.trainer.train(batch)
    for name in ("loss", "mean_abs_logprob_diff", "kl_k3", "ratio_p99", "ratio_max"):
        assert getattr(result, name) == pytest.approx(getattr(expected, name), abs=1e-5), name
    assert result.clip_fraction == pytest.approx(expected.clip_fraction)
    assert result.num_tokens == expected.num_tokens == batch.trained_t.sum()
    assert result.grad_norm > 0
    assert result.mean_abs_logprob_diff > 0


def test_how_a_batch_is_split_does_not_matter(server, backend, prompts, sampling, to_batch):
    whole, split = backend(), backend({"backend.options": {"step_tokens": 9}})
    for policy in (whole, split):
        policy.trainer.train(to_batch(sampling.sample(policy.sampler, prompts)))
    _, *parts = [each.model_id for each in server.executed("forward_backward")]
    assert len(set(parts)) == 1
    assert len(parts) > 2
    assert len(server.executed("optim_step")) == 2
    tokens = [group[0].tokens_T for group in sampling.sample(whole.sampler, prompts)]
    for one, other in zip(
        whole.trainer.score(prompts, tokens, 1.0),
        split.trainer.score(prompts, tokens, 1.0),
        strict=True,
    ):
        assert one == pytest.approx(other, abs=1e-6)


def test_the_step_may_wait_for_the_gradient(server, backend, prompts, sampling, to_batch):
    results, digests = [], []
    for wait in (False, True):
        policy = backend({"backend.options": {"wait_for_gradient": wait, "step_tokens": 20}})
        results.append(policy.trainer.train(to_batch(sampling.sample(policy.sampler, prompts))))
        digests.append(server.digest(server.executed("optim_step")[-1].model_id))
    assert results[0].loss == results[1].loss
    assert digests[0] == digests[1]


def test_the_next_samples_come_from_the_new_weights(backend, prompts, sampling, to_batch):
    policy = backend()
    for step in range(3):
        groups = sampling.sample(policy.sampler, prompts)
        result = policy.trainer.train(to_batch(groups, step))
        assert result.mean_abs_logprob_diff < 1e-6


def test_tokens_are_counted(backend, prompts, sampling, to_batch):
    policy = backend()
    batch = to_batch(sampling.sample(policy.sampler, prompts))
    policy.trainer.train(batch)
    figures = policy.usage().figures
    assert figures["prompt_tokens_charged"] == 5
    assert figures["sampled_tokens_charged"] == len(batch.tokens_t)
    assert figures["trained_tokens_charged"] == 4 * 5 + len(batch.tokens_t)
    assert figures["queue_s"] == 0.0
    assert policy.usage().figures["sampled_tokens_charged"] == 0


def test_a_spent_budget_says_stop(backend, prompts, sampling):
    prices = {"prompt": 1.0, "sampled": 1.0, "trained": 1.0}
    policy = backend({"backend.options": {"prices": prices, "max_cost": 1e-6}})
    sampling.sample(policy.sampler, prompts)
    assert "backend.options.max_cost" in policy.usage().stop


def test_a_model_that_the_service_lacks_is_named(backend):
    with pytest.raises(ModelError, match=rf"cannot train `no/such`; it has `{MODEL_NAME}`"):
        backend({"model.model": "no/such"})


def test_a_wrong_key_is_refused_in_one_line(server, backend):
    server.behaviour.key = "tml-right"
    with pytest.raises(ConfigError, match=r"the key is refused \(401\).*TINKER_API_KEY"):
        backend()


def test_an_address_where_nothing_answers():
    with TinkerServer(vocabulary=8) as gone:
        url = gone.url
    settings = {"backend.backend": "tinker", "model.model": MODEL_NAME, "model.base_url": url}
    with pytest.raises(RunError, match=f"{url} cannot be reached .*start the server"):
        TinkerBackend.from_config(load_config(None, settings).policy())


def test_a_lost_session_is_told(server, backend, prompts, sampling, to_batch):
    policy = backend()
    batch = to_batch(sampling.sample(policy.sampler, prompts))
    server.forget_sessions()
    with pytest.raises(RunError, match=r"training step 0.*`retrain --resume` continues"):
        policy.trainer.train(batch)


def test_a_gradient_that_fails_ends_the_run(server, backend, prompts, sampling, to_batch):
    policy = backend()
    batch = to_batch(sampling.sample(policy.sampler, prompts))
    server.failures.failed_forward_backwards = 1
    with pytest.raises(RunError, match=r"training step 0.*made to fail"):
        policy.trainer.train(batch)


def test_an_answer_that_lacks_an_output_is_told(server, backend, prompts, sampling, to_batch):
    policy = backend()
    batch = to_batch(sampling.sample(policy.sampler, prompts))
    server.failures.short_answers = 2
    with pytest.raises(
        RunError, match=r"training step 0: .* 7 outputs for 8 completions; `retrain"
    ):
        policy.trainer.train(batch)
    with pytest.raises(RunError, match=r"scoring: .* 1 outputs for 2 completions; `retrain"):
        policy.trainer.score(prompts, prompts, 1.0)


def test_a_pause_for_want_of_capacity_is_waited_for(server, backend, prompts, sampling):
    policy = backend()
    server.failures.paused_polls = 3
    assert all(sampling.sample(policy.sampler, prompts))


@pytest.mark.parametrize("field", ["advantages_t", "logprobs_t"])
def test_a_batch_that_is_not_finite_is_not_sent(
    server, backend, prompts, sampling, to_batch, field
):
    policy = backend()
    batch = to_batch(sampling.sample(policy.sampler, prompts))
    getattr(batch, field)[0] = np.nan
    assert not policy.trainer.train(batch).is_finite
    assert not server.executed("optim_step")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_loss_that_is_not_finite_ends_the_run(backend, prompts, sampling, to_batch):
    policy = backend({"algorithm.params": {"clip_eps": 0.2}})
    batch = to_batch(sampling.sample(policy.sampler, prompts))
    batch.advantages_t[0] = -1.0
    batch.logprobs_t[0] = -1e3
    with pytest.raises(RunError, match=r"step 0: .* loss is inf.*; there is no checkpoint yet"):
        policy.trainer.train(batch)


def test_one_turn_at_the_throttle_is_enough(server, backend, prompts, sampling, to_batch, tmp_path):
    shared = {"backend.throttle_dir": str(tmp_path / "turns"), "backend.max_concurrent": 1}
    policy = backend(shared)
    policy.trainer.train(to_batch(sampling.sample(policy.sampler, prompts)))
    (tmp_path / "trainer").mkdir()
    reference = policy.trainer.save(tmp_path / "trainer")
    other = backend({**shared, "resume.from": "somewhere"})
    other.trainer.load(reference)
    assert all(sampling.sample(other.sampler, prompts))
    assert server.most_samples_at_once == 1
    assert policy.usage().figures["queue_s"] > 0.0
