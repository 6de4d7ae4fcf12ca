import json
from dataclasses import fields

import numpy as np
import pytest
from safetensors.numpy import save_file

from retrain_backends.config import LoggingConfig, ModelConfig, RunConfig, SqueezeConfig
from retrain_squeeze import SqueezeSettings


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


def test_settings_of_the_library_are_keys_of_the_file():
    keys = {
        key: field.get_default()
        for section in (SqueezeConfig, ModelConfig, LoggingConfig)
        for key, field in section.model_fields.items()
    }
    settings = {field.name: field.default for field in fields(SqueezeSettings)[1:]}
    assert settings == {name: keys[name] for name in settings}
    assert SqueezeConfig.model_fields.keys() <= {"adapter_path", *settings}


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


def test_the_flags_of_the_command_have_no_table_in_front(adapter, retrain):
    flags = ["--min-variance-retention", "1", "--target-ranks", "1,2", "--squeeze-source-rank=2"]
    code, page, _ = retrain("squeeze", *flags, "--json", adapter)
    assert (code, [row["rank"] for row in json.loads(page)["table"]]) == (0, [1, 2])


def test_the_command_takes_a_file(here, adapter, retrain):
    (here / "squeeze.toml").write_text(f"[squeeze]\nadapter_path = '{adapter}'\n")
    code, page, _ = retrain("squeeze", "squeeze.toml", "--json", "--min-variance-retention=0.8")
    assert (code, json.loads(page)["recommended_rank"]) == (0, 1)


def test_all_mistakes_of_the_command_at_once(adapter, retrain):
    wrong = ["--devic", "cpu", "--target-ranks", "2,2", "--source-rank", "x"]
    assert retrain("squeeze", adapter, *wrong)[2].splitlines() == [
        "error: --devic: unknown flag; did you mean --device?",
        "error: --source-rank is `x`; it must be an integer >= 0",
        "error: --target-ranks is `[2, 2]`; it must be a list of integers >= 1, without repetition",
    ]


def test_the_directory_of_a_run_leads_to_its_adapter(here, adapter, retrain):
    errors = retrain("squeeze", str(here))[2]
    assert errors.startswith(f"error: ADAPTER is `{here}`, which is not an adapter; did you")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["squeeze"],
            "name the directory of an adapter or a TOML file; see `retrain squeeze --help`",
        ),
        (["squeeze", "nowhere"], "nowhere: no such directory or file"),
        (["squeeze", "no.toml"], "no.toml: no such file"),
        (["squeeze", "adapter", "other"], "one adapter or file at a time: adapter, other"),
        (["squeeze", "adapter", "--device"], "--device: needs a value, text, not empty"),
        (["squeeze", "train.toml"], "train.toml: the table [squeeze] is missing; add it with"),
        (["squeeze", "train.toml", "--device=cpu"], "train.toml: [squeeze] adapter_path asks for"),
        (["squeeze", "adapter", "--compress-to", "4"], "--compress-to is `4`, but output_path is"),
        (["squeeze", "adapter", "--target-ranks", "3"], "target_ranks has `3`, but the rank of"),
        (
            ["squeeze.toml", "--lr", "1"],
            "squeeze.toml: [squeeze] adapter_path asks for an analysis without training, but "
            "there is also [training]; omit adapter_path to analyse the adapter that the run",
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
        (["train.toml", "--json"], "--json: only an analysis is reported as JSON"),
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
    before = (here / "small" / "adapter_model.safetensors").read_bytes()
    code, page, errors = retrain("--resume", "logs/first")  # as if killed before it exited
    assert (code, "adapter: small (rank 2, " in page) == (0, True), errors
    assert (here / "small" / "adapter_model.safetensors").read_bytes() == before


def test_training_alone_refuses_to_drop_the_table(here):
    from retrain_backends.__main__ import main  # noqa: PLC0415

    (here / "train.toml").write_text("[squeeze]\n")
    assert main(["train.toml"]) == 2


def test_the_section_is_part_of_a_run():
    assert RunConfig.model_validate({"squeeze": {}}).squeeze == SqueezeConfig()
