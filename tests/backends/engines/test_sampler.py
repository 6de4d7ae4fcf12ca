from dataclasses import replace

import numpy as np
import pytest

from retrain_backends.config import load_config
from retrain_backends.engines.adapter_files import AdapterFiles
from retrain_backends.engines.sampler import EngineSampler
from retrain_backends.errors import ConfigError, PluginError, RunError
from retrain_backends.testing.case import flat_logprobs, flat_tokens
from retrain_backends.testing.suite import check_policy_is_that_of_the_call
from retrain_backends.tracking.journal import read_metrics
from retrain_backends.train import train
from retrain_backends.train.checks.training_evidence import missing_evidence
from retrain_backends.types import Completion, Facts

from .conftest import QUICKSTART


def trainers(backend, case, groups, temperature=0.7):
    """The trainer's log-probs of sampled groups."""
    rows = [
        (prompt, row) for prompt, group in zip(case.prompts, groups, strict=True) for row in group
    ]
    scores = backend.trainer.score([p for p, _ in rows], [r.tokens_T for _, r in rows], temperature)
    return np.concatenate(scores)


def trained(backend, case):
    """Completions of the initial policy, then one optimiser step on them."""
    groups = case.sample(backend)
    backend.trainer.train(case.batch(groups))
    return groups


def assert_every_adapter_is_used(backend, case):
    """The prompts are the same each time, so their prefix is in the engine's cache."""
    before = trained(backend, case)
    for _ in range(2):
        groups = trained(backend, case)
        moved = np.abs(trainers(backend, case, groups) - flat_logprobs(groups)).mean()
        assert moved > 0.01
    after = case.sample(backend)
    assert flat_logprobs(after) == pytest.approx(trainers(backend, case, after), abs=1e-4)
    assert flat_tokens(before) != flat_tokens(after)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "max", "openai"])
def test_every_engine_samples_from_the_adapter_that_is_trained(backend, case, server, engine):
    server.behaviour.raw_logprobs = engine == "max"
    server.behaviour.ids_as_text = engine == "openai"
    policy = backend(**{"inference.engine": engine})
    first = trained(policy, case)
    second = case.sample(policy)
    assert flat_logprobs(second) == pytest.approx(trainers(policy, case, second), abs=1e-4)
    assert flat_tokens(first) != flat_tokens(second)
    assert np.abs(trainers(policy, case, first) - flat_logprobs(first)).mean() > 0.01
    assert all(len(group) == 4 for group in second)


def test_adapters_have_new_names_and_old_ones_are_unloaded(backend, case, server):
    policy = backend()
    for _ in range(4):
        trained(policy, case)
    case.sample(policy)
    assert len(set(server.log.loaded)) == 5
    assert server.log.unloaded == server.log.loaded[:3]
    directories = [body["lora_path"] for body in server.log.bodies if "lora_path" in body]
    assert len(set(directories)) == 5
    policy.close()
    assert not server.adapters


def test_what_did_not_change_is_not_loaded_again(backend, case, server):
    policy = backend()
    case.sample(policy)
    case.sample(policy)
    assert len(server.log.loaded) == 1


def test_the_hand_over_is_timed(backend, case):
    policy = backend()
    case.sample(policy)
    figures = policy.usage().figures
    assert figures["handover_s"] > 0 < figures["canary_s"]
    assert policy.usage().figures == {"handover_s": 0.0, "canary_s": 0.0, "rescore_s": 0.0}


@pytest.mark.parametrize(
    ("behaviour", "which"),
    [({"bound": False}, "the model without an adapter"), ({"stale": True}, "an earlier step")],
)
def test_a_server_that_does_not_use_the_newest_adapter_ends_the_run(
    backend, case, server, behaviour, which
):
    vars(server.behaviour).update(behaviour)
    policy = backend()
    trained(policy, case)
    if server.behaviour.stale:
        server.behaviour.stale = False
        trained(policy, case)
        server.log.loaded[0] = server.log.loaded[-1]
        server.behaviour.stale = True
    with pytest.raises(RunError, match=rf"^{server.url} samples from .*{which}, although"):
        case.sample(policy)


def test_raw_logprobs_are_computed_by_the_trainer(backend, case, server, caplog):
    server.behaviour.raw_logprobs = True
    policy = backend()
    groups = case.sample(policy)
    assert flat_logprobs(groups) == pytest.approx(trainers(policy, case, groups), abs=1e-5)
    assert policy.usage().figures["rescore_s"] > 0
    assert "returns log-probs at temperature 1: the trainer computes" in caplog.text


def test_log_probs_as_the_engine_gives_them(backend, case, server):
    server.behaviour.raw_logprobs = True
    policy = backend(**{"inference.logprobs": "engine"})
    groups = case.sample(policy)
    assert flat_logprobs(groups) == pytest.approx(trainers(policy, case, groups, 1.0), abs=1e-4)


@pytest.mark.parametrize(
    ("behaviour", "line"),
    [
        ({"lora": False}, r"/v1/load_lora_adapter answers 404: Not Found: .* started with VLLM_AL"),
        ({"largest_rank": 2}, r"answers 400: LoRA rank 4 is greater than max_lora_rank 2\.: "),
        (
            {"takes_ids": False},
            r"/v1/completions answers 400: Token id prompts are not supported\.; if it takes no"
            r' token ids as a prompt, set inference\.prompts = "text"$',
        ),
        ({"halves": 9}, r"sent 2 completions instead of 4"),
        ({"id_offset": 10**6}, r"sent the token id \d+, .* beyond the vocabulary of model\.model"),
        ({"nan": True}, r"sent what is no completion \(.*a log-prob that is not a number\)"),
        ({"without": {"logprobs"}}, r"sent what is no completion \(.*0 log-probs for 12 tokens\)"),
        ({"without": {"token_ids"}, "shift": 0}, None),
        (
            {"shift": -2.0},
            r"its log-probs are 2 nats a token from the trainer's: it has another model",
        ),
        ({"broken": 99}, r"/v1/completions answers with broken JSON"),
        ({"busy": 10**6, "busy_status": 401}, r"answers 401: busy"),
        ({"busy": 10**6, "busy_status": 500}, r"answers 500: busy: the server must be started wi"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_server_that_misbehaves_is_one_line(backend, case, server, behaviour, line):
    policy = backend()
    vars(server.behaviour).update(behaviour)
    if line is None:  # token ids as texts stand in for those that are missing
        case.sample(policy)
        return
    with pytest.raises(RunError, match=line) as told:
        case.sample(policy)
    assert str(told.value).startswith(server.url)
    assert "\n" not in str(told.value)


def test_the_next_step_is_sampled_while_this_one_trains(server, tmp_path):
    settings = {
        "inference.engine": "vllm",
        "inference.url": server.url,
        "inference.max_steps_off_policy": 1,
        "training.max_steps": 4,
        "training.batch_size": 2,
        "training.group_size": 6,
        "training.temperature": 1.0,
        "training.lr": 0.01,
        "eval.every": 0,
        "logging.log_dir": str(tmp_path / "run"),
    }
    summary = train(load_config(QUICKSTART, settings))
    rows = read_metrics(summary.run_dir)
    assert rows[0]["steps_off_policy"] == 0
    assert max(row["steps_off_policy"] for row in rows) == 1
    assert max(row["mean_abs_logprob_diff"] for row in rows if row["steps_off_policy"]) > 1e-3
    assert not missing_evidence(summary.run_dir)


def test_log_probs_are_not_computed_by_a_trainer_that_trains(backend, case, server):
    server.behaviour.raw_logprobs = True
    policy = backend(**{"inference.max_steps_off_policy": 1})
    with pytest.raises(ConfigError, match=r"inference\.max_steps_off_policy: `1`, but the trainer"):
        case.sample(policy)


def test_completions_come_from_the_policy_of_the_call(backend, case):
    policy = backend(**{"inference.max_steps_off_policy": 1})
    check_policy_is_that_of_the_call(replace(case, make=lambda: policy))


def test_a_plugin_that_samples_in_this_process(backend, case):
    plugin = "retrain_test_support.inference.library:LibraryDialect"
    policy = backend(**{"inference.engine": plugin, "inference.url": ""})
    trained(policy, case)
    groups = case.sample(policy)
    assert flat_logprobs(groups) == pytest.approx(trainers(policy, case, groups), abs=1e-4)
    policy.close()
    with pytest.raises(ConfigError, match=r"inference\.max_steps_off_policy: `1` needs a server"):
        backend(
            **{
                "inference.engine": plugin,
                "inference.url": "",
                "inference.max_steps_off_policy": 1,
            }
        )


class Certain:
    """Servers and a trainer that agree at every temperature, so that measuring decides nothing."""

    version = 0

    def __init__(self, declared):
        self.logprobs = declared

    def sample(self, requests, params, adapter):
        rows = Completion(np.arange(8), np.full(8, -0.01), "length")
        yield from ((index, [rows] * len(r.samples)) for index, r in enumerate(requests))

    def score(self, prompts, completions, temperature):
        return [np.full(8, -0.02) for _ in completions]

    def sample_everywhere(self, request, params, adapter):
        return {}

    def load(self, name, directory):
        pass

    def export(self, directory):
        pass

    def close(self, adapters):
        pass


@pytest.mark.parametrize(("declared", "logprob"), [("raw", -0.02), ("tempered", -0.01)])
def test_the_documented_kind_where_measuring_decides_nothing(case, tmp_path, declared, logprob):
    certain, files = Certain(declared), AdapterFiles(str(tmp_path))
    facts = Facts("max", (), "not controlled", "")
    sampler = EngineSampler(certain, certain, certain, files, facts, recompute=None)
    groups = [group for _, group in sampler.sample(case.requests(), case.sampling.params)]
    assert set(flat_logprobs(groups)) == {logprob}
    sampler.close()
    assert not list(tmp_path.glob("retrain-adapters-*"))


def test_vllm_in_this_process_is_not_installed(backend):
    line = r"^inference\.engine: `vllm` needs the package `vllm`, which is not installed: pip"
    with pytest.raises(PluginError, match=line):
        backend(**{"inference.url": ""})
