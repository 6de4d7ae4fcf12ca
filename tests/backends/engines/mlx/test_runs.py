"""Whole runs that sample with mlx-lm in the training process."""

import json

import numpy as np
import pytest

pytest.importorskip("mlx_lm", reason="real/test_mlx.py runs these tests where it is installed")

from retrain_backends.config import load_config
from retrain_backends.tracking.journal import read_metrics
from retrain_backends.train import train
from retrain_backends.train.checks.training_evidence import missing_evidence

from ..conftest import QUICKSTART

SEEDS = (1, 2, 3)


@pytest.fixture
def rewards(tmp_path):
    """`rewards("mlx", seed)`: the mean rewards of the steps of a run with that engine."""

    def run(engine, seed):
        settings = {
            "inference.engine": engine,
            "model.lora_rank": 8,
            "training.max_steps": 10,
            "training.batch_size": 4,
            "training.seed": seed,
            "eval.every": 0,
            "logging.log_dir": str(tmp_path / f"{engine}_{seed}"),
        }
        summary = train(load_config(QUICKSTART, settings))
        assert not missing_evidence(summary.run_dir)
        rows = read_metrics(summary.run_dir)
        assert all(row["mean_abs_logprob_diff"] < 1e-4 for row in rows)
        return [row["mean_reward"] for row in rows]

    return run


def test_a_run_learns_as_with_pytorch(rewards, tmp_path):
    """The same tokens are drawn until rounding moves one across a border of the distribution."""
    found = {
        engine: np.array([rewards(engine, seed) for seed in SEEDS]) for engine in ("pytorch", "mlx")
    }
    assert (found["mlx"] == found["pytorch"]).mean() > 0.5
    assert found["mlx"].mean() == pytest.approx(found["pytorch"].mean(), abs=0.05)
    metadata = json.loads((tmp_path / "mlx_1" / "metadata.json").read_text("utf-8"))
    assert {"mlx", "mlx-lm"} <= metadata["versions"].keys()
