import pytest

from retrain_backends.config import RunConfig, load_config
from retrain_backends.errors import ConfigError, NotAvailableError, PluginError
from retrain_backends.fake import FakeBackend
from retrain_backends.train.build import build
from retrain_backends.train.refusals import refuse_clashes, refuse_unavailable
from retrain_backends.types import Capabilities, SamplerCapabilities, TrainerCapabilities

CAN_ALL = Capabilities(TrainerCapabilities(True, True, "exact"), SamplerCapabilities(True))
NOTHING = Capabilities(TrainerCapabilities(False, False, "exact"), SamplerCapabilities(False))


class Undeclared:
    """A backend that does not say what it can do."""

    usage = close = FakeBackend.close


class WithoutEntropy(FakeBackend):
    capabilities = Capabilities(
        TrainerCapabilities(lora_alpha=True, lora_dropout=True, resume="approximate"),
        SamplerCapabilities(entropy=False),
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("environment.provider", "verifiers"),
        ("backpressure.enabled", True),
    ],
)
def test_what_comes_later_is_refused(key, value):
    with pytest.raises(NotAvailableError, match="is not available in this version; ") as caught:
        refuse_unavailable(load_config(None, {key: value}))
    [problem] = caught.value.problems
    assert problem.startswith((key.split(" ")[0], f"[{key.split('.')[0]}]"))


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"inference.engine": "pytorch", "inference.max_steps_off_policy": 1},
            "inference.max_steps_off_policy: `1` needs an engine that samples beside the trainer",
        ),
        ({"backend.backend": "tinker"}, "inference.engine: `vllm`, but the backend `tinker` samp"),
        (
            {"inference.engine": "openai", "inference.kv_cache_dtype": "fp8"},
            "inference.kv_cache_dtype: `fp8` is not passed on to `openai`: set it where its server",
        ),
        (
            {"inference.engine": "pytorch", "backend.backend": "fake", "inference.dtype": "fp8"},
            "inference.dtype: `fp8`, but the backend `fake` samples itself; leave it out",
        ),
        (
            {"inference.attention_kernel": "tk"},
            "inference.attention_kernel: `vllm` has no `tk`; use `default` or `flash` or `triton`",
        ),
        (
            {"inference.engine": "pytorch", "inference.attention_kernel": "tk"},
            "inference.attention_kernel: `tk`, but no ThunderKittens kernel is published",
        ),
        (
            {"algorithm.uncertainty_kind": "shannon_entropy"},
            "algorithm.uncertainty_kind: `shannon_entropy` .* which the engine `vllm` does not",
        ),
    ],
)
def test_clashes_with_the_engine(settings, line):
    config = load_config(None, {"inference.engine": "vllm", **settings})
    with pytest.raises(ConfigError, match=line):
        refuse_clashes(config, CAN_ALL)


def test_examples_whose_order_is_larger_than_memory():
    config = load_config(None, {"data.source": "arithmetic", "training.max_examples": 2**63 - 1})
    with pytest.raises(ConfigError, match=r"training\.max_examples: the order of 9\d+ examples"):
        refuse_clashes(config, CAN_ALL)


def test_a_campaign_is_not_a_run():
    with pytest.raises(NotAvailableError, match=r"use `retrain campaign FILE.toml`, or"):
        refuse_unavailable(load_config(None, {"campaign.max_steps": 5}))


def test_all_refusals_come_at_once(make_config, tmp_path):
    config = make_config(
        {
            "environment.provider": "verifiers",
            "backpressure.enabled": True,
        }
    )
    with pytest.raises(NotAvailableError) as caught:
        build(config)
    assert len(caught.value.problems) == 2
    assert not (tmp_path / "run").exists()


def test_defaults_are_available():
    refuse_unavailable(RunConfig())


def test_clashes_with_the_backend_are_refused_at_once():
    settings = {"lora.alpha": 8.0, "lora.dropout": 0.1}
    config = load_config(None, {"algorithm.uncertainty_kind": "shannon_entropy", **settings})
    refuse_clashes(config, CAN_ALL)
    with pytest.raises(ConfigError) as caught:
        refuse_clashes(config, NOTHING)
    entropy, alpha, dropout = caught.value.problems
    assert entropy.startswith("algorithm.uncertainty_kind: `shannon_entropy`")
    assert alpha.startswith("lora.alpha")
    assert dropout.startswith("lora.dropout")


def test_a_run_analyses_its_own_adapter_only():
    capabilities = CAN_ALL
    refuse_clashes(load_config(None, {"squeeze.target_ranks": [4]}), capabilities)
    with pytest.raises(
        ConfigError, match=r"squeeze\.adapter_path: `a` asks for an analysis without"
    ):
        refuse_clashes(load_config(None, {"squeeze.adapter_path": "a"}), capabilities)


def test_plugin_backend_is_checked_before_it_is_made(make_config, tmp_path):
    config = make_config(
        {
            "backend.backend": f"{__name__}:WithoutEntropy",
            "backend.options": {"never": "read"},
            "algorithm.uncertainty_kind": "shannon_entropy",
        }
    )
    with pytest.raises(ConfigError, match="does not report; use `surprisal`"):
        build(config)
    assert not (tmp_path / "run").exists()


def test_backend_must_declare_what_it_can_do(make_config):
    with pytest.raises(PluginError, match="does not declare `capabilities"):
        build(make_config({"backend.backend": f"{__name__}:Undeclared"}))


def test_earlier_runs_are_left_alone(make_config, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/notes.txt").write_text("mine")
    with build(make_config()) as run:
        assert run.identity.directory == tmp_path / "run-2"
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]
    assert f"logs in {tmp_path / 'run-2'} ({tmp_path / 'run'} holds" in capsys.readouterr().out
