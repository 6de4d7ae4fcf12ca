import json
from queue import SimpleQueue

import numpy as np
import pytest
from safetensors.numpy import save_file

from retrain_backends.config import Origin, RunConfig
from retrain_campaign.control.adapter_analysis import analyse_in_thread, analysis_for
from retrain_campaign.control.event_queue import AnalysisEnded
from retrain_campaign.squeeze import settings_after_training

PATIENCE_S = 60


def settings(**squeeze):
    config = RunConfig.model_validate({"model": {"lora_rank": 4}, "squeeze": squeeze})
    return settings_after_training(config, Origin("c.toml"), resumed=False)


@pytest.fixture
def adapter(tmp_path):
    """A PEFT adapter of rank 4 whose update has rank 2, as `final` in a run's directory."""
    path = tmp_path / "run/final"
    path.mkdir(parents=True)
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(4, 8)), generator.normal(size=(8, 4))
    a[2:] = 0
    name = "base_model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    tensors = {name.format("A"): a.astype("f4"), name.format("B"): b.astype("f4")}
    save_file(tensors, path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (path / "adapter_config.json").write_text(json.dumps(config))
    return path


def test_an_adapter_is_analysed_shown_and_compressed(tmp_path, adapter):
    small = tmp_path / "small"
    analyse = analysis_for(settings(target_ranks=[1, 2, 4], output_path=str(small)), tmp_path)
    entry, text = analyse("run/final")
    assert entry == {
        "recommended_rank": 2,
        "source_rank": 4,
        "min_variance_retention": 0.95,
        "adapter": "run/final",
        "output": str(small),
    }
    assert "Max Var%" in text
    assert "recommended: rank 2 of 4" in text
    assert json.loads((small / "adapter_config.json").read_text())["r"] == 2
    assert (tmp_path / "squeeze.png").exists()


def test_results_and_errors_are_put_as_events():
    events = SimpleQueue()
    analyse_in_thread(lambda: ({"recommended_rank": 2}, "text"), "a_s1", events.put)
    assert events.get(timeout=PATIENCE_S) == AnalysisEnded("a_s1", {"recommended_rank": 2}, "text")
    analyse_in_thread(lambda: {}["missing"], "a_s1", events.put)
    assert events.get(timeout=PATIENCE_S) == AnalysisEnded("a_s1", {}, "", "KeyError: 'missing'")
