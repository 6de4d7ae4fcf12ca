import pytest

from retrain_backends.config import load_command_line, read_arguments, sections

SHORT = """
    --seed --lr --batch-size --group-size --max-steps --lora-rank --log-dir --advantage-mode
    --transform-mode --wandb-project --wandb-entity --wandb-group --wandb-tags --wandb-run-name
    --resume
"""


def overrides(*arguments):
    read = read_arguments(arguments)
    assert read.problems == []
    return read.overrides


def problem(*arguments):
    (line,) = read_arguments(arguments).problems
    return line


@pytest.mark.parametrize("flag", SHORT.split())
def test_the_short_flags_exist(flag):
    assert len(overrides(f"{flag}=1")) == 1


def test_no_two_keys_share_a_flag():
    flags = [field.flag for section in sections() for field in section.fields if field.flag]
    assert len(set(flags)) == len(flags)


@pytest.mark.parametrize(
    "field", [f for s in sections() for f in s.fields if f.flag], ids=lambda field: field.path
)
def test_every_key_has_a_flag_and_one_with_its_table(field):
    long_flag = "--" + field.path.replace(".", "-").replace("_", "-")
    assert list(overrides(f"--{field.flag}=x")) == [field.path]
    assert list(overrides(f"{long_flag}=x")) == [field.path]


@pytest.mark.parametrize(
    ("arguments", "path", "value"),
    [
        (["--lr", "1e-3"], "training.lr", 1e-3),
        (["--lr=1e-3"], "training.lr", 1e-3),
        (["--training-lr", "1e-3"], "training.lr", 1e-3),
        (["--seed", "-1"], "training.seed", -1),
        (["--seed", "x"], "training.seed", "x"),
        (["--lr", "1", "--lr", "2"], "training.lr", 2.0),
        (["--resume", "logs/a"], "resume.from", "logs/a"),
        (["--wandb-tags", "a,b"], "logging.wandb_tags", "a,b"),
        (["--wandb-run-name="], "logging.wandb_run_name", ""),
        (["--wandb-run-name=--x"], "logging.wandb_run_name", "--x"),
        (["--data-shuffle"], "data.shuffle", True),
        (["--data-shuffle", "false"], "data.shuffle", False),
        (["--data-shuffle=false"], "data.shuffle", False),
        (["--no-data-shuffle"], "data.shuffle", False),
        (["--campaign-seeds", "1,2"], "campaign.seeds", [1, 2]),
        (["--campaign-seeds", "[1, 2]"], "campaign.seeds", [1, 2]),
        (["--campaign-seeds", ""], "campaign.seeds", []),
        (["--campaign-seeds", "1;2"], "campaign.seeds", "1;2"),
        (["--backend-options", '{"a": 1}'], "backend.options", '{"a": 1}'),
    ],
)
def test_values(arguments, path, value):
    assert overrides(*arguments) == {path: value}


def test_a_flag_that_is_true_or_false_does_not_swallow_the_file():
    read = read_arguments(["--prefix-caching", "run.toml"])
    assert (read.paths, read.overrides) == (["run.toml"], {"inference.prefix_caching": True})


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--lrr", "3"], "--lrr: unknown flag; did you mean --lr?"),
        (["--batch_size=3"], "--batch_size: unknown flag; did you mean --batch-size?"),
        (["--training.lr=3"], "--training.lr: unknown flag; did you mean --training-lr?"),
        (["-lr", "3"], "-lr: unknown flag; did you mean --lr?"),
        (["--judge-model", "m"], "--judge-model: unknown flag; did you mean --reward-judge-model?"),
        (
            ["--steps", "9"],
            "--steps: unknown flag; did you mean --max-steps or --sepa-steps or "
            "--sepa-delay-steps?",
        ),
        (["--qqqq"], "--qqqq: unknown flag; `retrain flags` lists them all"),
        (["--lr"], "--lr: needs a value, a number >= 0"),
        (["--lr", "--seed=1"], "--lr: needs a value, a number >= 0"),
        (["--no-lr"], "--no-lr: unknown flag; --lr takes a number >= 0"),
        (["--log-dir", "\udcff"], "--log-dir: the value is not UTF-8 text"),
    ],
)
def test_wrong_flags(arguments, line):
    assert problem(*arguments) == line


def test_the_value_of_an_unknown_flag_is_not_a_file_but_a_file_is():
    assert read_arguments(["--lrr", "3", "run.toml"]).paths == ["run.toml"]
    assert read_arguments(["--verbose", "run.toml"]).paths == ["run.toml"]


def test_an_optional_table_can_be_left_out(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[campaign]\nseeds = [1]\n[squeeze]\n")
    config = load_command_line([str(path), "--no-campaign", "--no-squeeze"])
    assert (config.campaign, config.squeeze) == (None, None)


def test_flags_of_a_command_are_read_among_the_others():
    own = {"--from": True, "--json": False}
    read = read_arguments(["--from", "logs", "a.toml", "--json", "--lr=1"], own)
    assert read.own == {"--from": "logs", "--json": True}
    assert (read.paths, read.overrides, read.problems) == (["a.toml"], {"training.lr": 1.0}, [])
    assert read_arguments(["--from=logs"], own).own == {"--from": "logs"}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--from", "--from: needs a value"),
        ("--from=", "--from: needs a value"),
        ("--json=1", "--json: takes no value"),
        ("--fro x", "--fro: unknown flag; did you mean --from?"),
    ],
)
def test_mistakes_in_flags_of_a_command(words, line):
    assert read_arguments(words.split(), {"--from": True, "--json": False}).problems == [line]


@pytest.mark.parametrize("words", ["--resume", "--resume a.toml", "a.toml --resume --lr 1"])
def test_resume_without_a_directory(words):
    read = read_arguments(words.split())
    assert (read.resume_alone, "resume.from" in read.overrides, read.problems) == (True, False, [])
