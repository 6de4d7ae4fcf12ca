from pathlib import Path

import pytest

from retrain_backends.config import Origin, RunConfig
from retrain_backends.errors import ConfigError
from retrain_campaign.squeeze import settings_after_training


def settings(resumed=False, **squeeze):
    config = RunConfig.model_validate({"model": {"lora_rank": 4}, "squeeze": squeeze})
    return settings_after_training(config, Origin("c.toml"), resumed=resumed)


@pytest.mark.parametrize(
    ("squeeze", "line"),
    [
        (
            {"target_ranks": [2, 8]},
            "squeeze.target_ranks: `[2, 8]`, but the adapter that is trained has rank 4 "
            "(model.lora_rank)",
        ),
        ({"output_path": str(Path(__file__).parent)}, "which is a directory with files in it"),
    ],
)
def test_what_cannot_be_done_is_refused_before_training(squeeze, line):
    with pytest.raises(ConfigError) as caught:
        settings(**squeeze)
    (problem,) = caught.value.problems
    assert line in problem


def test_a_resumed_run_may_have_written_its_adapter(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    assert settings(resumed=True, output_path=str(tmp_path)).output_path == str(tmp_path)
    with pytest.raises(ConfigError, match="which is a directory with files in it"):
        settings(output_path=str(tmp_path))
