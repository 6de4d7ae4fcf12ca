"""Completions of mlx-lm in this process, compared with those of PyTorch."""

import pytest

pytest.importorskip("mlx_lm", reason="real/test_mlx.py runs these tests where it is installed")

from retrain_backends.engines.mlx.library import MlxLibrary
from retrain_backends.errors import ModelError, RunError
from retrain_backends.local.backend import LocalBackend
from retrain_backends.testing import CHECKS, BackendCase
from retrain_backends.testing.case import flat_logprobs, flat_tokens
from retrain_backends.testing.suite import check_entropy_is_what_was_declared
from retrain_test_support.model_families import FAMILIES, write_tiny_model

from ..test_sampler import assert_every_adapter_is_used, trained, trainers


@pytest.fixture
def tiny_model(tmp_path):
    """`tiny_model("Llama")`: the directory of a random model of that family."""

    def write(family):
        directory = tmp_path / "model"
        write_tiny_model(FAMILIES[family], directory)
        return str(directory)

    return write


CHECKS_OF_ENGINES = [check for check in CHECKS if check is not check_entropy_is_what_was_declared]


@pytest.mark.parametrize("check", CHECKS_OF_ENGINES, ids=lambda check: check.__name__)
def test_conforms(check, settings, tmp_path):
    check(BackendCase(lambda: LocalBackend.from_config(settings()), tmp_path))


@pytest.mark.parametrize("prefix_caching", [True, False])
def test_log_probs_are_those_of_teacher_forcing_for_every_adapter(backend, case, prefix_caching):
    assert_every_adapter_is_used(backend(**{"inference.prefix_caching": prefix_caching}), case)


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0])
def test_the_same_seed_draws_the_tokens_that_pytorch_draws(backend, case, temperature):
    groups = {
        engine: case.sample(backend(**{"inference.engine": engine}), temperature=temperature)
        for engine in ("mlx", "pytorch")
    }
    assert flat_tokens(groups["mlx"]) == flat_tokens(groups["pytorch"])
    expected = flat_logprobs(groups["pytorch"])
    assert flat_logprobs(groups["mlx"]) == pytest.approx(expected, abs=1e-4)


def test_completions_end_with_the_stop_token(backend, case):
    policy = backend()
    stop = int(case.sample(policy)[0][0].tokens_T[2])
    rows = [row for group in case.sample(policy, stop_token_ids=(stop,)) for row in group]
    for row in rows:
        assert (row.stop_reason == "stop") == (row.tokens_T[-1] == stop)
        assert stop not in row.tokens_T[:-1]
    assert {row.stop_reason for row in rows} == {"stop", "length"}


def test_a_completion_does_not_depend_on_the_others(backend, case):
    together = case.sample(backend())
    one_prompt_at_once = {"training.batch_size": 1, "training.group_size": 4}
    assert flat_tokens(case.sample(backend(**one_prompt_at_once))) == flat_tokens(together)
    [alone] = case.sampled(backend(), case.requests()[:1])
    assert flat_tokens([alone]) == flat_tokens(together[:1])


def test_bfloat16_is_near(backend, case):
    policy = backend(**{"inference.dtype": "bf16"})
    trained(policy, case)
    groups = case.sample(policy)
    assert flat_logprobs(groups) == pytest.approx(trainers(policy, case, groups), abs=0.2)


@pytest.mark.parametrize("family", ["Qwen 2", "Granite", "SmolLM 3", "ERNIE 4.5"])
def test_models_of_transformers_5(backend, case, tiny_model, family):
    policy = backend(**{"model.model": tiny_model(family)})
    trained(policy, case)
    groups = case.sample(policy)
    assert flat_logprobs(groups) == pytest.approx(trainers(policy, case, groups), abs=1e-4)


def test_a_model_that_mlx_does_not_have(backend, tiny_model):
    with pytest.raises(ModelError, match=r"`mlx` cannot load model\.model .* Model type opt not"):
        backend(**{"model.model": tiny_model("OPT")})


def test_a_model_that_mlx_computes_in_another_way(backend, case, tiny_model):
    policy = backend(**{"model.model": tiny_model("Mistral")})
    with pytest.raises(RunError, match=r"mlx-lm: its log-probs are .* computes it in another way"):
        case.sample(policy)


def test_a_layer_that_mlx_does_not_have(backend, case, tiny_model):
    policy = backend(**{"model.model": tiny_model("DeepSeek-V3")})
    with pytest.raises(RunError, match=r"kv_b_proj`, which is no linear layer of this model in m"):
        case.sample(policy)


def test_an_adapter_of_another_model(backend, settings, tiny_model, tmp_path):
    other = backend(**{"model.model": tiny_model("Qwen 3")})
    directory = tmp_path / "adapter"
    other.trainer.export_adapter(directory)
    with pytest.raises(RunError, match=r"changes `model\.layers\.0\..* from 48 to 32 values, and"):
        MlxLibrary(settings()).load("another", str(directory))


def test_tokens_that_the_model_does_not_have(backend, case):
    [request, *_] = case.requests()
    request.prompt_T[-1] = 10**6
    with pytest.raises(RunError, match="prompt 0 has the token 1000000, and the vocabulary of"):
        case.sampled(backend(), [request])
