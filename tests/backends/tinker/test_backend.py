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
    check(BackendCase(make=lambda: TinkerBackend.from_config(configure()), directory=tmp_path))


def test_the_trainer_gives_samples_the_log_probs_they_were_sampled_with(backend, prompts, params):
    policy = backend()
    groups = policy.sample(prompts, params)
    rows = [(prompt, row) for prompt, group in zip(prompts, groups, strict=True) for row in group]
    scores = policy.score(
        [prompt for prompt, _ in rows], [row.tokens_T for _, row in rows], params.temperature
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
    backend, configure, prompts, params, to_batch, algorithm
):
    policy = backend(algorithm)
    batch = to_batch(policy.sample(prompts, params))
    first = policy.train_step(batch)
    assert first.loss == pytest.approx(-batch.advantages_t[batch.trained_t].mean(), abs=1e-6)
    rows = np.split(batch.tokens_t, batch.token_offsets_n[1:-1])
    asked = [prompts[0]] * 4 + [prompts[1]] * 4
    new_t = np.concatenate(policy.score(asked, rows, 1.0))
    bounds = configure(algorithm).algorithm.loss_options()
    expected = policy_loss(new_t, batch.logprobs_t, batch.advantages_t, batch.trained_t, bounds)
    result = policy.train_step(batch)
    for name in ("loss", "mean_abs_logprob_diff", "kl_k3", "ratio_p99", "ratio_max"):
        assert getattr(result, name) == pytest.approx(getattr(expected, name), abs=1e-5), name
    assert result.clip_fraction == pytest.approx(expected.clip_fraction)
    assert result.num_tokens == expected.num_tokens == batch.trained_t.sum()
    assert result.grad_norm is None
    assert result.mean_abs_logprob_diff > 0


def test_how_a_batch_is_split_does_not_matter(server, backend, prompts, params, to_batch):
    whole, split = backend(), backend({"backend.options": {"step_tokens": 9}})
    for policy in (whole, split):
        policy.train_step(to_batch(policy.sample(prompts, params)))
    _, *parts = [each.model_id for each in server.executed("forward_backward")]
    assert len(set(parts)) == 1
    assert len(parts) > 2
    assert len(server.executed("optim_step")) == 2
    tokens = [group[0].tokens_T for group in whole.sample(prompts, params)]
    for one, other in zip(
        whole.score(prompts, tokens, 1.0), split.score(prompts, tokens, 1.0), strict=True
    ):
        assert one == pytest.approx(other, abs=1e-6)


def test_the_step_may_wait_for_the_gradient(server, backend, prompts, params, to_batch):
    results, digests = [], []
    for wait in (False, True):
        policy = backend({"backend.options": {"wait_for_gradient": wait, "step_tokens": 20}})
        results.append(policy.train_step(to_batch(policy.sample(prompts, params))))
        digests.append(server.digest(server.executed("optim_step")[-1].model_id))
    assert results[0].loss == results[1].loss
    assert digests[0] == digests[1]


def test_the_next_samples_come_from_the_new_weights(backend, prompts, params, to_batch):
    policy = backend()
    for step in range(3):
        groups = policy.sample(prompts, params)
        result = policy.train_step(to_batch(groups, step))
        assert result.mean_abs_logprob_diff < 1e-6


def test_tokens_are_counted(backend, prompts, params, to_batch):
    policy = backend()
    batch = to_batch(policy.sample(prompts, params))
    policy.train_step(batch)
    figures = policy.usage().figures
    assert figures["prompt_tokens_charged"] == 5
    assert figures["sampled_tokens_charged"] == len(batch.tokens_t)
    assert figures["trained_tokens_charged"] == 4 * 5 + len(batch.tokens_t)
    assert figures["queue_s"] == 0.0
    assert policy.usage().figures["sampled_tokens_charged"] == 0


def test_a_spent_budget_says_stop(backend, prompts, params):
    prices = {"prompt": 1.0, "sampled": 1.0, "trained": 1.0}
    policy = backend({"backend.options": {"prices": prices, "max_cost": 1e-6}})
    policy.sample(prompts, params)
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
        TinkerBackend.from_config(load_config(None, settings))


def test_a_lost_session_is_told(server, backend, prompts, params, to_batch):
    policy = backend()
    batch = to_batch(policy.sample(prompts, params))
    server.forget_sessions()
    with pytest.raises(RunError, match=r"training step 0.*`retrain --resume` continues"):
        policy.train_step(batch)


def test_a_gradient_that_fails_ends_the_run(server, backend, prompts, params, to_batch):
    policy = backend()
    batch = to_batch(policy.sample(prompts, params))
    server.failures.failed_forward_backwards = 1
    with pytest.raises(RunError, match=r"training step 0.*made to fail"):
        policy.train_step(batch)


def test_an_answer_that_lacks_an_output_is_told(server, backend, prompts, params, to_batch):
    policy = backend()
    batch = to_batch(policy.sample(prompts, params))
    server.failures.short_answers = 2
    with pytest.raises(
        RunError, match=r"training step 0: .* 7 outputs for 8 completions; `retrain"
    ):
        policy.train_step(batch)
    with pytest.raises(RunError, match=r"scoring: .* 1 outputs for 2 completions; `retrain"):
        policy.score(prompts, prompts, 1.0)


def test_a_pause_for_want_of_capacity_is_waited_for(server, backend, prompts, params):
    policy = backend()
    server.failures.paused_polls = 3
    assert all(policy.sample(prompts, params))


@pytest.mark.parametrize("field", ["advantages_t", "logprobs_t"])
def test_a_batch_that_is_not_finite_is_not_sent(server, backend, prompts, params, to_batch, field):
    policy = backend()
    batch = to_batch(policy.sample(prompts, params))
    getattr(batch, field)[0] = np.nan
    assert not policy.train_step(batch).is_finite
    assert not server.executed("optim_step")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_loss_that_is_not_finite_ends_the_run(backend, prompts, params, to_batch):
    policy = backend({"algorithm.params": {"clip_eps": 0.2}})
    batch = to_batch(policy.sample(prompts, params))
    batch.advantages_t[0] = -1.0
    batch.logprobs_t[0] = -1e3
    with pytest.raises(RunError, match=r"step 0.*`retrain --resume` continues"):
        policy.train_step(batch)


def test_one_turn_at_the_throttle_is_enough(server, backend, prompts, params, to_batch, tmp_path):
    shared = {"backend.throttle_dir": str(tmp_path / "turns"), "backend.max_concurrent": 1}
    policy = backend(shared)
    policy.train_step(to_batch(policy.sample(prompts, params)))
    (tmp_path / "trainer").mkdir()
    reference = policy.save(tmp_path / "trainer")
    other = backend({**shared, "resume.from": "somewhere"})
    other.load(reference)
    assert all(other.sample(prompts, params))
    assert server.most_samples_at_once == 1
    assert policy.usage().figures["queue_s"] > 0.0
