import pytest

from retrain_backends.config import load_command_line, read_arguments
from retrain_backends.config.describe import fields_by_path
from retrain_backends.config.flags import flag_fields
from retrain_backends.config.other_tools import ABSENT, KEYS, known_key, why_absent
from retrain_backends.errors import ConfigError


def test_every_key_of_the_table_has_a_flag():
    assert [path for path in KEYS if not fields_by_path()[path].flag] == []


def test_no_word_is_there_twice_or_a_flag_of_ours():
    words = [word for _, text in [*KEYS.items(), *ABSENT] for word in text.split()]
    assert len(set(words)) == len(words)
    assert [word for word in words if word.replace("_", "-") in flag_fields()] == []


@pytest.mark.parametrize(
    ("word", "path"),
    [
        ("--learning-rate", "training.lr"),
        ("--Learning_Rate", "training.lr"),
        ("actor_rollout_ref.rollout.n", "training.group_size"),
        ("+trainer.total_training_steps", "training.max_steps"),
        ("actor_rollout_ref.actor.optim.lr", "training.lr"),
        ("n", None),
    ],
)
def test_known_keys(word, path):
    assert known_key(word) == path


def test_what_there_is_not():
    assert why_absent("algorithm.kl_ctrl.kl_coef") == why_absent("--kl-coef")
    assert why_absent("--lr") is None


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--learning-rate 1e-3", "--learning-rate: unknown flag; here it is `--lr 1e-3`"),
        ("--num-generations=8", "--num-generations: unknown flag; here it is `--group-size 8`"),
        ("--output-dir out", "--output-dir: unknown flag; here it is `--log-dir out`"),
        ("--lora_r 8", "--lora_r: unknown flag; here it is `--lora-rank 8`"),
        ("--model_name_or_path m", "--model_name_or_path: unknown flag; here it is `--model m`"),
        (
            "--rollout_batch_size 4",
            "--rollout_batch_size: unknown flag; here it is `--batch-size 4`: prompts per step, "
            "each with --group-size completions",
        ),
        (
            "--max_completion_length",
            "--max_completion_length: unknown flag; here it is `--max-tokens 2048`",
        ),
        (
            "--adv_estimator gae",
            "--adv_estimator: unknown flag; here it is `--advantage-mode maxrl`",
        ),
        (
            "--num_train_epochs 3",
            "--num_train_epochs: unknown flag; a run is counted in steps of --batch-size prompts, "
            "not in epochs: `--max-steps N`",
        ),
        (
            "--beta 0.1",
            "--beta: unknown flag; there is no KL term and no reference model in this version; did "
            "you mean --gtpo-beta?",
        ),
        ("--max_steps 3", "--max_steps: unknown flag; did you mean --max-steps?"),
        ("training.lr=1", "training.lr=1: a key is given as a flag; here it is `--lr 1`"),
        ("lr=1", "lr=1: a key is given as a flag; here it is `--lr 1`"),
        ("optim.lr=1", "optim.lr=1: a key is given as a flag; here it is `--lr 1`"),
        ("zzz=1", "zzz=1: a key is given as a flag; `retrain flags` lists them all"),
    ],
)
def test_a_hint_shows_our_spelling(words, line):
    assert read_arguments(words.split()).problems == [line]


def test_a_file_with_an_equals_sign_is_a_file(tmp_path):
    (tmp_path / "lr=1").touch()
    assert read_arguments([str(tmp_path / "lr=1"), "b=1.toml"]).problems == []


def test_keys_of_a_file_are_translated_too(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text("num_train_epochs = 1\n[training]\nlearning_rate = 1.0\nkl_coef = 0.1\n")
    with pytest.raises(ConfigError) as told:
        load_command_line([str(file)])
    found = [line.removeprefix(f"{file}: ") for line in told.value.problems]
    assert sorted(found) == [
        "[training] kl_coef is an unknown key; there is no KL term and no reference model in this "
        "version",
        "[training] learning_rate is an unknown key; here it is lr in [training]",
        "num_train_epochs is outside of any table; a run is counted in steps of --batch-size "
        "prompts, not in epochs: `--max-steps N`",
    ]
