import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from retrain_backends.config import LoggingConfig, ModelConfig, RunConfig, SqueezeConfig, sections
from retrain_squeeze import config as squeeze_config
from retrain_squeeze.load import OF_TRAINING
from retrain_squeeze.problems import allowed


@pytest.fixture
def adapter(here):
    """An adapter of rank 2, in `adapter` of the working directory."""
    (here / "adapter").mkdir()
    factors = {"A": np.eye(2, 6, dtype="f"), "B": np.diag([2, 1]).astype("f")}
    save_file(
        {f"base_model.model.q.lora_{x}.weight": factor for x, factor in factors.items()},
        here / "adapter" / "adapter_model.safetensors",
    )
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q"]}
    (here / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    return "adapter"


def test_both_packages_know_the_same_table():
    ours, theirs = squeeze_config.SqueezeConfig, SqueezeConfig
    assert ours.model_json_schema() == theirs.model_json_schema()  # keys, defaults, descriptions
    (section,) = [section for section in sections() if section.name == "squeeze"]
    words = {field.key: field.allowed for field in section.fields}
    assert words == {key: allowed("squeeze", key) for key in words}


@pytest.mark.parametrize(("name", "theirs"), [("model", ModelConfig), ("logging", LoggingConfig)])
def test_of_other_tables_no_key_is_unknown(name, theirs):
    ours = squeeze_config.SqueezeJob.model_fields[name].annotation.model_fields
    assert {*ours, *OF_TRAINING[name]} == set(theirs.model_fields)


def test_a_file_that_names_an_adapter_trains_nothing(here, adapter, retrain):
    (here / "squeeze.toml").write_text(f"[squeeze]\nadapter_path = '{adapter}'\n")
    code, page, errors = retrain("squeeze.toml")
    assert (code, errors) == (0, "")
    assert "recommended: rank 2, the adapter's own" in page
    assert not (here / "logs").exists()


def test_flags_beat_the_file_and_json_is_alone(here, adapter, retrain):
    (here / "squeeze.toml").write_text(f"[squeeze]\nadapter_path = '{adapter}'\n")
    arguments = ["squeeze.toml", "--json", "--squeeze-min-variance-retention", "0.8"]
    code, page, errors = retrain(*arguments)
    assert (code, errors) == (0, "")
    assert json.loads(page)["recommended_rank"] == 1


def test_the_command_takes_the_adapter(adapter, retrain):
    code, page, _ = retrain("squeeze", adapter, "--min-variance-retention", "0.8", "--json")
    assert (code, json.loads(page)["recommended_rank"]) == (0, 1)


def test_the_command_has_its_own_help(retrain):
    code, page, _ = retrain("squeeze", "--help")
    assert code == 0
    assert page.startswith("usage: retrain squeeze PATH [--flag value]...")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["squeeze", "nowhere"], "nowhere: no such directory or file"),
        (["squeeze", "adapter", "--target-ranks", "3"], "target_ranks holds `3`, but the rank of"),
        (
            ["squeeze.toml", "--lr", "1"],
            "squeeze.toml: [squeeze] adapter_path asks for an analysis, which trains nothing, but "
            "there is also [training]; leave out adapter_path to analyse the adapter that the run",
        ),
        (
            ["squeeze.toml", "--squeeze-output-path", "adapter"],
            "--squeeze-output-path is `adapter`, which is a directory with files in it; name",
        ),
        (
            ["train.toml", "--squeeze-compress-to", "40", "--squeeze-output-path", "out"],
            "squeeze.compress_to: `40`, but the adapter that is trained has rank 16",
        ),
        (
            ["train.toml", "--squeeze-output-path", "adapter"],
            "--squeeze-output-path is `adapter`, which is a directory with files in it; name",
        ),
        (["train.toml", "--json"], "--json: only an analysis is told as JSON"),
    ],
)
def test_mistakes_are_one_line_before_anything_begins(here, adapter, retrain, arguments, line):
    (here / "squeeze.toml").write_text(f"[squeeze]\nadapter_path = '{adapter}'\n")
    (here / "train.toml").write_text("[model]\nlora_rank = 16\n[training]\nmax_steps = 1\n")
    code, page, errors = retrain(*arguments)
    assert (code, page) == (2, "")
    assert errors.startswith(f"error: {line}")
    assert errors.count("\n") == 1
    assert not (here / "logs").exists()


@pytest.mark.slow
def test_a_run_squeezes_what_it_has_trained(here, retrain):
    retrain("init")
    short = [
        "--seed",
        "1",
        "--max-steps",
        "2",
        "--batch-size",
        "4",
        "--group-size",
        "4",
        "--eval-every",
        "0",
    ]
    options = ["--devices", "cpu", "--lora-rank", "4", "--squeeze-output-path", "small"]
    code, page, errors = retrain(*short, *options, "--squeeze-compress-to", "2")
    assert code == 0, errors
    assert "How much of logs/first/final a rank keeps" in page
    assert "adapter: small (rank 2, " in page
    assert json.loads((here / "small" / "adapter_config.json").read_text())["r"] == 2
    assert (here / "logs" / "first" / "squeeze.png").is_file()
    assert "[squeeze]" in (here / "logs" / "first" / "config.toml").read_text()


def test_training_alone_refuses_to_drop_the_table(here):
    from retrain_backends.__main__ import main  # noqa: PLC0415

    (here / "train.toml").write_text("[squeeze]\n")
    assert main(["train.toml"]) == 2


def test_the_section_is_part_of_a_run():
    assert RunConfig.model_validate({"squeeze": {}}).squeeze == SqueezeConfig()
