"""Whole runs on the bundled model."""

import json
from pathlib import Path

import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM

from retrain_backends.config import load_config
from retrain_backends.errors import ConfigError, RunError
from retrain_backends.tokenizer import resolve_model
from retrain_backends.train import train
from retrain_backends.train.checks.training_evidence import missing_evidence

QUICKSTART = Path(__file__).parents[3] / "examples" / "quickstart.toml"
CLOCK = ("tokens_per_second",)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """`run(**overrides)`: a short quickstart in a directory of its own."""

    def start(**overrides):
        settings = {
            "training.max_steps": 3,
            "training.batch_size": 3,
            "training.group_size": 6,
            "training.seed": 1,
            "training.save_every": 2,
            "eval.every": 0,
            "logging.learning_curve": False,
            "logging.log_dir": str(tmp_path_factory.mktemp("quickstart") / "run"),
        }
        return train(load_config(QUICKSTART, settings | overrides))

    return start


@pytest.fixture(scope="module")
def finished(run):
    """One of them, that tests only read."""
    return run()


def figures(summary):
    """The metrics without what a clock says."""
    lines = (summary.run_dir / "metrics.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if not k.endswith("_s") and k not in CLOCK}
        for line in lines
    ]


def metadata(summary):
    return json.loads((summary.run_dir / "metadata.json").read_text())


def completions(summary):
    return (summary.run_dir / "emergence" / "generations.jsonl").read_bytes()


def test_same_seed_same_run(run, finished):
    again, other = run(), run(**{"training.seed": 2})
    assert not missing_evidence(finished.run_dir)
    assert figures(again) == figures(finished)
    assert completions(again) == completions(finished)
    adapters = [
        Path(s.adapter, "adapter_model.safetensors").read_bytes() for s in (finished, again, other)
    ]
    assert adapters[0] == adapters[1]
    assert adapters[0] != adapters[2]
    assert figures(finished) != figures(other)


def test_two_conditions_sample_the_same_first_step(run, finished):
    """They differ in the rule alone: same weights, prompts and streams."""
    other = run(**{"training.max_steps": 1, "algorithm.transform_mode": "none"})
    texts = [
        [
            row["completion"]
            for row in map(json.loads, completions(s).splitlines())
            if not row["step"]
        ]
        for s in (finished, other)
    ]
    assert texts[0] == texts[1]
    starts = [metadata(s)["digests"] for s in (finished, other)]
    assert starts[0] == starts[1]
    assert len(starts[0]["initial_adapter"]) == 64
    assert "model.safetensors" in starts[0]["model"]


def test_the_sampler_is_found_to_be_the_trainer(run, finished):
    """Log-probs at the sampling temperature, ids that come back, an adapter that is used."""
    split = run(**{"backend.devices": "cpu,cpu", "training.max_steps": 1})
    for found in map(metadata, (finished, split)):
        assert (found["probe"]["logprobs"], found["probe"]["defects"]) == ("tempered", [])
        assert found["probe"]["adapter"] == "active"
        assert found["determinism"]["level"] == "bitwise"
        assert found["hardware"]["gpus"] == []


def test_an_importance_cap_reaches_the_loss(run, finished):
    """A cap below 1 makes every weight that cap, so the gradient is as much smaller."""
    capped = figures(run(**{"training.max_steps": 1, "algorithm.importance_cap": 0.5}))[0]
    free = figures(finished)[0]
    assert capped["grad_norm"] == pytest.approx(free["grad_norm"] / 2, rel=1e-3)
    assert (free["clip_fraction"], capped["clip_fraction"]) == (0.0, 1.0)


def test_saved_adapters_load_with_peft(finished):
    for adapter in (Path(finished.adapter), finished.run_dir / "checkpoints" / "step_000002"):
        base = AutoModelForCausalLM.from_pretrained(resolve_model("builtin:tiny-arithmetic"))
        model = PeftModel.from_pretrained(base, str(adapter))
        assert model.peft_config["default"].r == 16
        assert any(p.abs().sum() > 0 for n, p in model.named_parameters() if "lora_B" in n)


def test_entropy_as_uncertainty(run):
    rows = figures(run(**{"algorithm.uncertainty_kind": "shannon_entropy"}))
    assert all(row["exec_entropy_mean"] > 0 for row in rows)


@pytest.mark.slow
def test_the_quickstart_learns(tmp_path):
    settings = {
        "training.max_steps": 40,
        "eval.max_examples": 50,
        "logging.log_dir": str(tmp_path / "run"),
    }
    summary = train(load_config(QUICKSTART, settings))
    assert summary.last_rate > summary.first_rate + 0.1


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            {"training.max_tokens": 4092},
            r"training\.max_tokens: `4092` after a prompt of \d+ tokens is beyond the context of "
            r"`builtin:tiny-arithmetic`, 4096 tokens; at most \d+ fit",
        ),
        ({"model.lora_rank": 2**63 - 1}, r"model\.lora_rank: `9223372036854775807` is above"),
    ],
)
def test_a_run_that_does_not_fit_is_refused(run, settings, problem):
    with pytest.raises(ConfigError, match=f"^{problem}"):
        run(**settings)


def test_a_question_that_does_not_fit_ends_the_run_in_one_line(run, tmp_path):
    data = tmp_path / "long.jsonl"
    questions = ["1 + 1 = ?"] * 256 + ["1" * 4092]
    rows = [json.dumps({"question": text, "answer": "2"}) for text in questions]
    data.write_text("\n".join(rows))
    settings = {"training.batch_size": 64, "training.group_size": 2, "training.max_tokens": 8}
    source = {"data.source": "jsonl", "data.path": str(data), "data.shuffle": False}
    with pytest.raises(RunError, match=r"^step 4: prompt 0 has \d+ tokens, which .* is beyond the"):
        run(**settings, **source, **{"training.max_steps": 6})
