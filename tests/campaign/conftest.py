import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from retrain_backends.config import RunConfig, dump_config
from retrain_backends.train.step.progress import Progress
from retrain_backends.train.storage.fingerprints import Fingerprints
from retrain_backends.train.storage.run_directory import describe_start
from retrain_backends.train.storage.state_file import STATE_FILE, dump_train_state, write_state
from retrain_backends.types import Facts
from retrain_campaign.storage.manifest import Manifest, RunEntry, write_manifest
from retrain_core import SepaSchedule


def _rows(rates: Sequence[float | None]) -> str:
    rows = [
        {
            "step": step,
            "correct_rate": rate,
            "running_correct_rate": rate,
            "tokens_sampled": 100 + step,
            "step_time_s": 1.0 + 0.1 * (step % 3),
        }
        for step, rate in enumerate(rates)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def _configuration(runs, max_steps: int) -> str:
    rule = {"advantage_mode": "grpo", "transform_mode": "none"}
    conditions = [{**rule, "name": name} for name in dict.fromkeys(name for name, _ in runs)]
    seeds = list(dict.fromkeys(seed for _, seed in runs))
    settings = {"seeds": seeds, "max_steps": max_steps, "conditions": conditions}
    return dump_config(RunConfig.model_validate({"campaign": settings}))


@pytest.fixture
def leave_results() -> Callable[..., None]:
    """Write what a finished run must have: its last row, and its adapter."""

    def leave(run_dir: Path, steps: int) -> None:
        (run_dir / "final").mkdir(parents=True, exist_ok=True)
        (run_dir / "metrics.jsonl").write_text(json.dumps({"step": steps - 1}) + "\n")

    return leave


@pytest.fixture
def leave_state() -> Callable[..., None]:
    """Write the state file of a run after so many steps."""

    def leave(run_dir: Path, steps: int, **values: object) -> None:
        config = RunConfig()
        start = Progress(SepaSchedule(steps=0)).start()
        begun = describe_start(
            config, start, Fingerprints(examples=""), Facts("fake", (), "bitwise", "")
        )
        state = {**dump_train_state(start), "steps_done": steps}
        write_state(run_dir / STATE_FILE, begun.model_copy(update={"state": state, **values}))

    return leave


@pytest.fixture
def leave_run() -> Callable[..., Path]:
    """Write the files of a run; `rates` by step, `held_out` as (steps done, accuracy)."""

    def leave(directory: Path, rates: Sequence[float | None], held_out=(), max_steps=10) -> Path:
        directory.mkdir(parents=True)
        text = f"[training]\nmax_steps = {max_steps}\nbatch_size = 8\n"
        (directory / "config.toml").write_text(text)
        (directory / "metrics.jsonl").write_text(_rows(rates))
        evaluations = [
            {"step": step, "accuracy": accuracy, "num_questions": 4, "time_s": 0.5}
            for step, accuracy in held_out
        ]
        lines = [json.dumps(row) + "\n" for row in evaluations]
        if lines:
            (directory / "eval.jsonl").write_text("".join(lines))
        return directory

    return leave


@pytest.fixture
def leave_campaign(leave_run) -> Callable[..., Path]:
    """Write the files of a campaign; `runs` has status, rates and evaluations by (label, seed)."""

    def leave(directory: Path, runs: dict, max_steps: int = 10, **entry: object) -> Path:
        entries = []
        for (condition, seed), (status, rates, *held_out) in runs.items():
            name = f"{condition}_s{seed}"
            if status != "planned":
                run_dir = directory / "runs" / name
                leave_run(run_dir, rates, *held_out, max_steps=max_steps)
            if status == "done":
                (run_dir / "final").mkdir()
            entries.append(
                RunEntry(
                    name=name,
                    condition=condition,
                    seed=seed,
                    command=["true"],
                    run_dir=f"runs/{name}",
                    max_steps=max_steps,
                    status=status,
                    reason="its loss is not finite" if status == "failed" else "",
                    **({"adapter": f"runs/{name}/final"} if status == "done" else {}),
                    **entry,
                )
            )
        directory.mkdir(parents=True, exist_ok=True)
        write_manifest(
            directory,
            Manifest(
                name="rules",
                timestamp="2026-01-01T00:00:00+00:00",
                conditions=list(dict.fromkeys(condition for condition, _ in runs)),
                seeds=list(dict.fromkeys(seed for _, seed in runs)),
                max_steps=max_steps,
                wandb_project="",
                executor="process",
                directory=".",
                threads=1,
                configuration=_configuration(runs, max_steps),
                runs=entries,
            ),
        )
        return directory

    return leave


@pytest.fixture
def training_tables() -> str:
    """Configuration of a run on the fake backend, with the test's plugin `rewards.parity`."""
    return """\
[model]
model = "builtin:tiny-arithmetic"
[backend]
backend = "fake"
[data]
source = "arithmetic"
prompt_template = "{question}"
[training]
batch_size = 2
group_size = 4
max_tokens = 8
save_every = 5
[reward]
type = "rewards.parity"
[logging]
learning_curve = false
"""


@pytest.fixture
def start_campaign(tmp_path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `python -m retrain_campaign WORDS`, with variables in its environment."""
    running = []

    def start(*words: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "retrain_campaign", *words],
            cwd=tmp_path,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()
