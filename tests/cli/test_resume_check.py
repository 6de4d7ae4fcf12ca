import json
from dataclasses import replace

import pytest

from retrain_backends.config import RunConfig, load_config
from retrain_backends.fake import FakeBackend
from retrain_backends.train import train
from retrain_backends.types import Restored

CONFIG = {
    "backend.backend": "fake",
    "model.model": "builtin:tiny-arithmetic",
    "data.source": "arithmetic",
    "training.seed": 3,
    "training.max_steps": 4,
    "training.batch_size": 2,
    "training.group_size": 4,
    "training.max_tokens": 4,
    "training.save_every": 2,
    "backend.options": {"vocab_size": 60},
    "logging.log_dir": "run",
    "logging.learning_curve": False,
}


class Approximate(FakeBackend):
    """A service that keeps its state itself."""

    capabilities = replace(
        FakeBackend.capabilities,
        trainer=replace(FakeBackend.capabilities.trainer, resume="approximate"),
    )

    def save(self, directory):
        return replace(super().save(directory), remote="service://state/7")

    def load(self, ref):
        assert ref.remote == "service://state/7"
        super().load(ref)
        return Restored("cold", "a step without a gradient moves nothing")


def config_of(**changes) -> RunConfig:
    return load_config(None, CONFIG | changes)


@pytest.fixture
def run_dir(here):
    return train(config_of()).run_dir


def facts(output: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in output.splitlines())


def test_an_exact_run(run_dir, retrain, capsys):
    capsys.readouterr()
    code, output, errors = retrain("resume-check", "run")
    assert (code, errors) == (0, "")
    table = facts(output)
    assert table["done"] == "4 of 4 steps"
    assert table["from"].startswith("step_000004: 2 files, ")
    assert table["exact"].startswith("yes: bitwise")


def test_what_was_logged_since_is_counted(run_dir, retrain, capsys):
    (run_dir / "trainer_state.json").write_bytes(
        (run_dir / "checkpoints/step_000002/state.json").read_bytes()
    )
    capsys.readouterr()
    table = facts(retrain("resume-check", "run")[1])
    assert (table["done"], table["repeated"]) == ("2 of 4 steps", "2 logged steps")


def test_damage_is_reported(run_dir, retrain, capsys):
    (run_dir / "checkpoints/step_000004/policy.npy").write_bytes(b"")
    capsys.readouterr()
    code, output, _ = retrain("resume-check", "run")
    assert code == 0
    assert facts(output)["damaged"].startswith("step_000004: policy.npy was changed (its digest")
    assert facts(output)["from"].startswith("step_000002")
    (run_dir / "checkpoints/step_000002/policy.npy").unlink()
    code, output, _ = retrain("resume-check", "run")
    assert code == 2
    assert facts(output)["resumes"].startswith("no: run: there is no intact checkpoint")


def test_an_edited_configuration_is_noticed(run_dir, retrain, capsys):
    file = run_dir / "config.toml"
    file.write_text(file.read_text().replace("group_size = 4", "group_size = 5"))
    capsys.readouterr()
    code, output, _ = retrain("resume-check", "run")
    assert code == 2
    assert "training.group_size: the run in run has 4, not 5" in facts(output)["resumes"]


def test_inexact_settings_and_versions_are_reported(run_dir, retrain, capsys):
    file = run_dir / "config.toml"
    file.write_text(file.read_text().replace('devices = "gpu:0"', 'devices = "cpu"'))
    capsys.readouterr()
    code, output, _ = retrain("resume-check", "run")
    assert code == 2
    assert (facts(output)["resumes"], facts(output)["exact"]) == (
        "yes",
        'no: backend.devices: "gpu:0" -> "cpu" changes rounding',
    )


def test_fidelity_of_a_service_is_unknown_until_it_is_resumed(here, retrain, capsys):
    train(config_of(**{"backend.backend": f"{__name__}:Approximate"}))
    capsys.readouterr()
    code, output, _ = retrain("resume-check", "run")
    table = facts(output)
    assert (code, table["resumes"], table["service"]) == (2, "yes", "service://state/7")
    assert table["exact"].startswith("unknown; measured when the run is resumed: the back")
    assert "last resume" not in table


def test_the_last_measured_fidelity_is_reported(here, retrain, capsys):
    service = {"backend.backend": f"{__name__}:Approximate"}
    train(config_of(**service))
    capsys.readouterr()
    train(config_of(**service, **{"resume.from": "run", "training.max_steps": 6}))
    assert "resume_fidelity cold: a step without a gradient" in capsys.readouterr().out
    table = facts(retrain("resume-check", "run")[1])
    assert table["last resume"] == "cold, as measured then"
    assert table["exact"].startswith("unknown; measured when")


def test_no_run_is_one_line(here, retrain):
    code, output, errors = retrain("resume-check", "nowhere")
    assert (code, output) == (2, "")
    assert errors.count("\n") == 1


def test_too_few_steps_to_prove(run_dir, retrain):
    code, _, errors = retrain("resume-check", "run", "--prove", "1")
    assert code == 2
    assert errors.startswith("error: --prove: 1; use at least 2 steps")


# Hangs once, in the middle of the steps that are to be killed.
HANGING = """
import signal, sys
from pathlib import Path
from retrain_backends.fake import FakeBackend
from retrain_backends.types import Verdict

class OddLength:
    def score(self, items):
        return [Verdict(float(len(item.completion) % 2)) for item in items]

class Hanging(FakeBackend):
    def train_step(self, batch):
        if "/second/" in sys.argv[1] and batch.step == 8 and not Path("hung").exists():
            Path("hung").touch()
            signal.pause()
        return super().train_step(batch)
"""


@pytest.mark.slow
def test_prove_kills_and_compares(here, retrain, capsys):
    (here / "hanging.py").write_text(HANGING)
    parts = {"backend.backend": "hanging:Hanging", "reward.type": "hanging:OddLength"}
    run_dir = train(config_of(**parts)).run_dir
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    capsys.readouterr()
    code, output, errors = retrain("resume-check", "run", "--prove", "8")
    assert (code, errors) == (0, "")
    assert "second: killed after step 8" in output
    assert output.endswith("proven: yes\n")
    assert "metrics.jsonl: " in output
    assert before == {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}


def test_resume_without_a_file_takes_that_of_the_run(run_dir, retrain, capsys):
    capsys.readouterr()
    code, output, errors = retrain("--resume", "run", "--max-steps", "6")
    assert (code, errors) == (0, "")
    assert "resuming after step 4, from step_000004" in output
    rows = (run_dir / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == list(range(6))
