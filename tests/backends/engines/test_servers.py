import shutil

import pytest
from safetensors.torch import load_file, save_file

from retrain_backends.errors import ConfigError, RunError
from retrain_backends.testing.case import flat_tokens
from retrain_test_support.inference.behaviour import Behaviour
from retrain_test_support.inference.server import InferenceServer

from .conftest import MODEL


@pytest.fixture
def second():
    with InferenceServer(MODEL) as running:
        yield running


def test_the_same_prompt_goes_to_the_same_server(backend, case, server, second):
    policy = backend(**{"inference.url": [server.url, second.url]})
    case.sample(policy)
    before = [running.log.calls["completions"] for running in (server, second)]
    case.sample(policy)
    after = [running.log.calls["completions"] for running in (server, second)]
    assert sum(after) - sum(before) == len(case.prompts)
    assert [len(running.log.loaded) for running in (server, second)] == [1, 1]


def test_an_adapter_is_loaded_on_every_server_or_on_none(backend, case, server, second):
    policy = backend(**{"inference.url": [server.url, second.url]})
    second.behaviour.largest_rank = 2
    with pytest.raises(RunError, match=rf"^{second.url}/v1/load_lora_adapter answers 400"):
        case.sample(policy)
    assert not server.adapters


def test_one_stale_server_of_two_is_named(backend, case, server, second):
    policy = backend(**{"inference.url": [server.url, second.url]})
    policy.trainer.train(case.batch(case.sample(policy)))
    second.behaviour.bound = False
    with pytest.raises(RunError, match=rf"^{second.url} samples from the model without an adap"):
        case.sample(policy)


def test_a_server_that_dies_is_left_out_and_comes_back(backend, case, server, second, caplog):
    policy = backend(**{"inference.url": [server.url, second.url]})
    policy.trainer.train(case.batch(case.sample(policy)))
    second.behaviour.busy, second.behaviour.busy_status = 10**6, 0
    assert len(case.sample(policy)) == len(case.prompts)
    assert f"{second.url}/v1/load_lora_adapter does not answer" in caplog.text
    assert "it is left out, and tried again" in caplog.text
    second.behaviour.busy = 0
    while f"{second.url} answers again" not in caplog.text:
        case.sample(policy)
    policy.trainer.train(case.batch(case.sample(policy)))
    case.sample(policy)
    assert set(second.adapters) >= {server.log.loaded[-1]}


def test_a_server_that_is_busy_is_asked_again(backend, case, server):
    policy = backend()
    expected = flat_tokens(case.sample(policy))
    server.behaviour.busy = 2
    assert flat_tokens(case.sample(policy)) == expected


def test_a_server_that_was_started_anew_gets_the_adapter(backend, case, settings):
    with InferenceServer(MODEL) as first:
        policy = backend(**{"inference.url": first.url})
        expected = flat_tokens(case.sample(policy))
        port = first.port
    with InferenceServer(MODEL, port=port) as again:
        assert flat_tokens(case.sample(policy)) == expected
        assert again.log.loaded == first.log.loaded


@pytest.mark.slow
def test_a_server_that_stays_away_ends_the_run_at_the_limit(backend, case):
    with InferenceServer(MODEL) as gone:
        policy = backend(**{"inference.url": gone.url, "inference.timeout_s": 4.0})
        case.sample(policy)
    line = rf"^{gone.url}: sampling: no answer within 4 s \(inference.timeout_s\); `retrain --re"
    with pytest.raises(RunError, match=line):
        case.sample(policy)


def test_no_server_at_the_start(backend):
    line = r"^http://localhost:9/v1/models does not answer .*; start the server, or correct infe"
    with pytest.raises(RunError, match=line):
        backend(**{"inference.url": "http://localhost:9"})


def test_what_is_no_inference_server(backend, server):
    with pytest.raises(RunError, match=rf"^{server.url}/v2/v1/models answers 404: Not Found"):
        backend(**{"inference.url": f"{server.url}/v2"})


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            {"inference.engine": "sglang", "inference.url": ""},
            r"^inference\.url: `sglang` needs the address of its server",
        ),
        (
            {"training.max_tokens": 4090},
            r"^training\.max_tokens: `4090` after a prompt of \d+ tokens is beyond",
        ),
        (
            {"inference.adapter_dir": "/dev/null/x"},
            r"^inference\.adapter_dir: `/dev/null/x` cannot",
        ),
    ],
)
def test_settings_that_cannot_work(backend, overrides, line):
    with pytest.raises(ConfigError, match=line):
        backend(**overrides)


def changed_model(directory, factor):
    """The model of `MODEL` with one tensor multiplied by a factor."""
    shutil.copytree(MODEL, directory)
    weights = load_file(directory / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * factor
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    return str(directory)


@pytest.fixture(scope="session")
def other_model(tmp_path_factory):
    return changed_model(tmp_path_factory.mktemp("model") / "other", 1.01)


def test_a_server_with_another_model(backend, case, tmp_path):
    with InferenceServer(changed_model(tmp_path / "flat", 0.1)) as other:
        policy = backend(**{"inference.url": other.url})
        line = rf"^{other.url}: its log-probs are \S+ nats a token from .*: it has another model"
        with pytest.raises(RunError, match=line):
            case.sample(policy)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_servers_with_different_base_weights_are_refused(backend, server, other_model, engine):
    settings = {"inference.engine": engine}
    with InferenceServer(other_model) as other:
        server.behaviour.checksums = other.behaviour.checksums = True
        line = (
            rf"^{other.url} has other base weights than {server.url} has: 1 of \d+ tensors differ,"
            r" such as `(0/)?model\.norm\.weight`; serve the same model in the same precision$"
        )
        with pytest.raises(RunError, match=line):
            backend(**settings, **{"inference.url": [server.url, other.url]})
        other.behaviour.checksums = False  # 404
        backend(**settings, **{"inference.url": [server.url, other.url]})


def test_a_server_that_was_started_anew_with_other_weights(backend, case, other_model):
    with InferenceServer(MODEL, Behaviour(checksums=True)) as first:
        policy = backend(**{"inference.url": first.url})
        policy.trainer.train(case.batch(case.sample(policy)))
        port = first.port
    line = r"^http://\S+ has other base weights than it had before: 1 of \d+ tensors"
    with (
        InferenceServer(other_model, Behaviour(checksums=True), port=port),
        pytest.raises(RunError, match=line),
    ):
        case.sample(policy)


@pytest.mark.slow
def test_a_server_that_hangs_does_not_hold_up_the_end(backend, case, server):
    policy = backend()
    case.sample(policy)
    with server.hanging():
        policy.close()  # long before inference.timeout_s, half an hour
