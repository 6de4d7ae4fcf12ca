"""Tokens that do not depend on what else is sampled."""

import pytest
import torch

from retrain_backends.config import load_config
from retrain_backends.engines.launch import server_commands
from retrain_backends.errors import ConfigError
from retrain_backends.local.backend import LocalBackend
from retrain_backends.tracking.journal import read_metrics
from retrain_backends.train import train
from retrain_backends.train.refusals import refuse_clashes
from retrain_backends.train.storage.metadata import read_metadata
from retrain_test_support.inference.server import InferenceServer

from .conftest import MODEL, QUICKSTART

TOKENS = {"inference.determinism": "tokens"}


def test_a_server_is_compared_once(backend, case, server):
    policy = backend(**TOKENS)
    assert policy.sampler.facts.determinism == "bitwise"
    case.sample(policy)
    asked = server.log.calls["completions"]
    case.sample(policy)
    assert server.log.calls["completions"] - asked == len(case.prompts)
    lengths = {len(body["prompt"]) for body in server.log.bodies if "prompt" in body}
    assert len(lengths) > len({len(prompt) for prompt in case.prompts})


@pytest.mark.parametrize(
    ("behaviour", "seen"),
    [
        ({"drift": 1e-9}, r"log-probs that are up to \S+e-0[89] nats away"),
        ({"seeds": False}, "other tokens in 4 of 4 completions"),
    ],
)
def test_a_server_whose_answers_depend_on_their_batch_is_refused(
    backend, case, server, behaviour, seen
):
    vars(server.behaviour).update(behaviour)
    line = (
        rf"^inference\.determinism: `tokens`, but {server.url} gives {seen} to the same request"
        rf" among others than {server.url} gives to it alone; start it with VLLM_BATCH_INVARIANT=1"
    )
    with pytest.raises(ConfigError, match=line):
        case.sample(backend(**TOKENS))


def test_servers_must_agree_with_each_other(backend, case, server):
    with InferenceServer(MODEL) as second:
        second.behaviour.shift = 1e-6
        policy = backend(**TOKENS, **{"inference.url": [server.url, second.url]})
        with pytest.raises(ConfigError, match=r"`tokens`, but http\S+ gives log-probs that are up"):
            case.sample(policy)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ({"inference.engine": "sglang"}, "`tokens` cannot be had from `sglang`"),
        ({"inference.prompts": "text"}, "`tokens` is compared with token ids; set inference.prom"),
    ],
)
def test_settings_that_exclude_it(backend, overrides, line):
    with pytest.raises(ConfigError, match=rf"^inference\.determinism: {line}"):
        backend(**TOKENS, **overrides)


def test_backends_that_sample_themselves_exclude_it():
    config = load_config(QUICKSTART, TOKENS | {"backend.backend": "fake"})
    with pytest.raises(
        ConfigError, match=r"^inference\.determinism: `tokens`, but the backend `fa"
    ):
        refuse_clashes(config, LocalBackend.capabilities)


def test_pytorch_has_it_on_the_cpu(backend):
    policy = backend(**TOKENS, **{"inference.engine": "pytorch", "inference.url": ""})
    assert policy.sampler.facts.determinism == "bitwise"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_pytorch_has_it_not_on_a_gpu(backend):
    with pytest.raises(ConfigError, match=r"`tokens` cannot be had from `pytorch` on a GPU"):
        backend(**TOKENS, **{"inference.engine": "pytorch", "backend.devices": "gpu:0"})


def test_the_command_of_a_server():
    config = load_config(QUICKSTART, TOKENS | {"inference.engine": "vllm"})
    [command] = server_commands("a/b", 4, config.inference, on_cpu=False)
    assert command.environment["VLLM_BATCH_INVARIANT"] == "1"
    [command] = server_commands("a/b", 4, config.inference, on_cpu=True)
    assert "VLLM_BATCH_INVARIANT" not in command.environment
    config = load_config(QUICKSTART, TOKENS | {"inference.engine": "sglang"})
    with pytest.raises(ConfigError, match=r"^inference\.determinism: `tokens` cannot be had from"):
        server_commands("a/b", 4, config.inference, on_cpu=False)


def test_the_same_seed_gives_the_same_run(server, tmp_path):
    rows = []
    for name in ("first", "second"):
        settings = TOKENS | {
            "inference.engine": "vllm",
            "inference.url": server.url,
            "training.max_steps": 2,
            "training.batch_size": 2,
            "training.group_size": 4,
            "training.seed": 3,
            "eval.every": 0,
            "logging.log_dir": str(tmp_path / name),
        }
        summary = train(load_config(QUICKSTART, settings))
        assert read_metadata(summary.run_dir)["determinism"]["level"] == "bitwise"
        rows.append(
            [
                {key: row[key] for key in row if not key.endswith(("_s", "per_second"))}
                for row in read_metrics(summary.run_dir)
            ]
        )
    assert rows[0] == rows[1]
