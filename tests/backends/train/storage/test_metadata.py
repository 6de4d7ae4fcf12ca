import json
import os
import subprocess
import sys

import pytest

from retrain_backends.fake import FakeBackend, FakeOptions, FakeTraining
from retrain_backends.train import train
from retrain_backends.train.storage.metadata import (
    adapter_digest,
    determinism_of,
    git_commit,
    metadata_damage,
    text_digest,
)
from retrain_backends.types import Facts, Verdict


class FirstSymbol:
    """1 for a completion that begins with the reference."""

    def score(self, items):
        return [Verdict(float(item.completion[:1] == item.example.reference)) for item in items]


class Elsewhere(FakeBackend):
    """Keeps its adapters with a service."""

    def export_adapter(self, _directory):
        return "service://adapters/1"


@pytest.fixture
def run(make_config, tmp_path):
    """`run(name, **overrides)`: the metadata and the completions of the first step of a run."""

    def start(name, **overrides):
        settings = {
            "reward.type": f"{__name__}:FirstSymbol",
            "training.max_steps": 1,
            "logging.log_dir": str(tmp_path / name),
        }
        summary = train(make_config(settings | overrides))
        generations = (summary.run_dir / "emergence/generations.jsonl").read_text()
        texts = [json.loads(line)["completion"] for line in generations.splitlines()]
        return json.loads((summary.run_dir / "metadata.json").read_text()), texts

    return start


def make(kind=FakeBackend, seed=1) -> FakeBackend:
    return kind(FakeOptions(), FakeTraining(lr=0.1), seed=seed)


def test_it_records_the_start_and_the_machine_of_a_run(run):
    metadata, _ = run("one")
    assert metadata["seed"] == 5
    assert metadata["versions"].keys() >= {"python", "retrain-core", "numpy", "transformers"}
    assert metadata["hardware"]["cores"] == os.cpu_count()
    assert metadata["hardware"]["cpu"]
    assert metadata["hardware"]["gpus"] == []
    assert metadata["determinism"]["level"] == "bitwise"
    assert metadata["determinism"]["reason"]
    assert metadata["digests"]["model"].keys() >= {"tokenizer.json"}
    assert metadata["digests"]["prompts_counted"] == 32
    assert metadata["probe"]["engine"] == "fake"
    assert metadata["probe"]["logprobs"] == "tempered"
    assert metadata["probe"]["adapter"] == "active"
    assert metadata["probe"]["defects"] == []


def test_it_records_the_variables_of_the_chat_template(run, chat_model_dir):
    given = {"model.model": chat_model_dir, "model.chat_template_kwargs": {"mood": "low"}}
    settings = {"training.max_tokens": 1, "training.batch_size": 1}
    metadata, _ = run("one", **given, **settings)
    assert metadata["chat_template_kwargs"] == {"mood": "low"}
    plain, _ = run("two", **{"model.model": chat_model_dir}, **settings)
    assert plain["chat_template_kwargs"] == {}
    assert plain["digests"]["prompts"] != metadata["digests"]["prompts"]


def test_conditions_of_one_seed_are_paired(run):
    one, first = run("one", **{"algorithm.transform_mode": "gtpo_sepa"})
    other, second = run("other", **{"algorithm.transform_mode": "none"})
    assert first == second
    assert one["digests"] == other["digests"]


def test_seeds_are_not_paired(run):
    one, first = run("one")
    other, second = run("other", **{"training.seed": 6})
    assert first != second
    assert one["digests"]["initial_adapter"] != other["digests"]["initial_adapter"]
    assert one["digests"]["prompts"] != other["digests"]["prompts"]
    assert one["digests"]["model"] == other["digests"]["model"]


def test_a_resumed_run_keeps_what_it_started_from(make_config, tmp_path):
    settings = {"reward.type": f"{__name__}:FirstSymbol", "training.save_every": 1}
    file = tmp_path / "run/metadata.json"
    train(make_config({**settings, "training.max_steps": 2}))
    before = json.loads(file.read_text())
    again = {"training.max_steps": 3, "resume.from": str(tmp_path / "run")}
    train(make_config({**settings, **again}))
    after = json.loads(file.read_text())
    [resumed] = after.pop("resumed")
    assert after.pop("digest") != before.pop("digest")
    assert after == before
    assert "damaged" not in resumed
    assert resumed["after_steps"] == 2
    assert resumed["probe"]["adapter"] in ("active", "undecided")
    assert "versions" not in resumed  # they have not changed
    assert resumed["resume_fidelity"] == "exact"
    assert resumed["resume_fidelity_reason"].startswith("the table and the state of Adam")
    state = json.loads((tmp_path / "run/trainer_state.json").read_text())
    first = json.loads((tmp_path / "run/checkpoints/step_000002/state.json").read_text())
    assert (first["resume_fidelity"], state["resume_fidelity"]) == ("", "exact")


@pytest.mark.parametrize(
    ("old", "new", "damage", "initial_adapter"),
    [
        ('"seed": 5', '"seed": 4', "metadata.json was changed (its digest differs)", True),
        ("{", "", "metadata.json cannot be read", False),
        ("digests", "dogests", "metadata.json cannot be read", False),
    ],
)
def test_damage_is_reported_and_recorded(
    make_config, tmp_path, capsys, old, new, damage, initial_adapter
):
    settings = {"reward.type": f"{__name__}:FirstSymbol", "training.save_every": 1}
    file = tmp_path / "run/metadata.json"
    train(make_config({**settings, "training.max_steps": 1}))
    file.write_text(file.read_text().replace(old, new))
    again = {"training.max_steps": 2, "resume.from": str(tmp_path / "run")}
    train(make_config({**settings, **again}))
    assert f"damaged: {damage}\n" in capsys.readouterr().out
    metadata = json.loads(file.read_text())
    [section] = metadata.get("resumed", [metadata])
    assert section["damaged"] == damage
    assert (metadata["digests"]["initial_adapter"] is not None) == initial_adapter
    assert not metadata_damage(tmp_path / "run")


def test_a_lost_file_is_written_anew_without_the_initial_adapter(make_config, tmp_path):
    settings = {"reward.type": f"{__name__}:FirstSymbol", "training.save_every": 1}
    file = tmp_path / "run/metadata.json"
    train(make_config({**settings, "training.max_steps": 1}))
    file.unlink()
    again = {"training.max_steps": 2, "resume.from": str(tmp_path / "run")}
    train(make_config({**settings, **again}))
    metadata = json.loads(file.read_text())
    assert metadata["damaged"] == "metadata.json is missing"
    assert metadata["digests"]["initial_adapter"] is None
    assert metadata["seed"] == 5


def test_no_secret_of_the_environment_is_in_it(make_config, tmp_path):
    code = (
        "import sys; from pathlib import Path; from retrain_backends.config import load_config;"
        "from retrain_backends.train import train; train(load_config(Path(sys.argv[1])))"
    )
    config = make_config({"training.max_steps": 1})
    train(config)
    toml = tmp_path / "again.toml"
    written = (tmp_path / "run/config.toml").read_text()
    toml.write_text(written.replace(str(tmp_path / "run"), str(tmp_path / "again")))
    secrets = {"HF_TOKEN": "hf_canary", "WANDB_API_KEY": "wandb_canary"}
    subprocess.run(
        [sys.executable, "-c", code, str(toml)],
        env={**os.environ, **secrets},
        check=True,
        capture_output=True,
    )
    for path in (tmp_path / "again").rglob("*"):
        assert not path.is_file() or b"_canary" not in path.read_bytes()


def test_the_adapter_passes_through_and_leaves_nothing(tmp_path):
    digests = [adapter_digest(make(seed=seed), tmp_path) for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".initial_adapter.partial").mkdir()  # of a run that was killed right here
    assert adapter_digest(make(), tmp_path) == digests[0]


def test_an_adapter_kept_elsewhere_has_no_digest(tmp_path):
    assert adapter_digest(make(Elsewhere), tmp_path) is None


def test_lists_of_texts_have_their_own_digest():
    lists = [[], [""], ["ab"], ["a", "b"], ["b", "a"], ["\udc80"]]
    assert len({text_digest(texts) for texts in lists}) == len(lists)


def test_the_commit_of_a_checkout(tmp_path):
    assert git_commit(tmp_path) is None
    assert git_commit(tmp_path / "missing") is None
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    assert git_commit(tmp_path) is None  # nothing is committed yet
    commit = ["git", *identity, "commit", "-q", "--allow-empty", "-m", "first"]
    subprocess.run(commit, cwd=tmp_path, check=True)
    assert len(git_commit(tmp_path) or "") == 40


@pytest.mark.parametrize(
    ("reward", "level", "reason"),
    [
        ("match", "seeded", "why"),
        ("judge", "not controlled", "another model judges the completions"),
        ("mine.Reward", "seeded", "why, if the reward `mine.Reward` is deterministic"),
    ],
)
def test_a_run_is_as_determined_as_its_least_determined_part(reward, level, reason):
    facts = Facts("e", (), "seeded", "why")
    assert determinism_of(reward, facts) == (level, reason)
