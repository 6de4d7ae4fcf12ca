"""Runs and a campaign against a Tinker-API server that others wrote.

One run is killed, resumed and read by most tests. Of the server nothing is asserted that its makers
do not promise, such as the scale of its loss.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from itertools import accumulate

import pytest
import tomli_w

from retrain_backends.tinker.saved import SavedTrainer
from retrain_squeeze import analyze_adapter

STEPS, SAVE_EVERY = 12, 3
KILLED_AFTER = 5  # steps, two of which are done again
AT_ONCE = 2
PATIENCE_S = 600

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real_server,
    pytest.mark.skipif(
        sys.version_info < (3, 11, 4), reason="SkyRL 0.3.0 unpacks archives as Python 3.11.4 does"
    ),
]


def settings(server, model, directory):
    """The bundled model learns to think before it answers, on answers that are right or wrong."""
    return {
        "backend": {
            "backend": "tinker",
            "throttle_dir": str(directory / "throttle"),
            "max_concurrent": AT_ONCE,
            # The server may take a step before its gradient when both come together.
            "options": {"download_adapter": True, "wait_for_gradient": True},
        },
        "model": {"model": str(model), "base_url": server.url, "lora_rank": 8},
        "data": {"source": "arithmetic", "prompt_template": "{question}"},
        "algorithm": {"advantage_mode": "grpo", "transform_mode": "none"},
        "training": {
            "seed": 3,
            "max_steps": STEPS,
            "batch_size": 4,
            "group_size": 8,
            "max_tokens": 32,
            "temperature": 1.0,
            "lr": 5e-3,
            "save_every": SAVE_EVERY,
        },
        "logging": {"log_dir": str(directory / "run")},
    }


def start(python, arguments, directory, name="output"):
    """`python -m retrain_backends` in a session of its own, with its output in a file."""
    with (directory / name).open("wb") as output:
        return subprocess.Popen(
            [python, "-m", "retrain_backends", *map(str, arguments)],
            cwd=directory,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def finish(process, directory, name="output"):
    """Exit code and output of what `start` started."""
    try:
        code = process.wait(PATIENCE_S)
    finally:
        kill(process)
    return code, (directory / name).read_text("utf-8")


def kill(process):
    """With the processes that it started, if it is still there."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def rows(run):
    file = run / "metrics.jsonl"
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    return [json.loads(line) for line in lines]


def kill_when(process, ready):
    """Kill with SIGKILL as soon as it is ready; whether it was still running then."""
    deadline = time.monotonic() + PATIENCE_S
    while not ready() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    was_running = process.poll() is None
    kill(process)
    return was_running


@pytest.fixture(scope="module")
def trained(tinker_server, model, client_python, tmp_path_factory):
    """The directory of a run that was killed in the middle and resumed."""
    directory = tmp_path_factory.mktemp("trained")
    (directory / "run.toml").write_text(tomli_w.dumps(settings(tinker_server, model, directory)))
    run = directory / "run"
    first = start(client_python, ["run.toml"], directory)
    was_running = kill_when(first, lambda: len(rows(run)) >= KILLED_AFTER)
    assert was_running, (directory / "output").read_text("utf-8")
    assert len(rows(run)) < STEPS
    (directory / "killed").write_text(server_time())
    resumed = start(client_python, ["--resume", run], directory, "resumed")
    code, output = finish(resumed, directory, "resumed")
    assert code == 0, output
    return run


def test_the_client_has_no_torch(client_python):
    found = subprocess.run(
        [client_python, "-c", "import tinker, retrain_backends.tinker.backend, torch"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'torch'"


def test_sampler_and_trainer_agree(trained):
    distances = [row["mean_abs_logprob_diff"] for row in rows(trained)]
    assert distances[0] < 1e-4
    assert max(distances) < 1e-4
    assert all(row["engine"] == "tinker" for row in rows(trained))


def test_the_probe_finds_what_the_server_returns(trained):
    probe = json.loads((trained / "metadata.json").read_text("utf-8"))["probe"]
    assert (probe["logprobs"], probe["adapter"], probe["defects"]) == ("raw", "active", [])


def test_the_reward_rises(trained):
    rewards = [row["mean_reward"] for row in rows(trained)]
    assert sum(rewards[-4:]) / 4 > sum(rewards[:2]) / 2 + 0.15


def test_every_step_is_logged_once_and_the_resumption_measured(trained):
    assert [row["step"] for row in rows(trained)] == list(range(STEPS))
    metadata = json.loads((trained / "metadata.json").read_text("utf-8"))
    (resumed,) = metadata["resumed"]
    assert resumed["after_steps"] == SAVE_EVERY
    assert resumed["resume_fidelity"] in {"exact", "approximate", "cold"}
    assert "log-probs of the saved policy differ by" in resumed["resume_fidelity_reason"]


def test_the_state_stays_with_the_server(trained):
    state = json.loads((trained / "trainer_state.json").read_text("utf-8"))
    assert state["remote"].startswith("tinker://")


def test_tokens_are_counted_and_the_throttle_is_asked(trained):
    last = rows(trained)[-1]
    sampled = sum(row["tokens_sampled"] for row in rows(trained))
    assert last["sampled_tokens_charged_total"] >= sampled
    assert last["prompt_tokens_charged_total"] > 0
    assert last["trained_tokens_charged_total"] > 0
    assert last["queue_s"] > 0


def server_time():
    """Now, as the server writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def executed_steps(server, since):
    """The optimiser steps that the server has been asked for, by model."""
    with closing(sqlite3.connect(server.database)) as database:
        return database.execute(
            "select count(*) from futures where request_type = 'OPTIM_STEP' and created_at > ?"
            " group by model_id order by min(created_at)",
            [since],
        ).fetchall()


def most_in_flight(server, since):
    """Of sampling, by the server's own record of when each request came and was answered."""
    with closing(sqlite3.connect(server.database)) as database:
        times = database.execute(
            "select created_at, completed_at from futures"
            " where request_type = 'SAMPLE' and created_at > ?",
            [since],
        ).fetchall()
    changes = sorted([(came, 1) for came, _ in times] + [(done, -1) for _, done in times])
    return max(accumulate(change for _, change in changes))


def test_as_many_calls_at_once_as_allowed(trained, tinker_server):
    # The server is still busy with what the killed process has asked.
    killed = (trained.parent / "killed").read_text()
    assert most_in_flight(tinker_server, killed) == AT_ONCE


def test_squeeze_reads_the_downloaded_adapter(trained):
    analysis = analyze_adapter(trained / "final")
    assert analysis.source_rank == 8
    assert 1 <= analysis.recommended_rank <= 8
    assert analysis.table[-1].mean == pytest.approx(1.0)


def test_peft_loads_the_policy_that_was_saved(trained, model):
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    base = transformers.AutoModelForCausalLM.from_pretrained(model)
    adapted = peft.PeftModel.from_pretrained(base, trained / "final")
    saved = SavedTrainer.read(max(trained.glob("checkpoints/*/trainer"))).reference
    assert saved.completions
    for prompt, completion, expected in zip(
        saved.prompts, saved.completions, saved.logprobs, strict=True
    ):
        tokens = torch.tensor([*prompt, *completion])
        with torch.no_grad():
            table = adapted(tokens[None]).logits[0].log_softmax(-1)
        found = table[range(len(prompt) - 1, len(tokens) - 1), completion].tolist()
        assert found == pytest.approx(expected, abs=1e-3)
    tokenizer = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert {path.name for path in (trained / "final").iterdir()} == tokenizer | {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


@pytest.fixture
def short(tinker_server, model, tmp_path):
    """`short(python, *flags)` starts a run of one step in `tmp_path`; its output gets the name."""
    (tmp_path / "run.toml").write_text(tomli_w.dumps(settings(tinker_server, model, tmp_path)))
    quick = ["--max-steps", "1", "--health-probe", "off", "--backend-options", "{}"]

    begun = []

    def begin(python, *flags, name="output"):
        begun.append(start(python, ["run.toml", *quick, *flags], tmp_path, name))
        return begun[-1]

    yield begin
    for process in begun:
        kill(process)


def test_processes_share_the_throttle(short, client_python, tinker_server, tmp_path):
    since = server_time()
    both = {name: short(client_python, "--log-dir", name, name=f"{name}.txt") for name in "ab"}
    for name, process in both.items():
        code, output = finish(process, tmp_path, f"{name}.txt")
        assert code == 0, output
    assert most_in_flight(tinker_server, since) <= AT_ONCE
    waited = [row["queue_s"] for name in both for row in rows(tmp_path / name)]
    assert min(waited) > 0


def test_the_adapter_stays_with_the_server_unless_it_is_wanted(short, client_python, tmp_path):
    code, output = finish(short(client_python), tmp_path)
    assert code == 0, output
    assert "adapter: tinker://" in output
    assert not (tmp_path / "run/final").exists()


def test_a_model_that_the_server_does_not_have(short, client_python, model, tmp_path):
    code, output = finish(short(client_python, "--model", "builtin:tiny-arithmetic"), tmp_path)
    assert code == 2
    error = output.splitlines()[-1]
    assert error.startswith("error: model.model: http://127.0.0.1:")
    assert error.endswith(f"it has `{model}`")
    assert not (tmp_path / "run").exists()


def test_an_sdk_that_is_too_new_is_told_which_one_to_install(short, tmp_path):
    code, output = finish(short(sys.executable), tmp_path)
    assert code == 2
    told = [line for line in output.splitlines() if line.startswith("error: ")]
    assert [line.endswith("(tinker==0.24.1 for SkyRL 0.3.0)") for line in told] == [True]


def test_a_step_that_was_executed_twice_ends_the_run(
    relay, tinker_server, model, client_python, tmp_path
):
    since = server_time()
    given = settings(relay, model, tmp_path)
    given["training"].update(max_steps=4, save_every=2)
    (tmp_path / "run.toml").write_text(tomli_w.dumps(given))
    code, output = finish(start(client_python, ["run.toml"], tmp_path), tmp_path)
    assert code == 1, output
    error = output.splitlines()[-1]
    assert error.startswith(f"error: step 2: {relay.url} has taken an optimiser step without")
    assert "`retrain --resume` continues from the last checkpoint, tinker://" in error
    run = tmp_path / "run"
    assert [row["step"] for row in rows(run)] == [0, 1]
    assert all(row["grad_norm"] > 0 for row in rows(run))
    assert executed_steps(tinker_server, since) == [(4,)]
    resumed = start(client_python, ["--resume", run], tmp_path, "resumed")
    code, output = finish(resumed, tmp_path, "resumed")
    assert code == 0, output
    assert [row["step"] for row in rows(run)] == [0, 1, 2, 3]


@pytest.fixture
def campaign(tinker_server, model):
    """Two conditions under two seeds, two runs at a time, which share the calls."""
    rules = [("grpo", "none"), ("maxrl", "none")]
    return {
        "backend": {
            "backend": "tinker",
            "max_concurrent": 3,
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
        "squeeze": {"target_ranks": [1, 2, 4, 8]},
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
    manifest = json.loads((directory / "manifest.json").read_text("utf-8"))
    runs = manifest["runs"]
    assert sorted(run["name"] for run in runs) == [
        "grpo+none_s1",
        "grpo+none_s2",
        "maxrl+none_s1",
        "maxrl+none_s2",
    ]
    assert all(run["status"] == "done" for run in runs)
    assert all(run["adapter"].startswith("tinker://") for run in runs)
    assert list((directory / "tinker_throttle").iterdir())
    assert manifest["squeeze"]["adapter"] in [run["adapter"] for run in runs]
    assert manifest["squeeze"]["source_rank"] == 8
    for run in runs:
        lines = (directory / run["run_dir"] / "metrics.jsonl").read_text("utf-8").splitlines()
        assert [json.loads(line)["step"] for line in lines] == [0, 1]
