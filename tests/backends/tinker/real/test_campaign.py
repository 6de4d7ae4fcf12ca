"""A campaign on a Tinker-API server that others wrote, on a machine without torch."""

import json
import subprocess

import pytest
import tomli_w

PATIENCE_S = 600
AT_ONCE = 3

pytestmark = [pytest.mark.slow, pytest.mark.real_server]


@pytest.fixture
def campaign(tinker_server, model):
    """Two conditions under two seeds, two runs at a time, which share the calls."""
    rules = [("grpo", "none"), ("maxrl", "none")]
    return {
        "backend": {
            "backend": "tinker",
            "max_concurrent": AT_ONCE,
            "options": {"wait_for_gradient": True},
        },
        "model": {"model": str(model), "base_url": tinker_server.url, "lora_rank": 8},
        "data": {"source": "arithmetic", "prompt_template": "{question}"},
        "training": {
            "batch_size": 4,
            "group_size": 8,
            "max_tokens": 32,
            "temperature": 1.0,
            "lr": 5e-3,
        },
        "campaign": {
            "seeds": [1, 2],
            "max_steps": 2,
            "parallel": True,
            "max_workers": 2,
            "conditions": [
                {"advantage_mode": advantage, "transform_mode": transform}
                for advantage, transform in rules
            ],
        },
    }


def test_two_conditions_under_two_seeds(campaign, client_python, tmp_path):
    (tmp_path / "campaign.toml").write_text(tomli_w.dumps(campaign))
    done = subprocess.run(
        [client_python, "-m", "retrain_campaign", "campaign.toml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [directory] = (tmp_path / "logs").iterdir()
    runs = json.loads((directory / "manifest.json").read_text("utf-8"))["runs"]
    assert sorted(run["name"] for run in runs) == [
        "grpo+none_s1",
        "grpo+none_s2",
        "maxrl+none_s1",
        "maxrl+none_s2",
    ]
    assert all(run["status"] == "done" for run in runs)
    assert all(run["adapter"].startswith("tinker://") for run in runs)
    assert list((directory / "tinker_throttle").iterdir())
    for run in runs:
        lines = (directory / run["run_dir"] / "metrics.jsonl").read_text("utf-8").splitlines()
        assert [json.loads(line)["step"] for line in lines] == [0, 1]
