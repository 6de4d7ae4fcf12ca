import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import wandb
from wandb.proto import wandb_internal_pb2 as messages

from retrain_backends.config import LoggingConfig
from retrain_backends.testing import TRACKER_CHECKS, TrackerCase
from retrain_backends.testing.trackers import check_a_killed_run_loses_no_step
from retrain_backends.tracking.figures import TRAIN_FIGURES
from retrain_backends.tracking.journal import read_evaluations, read_metrics
from retrain_backends.tracking.wandb import WandbTracker

KEY = "too-short-for-a-key"
SETTINGS = {
    "advantage_mode", "transform_mode", "condition", "model", "lora_rank", "lr", "batch_size",
    "group_size", "max_tokens", "temperature", "gtpo_beta", "hicra_alpha", "sepa_steps",
    "sepa_delay_steps", "sepa_correct_rate_gate", "max_steps", "backend", "seed",
}  # fmt: skip
RUN = """
[backend]
backend = "fake"
options = { vocab_size = 64, positions = 2 }
[model]
model = "builtin:tiny-arithmetic"
[data]
source = "arithmetic"
prompt_template = "{question}"
[reward]
type = "dying_reward.Reward"
[training]
seed = 3
max_steps = 7
save_every = 2
batch_size = 2
group_size = 4
max_tokens = 3
temperature = 1.0
[eval]
every = 3
max_examples = 4
[logging]
log_dir = "run"
wandb_project = "arithmetic"
learning_curve = false
"""
# Dies without a word after its ninth batch, the first time: in the step after the sixth, whose
# evaluation is then in the logs.
REWARD = """
import os
import pathlib
from retrain_backends.types import Verdict


class Reward:
    calls = 0

    def score(self, items):
        self.calls += 1
        if self.calls == 9 and pathlib.Path("die").exists():
            pathlib.Path("die").unlink()
            os.kill(os.getpid(), 9)
        return [Verdict(float(len(item.completion) % 2)) for item in items]
"""


HEADER = 7  # bytes before the first block, and before every piece of a record
BLOCK = 32 * 1024
LAST_PIECES = (1, 4)  # a whole record, the last piece of one


def records_of(file: Path) -> Iterator[messages.Record]:
    """The records of a `.wandb` file: LevelDB's log format behind a header."""
    data, at, whole = file.read_bytes(), HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:  # too small for a piece: padding
            at += BLOCK - at % BLOCK
            continue
        size, kind = struct.unpack_from("<HB", data, at + 4)
        whole += data[at + HEADER : at + HEADER + size]
        at += HEADER + size
        if kind in LAST_PIECES:
            record = messages.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


pytestmark = pytest.mark.slow  # each is a run with wandb's own service


@pytest.fixture
def wandb_records():
    """All records that runs below a directory wrote, by the file they are in."""

    def read(directory: Path) -> dict[Path, list[messages.Record]]:
        return {file: list(records_of(file)) for file in sorted(directory.rglob("*.wandb"))}

    return read


@pytest.fixture
def run_in(tmp_path):
    """Do a run in an empty directory, with wandb in a mode."""
    (tmp_path / "run.toml").write_text(RUN)
    (tmp_path / "dying_reward.py").write_text(REWARD)

    def run(*flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
        quiet = {"OMP_NUM_THREADS": "1", "HOME": str(tmp_path), "WANDB_MODE": "offline"}
        return subprocess.run(
            [sys.executable, "-m", "retrain_backends", "run.toml", *flags],
            cwd=tmp_path, env={**os.environ, **quiet, **variables}, capture_output=True, text=True,
            check=False, timeout=120,
        )  # fmt: skip

    return run


def history_of(records) -> list[tuple[int, dict]]:
    rows = [record.history for record in records if record.WhichOneof("record_type") == "history"]
    return [
        (
            row.step.num,
            {
                item.key or "/".join(item.nested_key): json.loads(item.value_json)
                for item in row.item
            },
        )
        for row in rows
    ]


def run_of(records):
    [run] = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    return run


def assert_complete(history, directory: Path) -> None:
    """Every row of the logs is there once, after as many steps as it has behind it."""
    assert [step for step, _ in history] == list(range(8))
    figures = dict(history)
    for row in read_metrics(directory):
        found = figures[row["step"] + 1]
        for key, name in TRAIN_FIGURES.items():
            assert found.get(name) == row.get(key), name
    evaluated = [row["step"] for row in read_evaluations(directory)]
    assert evaluated == [0, 3, 6, 7]
    assert [step for step, row in history if "eval/accuracy" in row] == evaluated


def test_a_run_is_tracked(run_in, tmp_path, wandb_records):
    flags = ["--wandb-tags", "maxrl, seed3,", "--wandb-group", "rules", "--wandb-entity", "me"]
    done = run_in(*flags, "--condition", "slow")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in done.stdout.splitlines() if "wandb" in line] == [
        line for line in done.stdout.splitlines() if line.startswith("wandb: offline; `wandb sync ")
    ]
    [records] = wandb_records(tmp_path).values()
    run = run_of(records)
    assert (run.project, run.entity, run.display_name) == ("arithmetic", "me", "slow")
    assert (run.run_group, list(run.tags)) == ("rules", ["maxrl", "seed3"])
    settings = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert settings.keys() - {"_wandb"} == SETTINGS
    assert (settings["seed"], settings["max_steps"], settings["condition"]) == (3, 7, "slow")
    history = history_of(records)
    assert_complete(history, tmp_path / "run")
    assert {name for _, row in history for name in row if name.startswith("train/")} == {
        name
        for name in TRAIN_FIGURES.values()
        if not name.startswith(("train/entropy/plan_", "train/backpressure/"))
    } | {"train/backpressure/action", "train/backpressure/regime"}


def test_a_killed_run_goes_on_as_the_same_one(run_in, tmp_path, wandb_records):
    (tmp_path / "die").touch()
    assert run_in().returncode == -9
    [killed] = wandb_records(tmp_path)
    assert len(read_metrics(tmp_path / "run")) == 6
    done = run_in("--resume", "run", "--wandb-run-name", "again")
    assert (done.returncode, done.stderr) == (0, "")
    [(file, records)] = wandb_records(tmp_path).items()
    assert file.name == killed.name  # the run's id is in the name
    assert run_of(records).display_name == "again"
    assert_complete(history_of(records), tmp_path / "run")


def test_a_longer_run_goes_on_as_the_same_one(run_in, tmp_path, wandb_records):
    assert run_in("--max-steps", "4").returncode == 0
    assert run_in("--resume", "run", "--eval-every", "7").returncode == 0
    [records] = wandb_records(tmp_path).values()
    history = history_of(records)
    assert [step for step, _ in history] == list(range(8))
    assert [step for step, row in history if "eval/accuracy" in row] == [0, 3, 4, 7]


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({}, "no key: `wandb login` stores one"),
        ({"WANDB_API_KEY": KEY}, "key"),
        ({"WANDB_MODE": "offline", "WANDB_TAGS": "x" * 65}, "Tag"),
    ],
)
def test_without_wandb_the_run_goes_on(run_in, tmp_path, variables, problem):
    done = run_in("--max-steps", "1", **{"WANDB_MODE": "online", **variables})
    assert (done.returncode, done.stderr) == (0, "")
    [line] = [line for line in done.stdout.splitlines() if "wandb" in line]
    assert line.startswith("wandb: tracking failed, the run continues without it (")
    assert problem in line
    assert KEY not in done.stdout
    assert len(read_metrics(tmp_path / "run")) == 1


def test_switched_off_by_its_own_variable(run_in, tmp_path, wandb_records):
    done = run_in("--max-steps", "1", WANDB_MODE="disabled")
    assert done.returncode == 0
    assert "wandb: switched off by WANDB_MODE" in done.stdout
    assert wandb_records(tmp_path) == {}


@pytest.mark.slow
def test_conforms(tmp_path):
    code = f"import {Path(__file__).stem} as test; test.check_offline({str(tmp_path)!r})"
    variables = {**os.environ, "HOME": str(tmp_path), "WANDB_MODE": "offline"}
    here = Path(__file__).parent
    subprocess.run([sys.executable, "-c", code], cwd=here, env=variables, check=True, timeout=240)


def check_offline(place: str) -> None:
    """The checks, in a process of their own, since wandb keeps threads and open files.

    A process cannot open a run again that it has not closed; `test_a_killed_run_...` kills one.
    """
    for check in TRACKER_CHECKS:
        if check is not check_a_killed_run_loses_no_step:
            directory = Path(place, check.__name__)
            directory.mkdir()
            received = partial(received_in, directory)
            logging = LoggingConfig(wandb_project="arithmetic")
            check(TrackerCase(WandbTracker.from_config, received, directory, logging))


def received_in(directory: Path) -> list[tuple[int, dict]]:
    wandb.teardown()  # its own process writes the file, and may be later than `finish`
    [file] = directory.rglob("*.wandb")
    return [
        (step, {name: value for name, value in row.items() if not name.startswith("_")})
        for step, row in history_of(records_of(file))
    ]
