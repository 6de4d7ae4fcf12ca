"""Whether the steps of a run have trained, so that a comparison of its results means something."""

from pathlib import Path

from retrain_backends.tracking.journal import GENERATIONS_FILE, read_metrics, read_rows
from retrain_backends.train.storage.checkpoint import FINAL_DIR
from retrain_backends.train.storage.metadata import read_metadata, weights_digest


def missing_evidence(run_dir: Path, first_step: int = 0) -> list[str]:
    """Why results of a finished run would be the same if its optimiser steps were lost or doubled.

    Args:
      run_dir: of the run.
      first_step: index of the first step that must have trained.

    Returns:
      A line for each defect; empty if steps trained, rewards varied and the adapter moved.
    """
    trained = [
        row
        for row in read_metrics(run_dir)
        if row["step"] >= first_step and row["loss"] is not None
    ]
    rewards = {
        row["reward"]
        for row in read_rows(run_dir / GENERATIONS_FILE)
        if row["step"] >= first_step and row["reward"] is not None
    }
    metadata = read_metadata(run_dir) or {"digests": {}}
    defects = {
        "no step has a loss": not trained,
        "no gradient was other than 0": not any(row["grad_norm"] for row in trained),
        "all rewards are equal": len(rewards) < 2,
        "the adapter is the initial one": metadata["digests"].get("initial_adapter")
        == weights_digest(run_dir / FINAL_DIR),
    }
    return [defect for defect, found in defects.items() if found]
