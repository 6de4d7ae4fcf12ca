import contextlib
import os
import subprocess
import sys

import pytest

from retrain_backends.config import RunConfig, load_command_line, load_config, load_env_file
from retrain_backends.errors import ConfigError


@pytest.fixture
def here(tmp_path):
    with contextlib.chdir(tmp_path):
        yield tmp_path


def problems(arguments):
    with pytest.raises(ConfigError) as caught:
        load_command_line(arguments)
    return list(caught.value.problems)


def test_no_file_and_no_override_is_the_defaults():
    assert load_config(None, {}) == RunConfig()


def test_a_flag_beats_the_file_and_the_file_beats_the_default(here):
    (here / "a.toml").write_text("[training]\nlr = 0.5\nbatch_size = 2\n")
    config = load_command_line(["a.toml", "--lr", "0.25"])
    assert (config.training.lr, config.training.batch_size, config.training.group_size) == (
        0.25,
        2,
        16,
    )


def test_without_a_path_retrain_toml_is_read(here):
    (here / "retrain.toml").write_text("[training]\nmax_steps = 3\n")
    assert load_command_line([]).training.max_steps == 3
    assert load_command_line(["--max-steps", "4"]).training.max_steps == 4


def test_without_a_path_and_retrain_toml_the_error_explains_how_to_start(here):
    assert problems([]) == [
        "there is no retrain.toml in this directory; `retrain init` writes one, "
        "`retrain PATH.toml` uses another file, and "
        "`retrain --model NAME --data-source NAME` needs no file"
    ]


def test_a_model_and_a_source_of_data_need_no_file(here):
    config = load_command_line(["--model", "m", "--data-source", "arithmetic", "--lr=0.5"])
    assert config == load_config(
        None, {"model.model": "m", "data.source": "arithmetic", "training.lr": 0.5}
    )
    (here / "retrain.toml").write_text("[training]\nmax_steps = 3\n")
    assert load_command_line(["--model", "m", "--data-source", "math"]).training.max_steps == 3


@pytest.mark.parametrize("words", ["--model m", "--data-source math", "--lr 1 --seed 2"])
def test_half_of_what_is_needed_is_not_enough(here, words):
    (problem,) = problems(words.split())
    assert problem.startswith("there is no retrain.toml in this directory")


def test_resume_of_a_run_needs_its_directory(here):
    (here / "a.toml").touch()
    (problem,) = problems(["a.toml", "--resume"])
    assert problem.startswith("--resume: needs the directory of a run")


def test_a_missing_file_names_a_similar_one(here):
    (here / "quickstart.toml").touch()
    assert problems(["quikstart.toml"]) == [
        "quikstart.toml: no such file; did you mean quickstart.toml?"
    ]
    assert problems(["nowhere/x.toml"]) == ["nowhere/x.toml: no such file"]


def test_a_directory_is_no_file(here):
    (here / "examples").mkdir()
    (here / "examples" / "a.toml").touch()
    assert problems(["examples"]) == [
        "examples: is a directory, not a TOML file; did you mean examples/a.toml?"
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_an_unreadable_file(here):
    (here / "a.toml").touch(mode=0)
    assert problems(["a.toml"]) == ["a.toml: cannot be read (Permission denied)"]


def test_a_path_through_a_file(here):
    (here / "a.toml").touch()
    assert problems(["a.toml/b.toml"]) == ["a.toml/b.toml: cannot be read (Not a directory)"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            b"[training]\nlr 1e-3\n",
            "a.toml, line 2, column 4: expected '=' after a key in a key/value pair: `lr 1e-3`",
        ),
        (
            b"[data]\nsource = math\n",
            "a.toml, line 2, column 10: invalid value (text needs quotes, as in key = "
            '"text"): `source = math`',
        ),
        (b"[a]\nx = 1\nx = 2\n", "a.toml, line 3, column 6: cannot overwrite a value: `x = 2`"),
        (b"x = '1", 'a.toml: expected "\'" (at end of document)'),
        (b"x = " + b"[" * 10_000, "a.toml: is nested too deeply"),
        (
            b"[backend]\noptions." + b"a." * 5000 + b"a = 1\n",
            "a.toml: [backend] options is nested more than 64 tables deep",
        ),
        (
            b"[environment.args" + b".a" * 900 + b"]\n",
            "a.toml: [environment] args is nested more than 64 tables deep",
        ),
        (
            b"x = " + b"9" * 5000,
            "a.toml: has an integer of thousands of digits; the largest is 9223372036854775807",
        ),
        (b"[a]\n# caf\xe9\n", "a.toml, line 2: is not UTF-8 text; save it as UTF-8"),
        ("[a]".encode("utf-16"), "a.toml, line 1: is not UTF-8 text; save it as UTF-8"),
    ],
)
def test_invalid_toml_is_reported_with_its_line(here, text, problem):
    (here / "a.toml").write_bytes(text)
    assert problems(["a.toml"]) == [problem]


@pytest.mark.parametrize(
    "line",
    [
        '[logging]\nlog_dir = "a\\u0000b"',
        '[environment]\nargs = {x = ["a\\u0000b"]}',
        '[environment]\nargs = {"a\\u0000b" = 1}',
        """[environment]\nargs = '{"a": "\\u0000"}'""",
    ],
)
def test_text_has_no_nul_characters(here, line):
    (here / "a.toml").write_text(line)
    table, key = line.split()[:2]
    assert problems(["a.toml"]) == [f"a.toml: {table} {key} has a NUL character; remove it"]


def test_integers_have_64_bits(here):
    (here / "a.toml").write_text(f"[training]\nbatch_size = {10**400}\nmax_steps = {2**63 - 1}\n")
    assert problems(["a.toml"]) == [
        "a.toml: [training] batch_size has more than 64 bits; use a smaller integer"
    ]


def test_a_pipe_that_may_never_end_is_not_read(here):
    os.mkfifo(here / "a.toml")
    (here / "zero.toml").symlink_to("/dev/zero")
    assert problems(["a.toml"]) == ["a.toml: is a device or a pipe, not a TOML file"]
    assert problems(["zero.toml"]) == ["zero.toml: is a device or a pipe, not a TOML file"]


def test_the_pipe_of_a_shell_is_read(here):
    reader, writer = os.pipe()
    os.write(writer, b"[training]\nseed = 5\n")
    os.close(writer)
    assert load_command_line([f"/dev/fd/{reader}"]).training.seed == 5
    os.close(reader)


def test_a_long_value_of_a_flag_is_shortened(here):
    (here / "a.toml").touch()
    (problem,) = problems(["a.toml", "--lr", "x" * 5000])
    assert problem == f"--lr is `{'x' * 80}...`; it must be a number >= 0"


def test_a_byte_order_mark_is_skipped(here):
    (here / "a.toml").write_bytes("[training]\nseed = 5\n".encode("utf-8-sig"))
    assert load_command_line(["a.toml"]).training.seed == 5


def test_mistakes_in_flags_and_file_are_reported_together(here):
    (here / "a.toml").write_text("[training]\nlr = -1\n")
    assert problems(["a.toml", "--batchsize", "3", "--seed", "x"]) == [
        "--batchsize: unknown flag; did you mean --batch-size?",
        "--seed is `x`; it must be an integer >= -1 and below 2^63",
        "a.toml: [training] lr is `-1`; it must be a number >= 0",
    ]


def test_mistakes_in_flags_are_reported_although_the_file_is_missing(here):
    assert len(problems(["a.toml", "--lr", "x"])) == 2


def test_two_files_are_one_too_many(here):
    (here / "a.toml").touch()
    assert problems(["a.toml", "b.toml"]) == ["one file at a time: a.toml, b.toml"]


def test_a_flag_can_ask_for_an_optional_table(here):
    (here / "a.toml").touch()
    config = load_command_line(["a.toml", "--campaign-seeds", "1,2"])
    assert config.campaign is not None
    assert config.campaign.seeds == (1, 2)


def test_dot_env_sets_what_is_not_set(here):
    (here / ".env").write_text("OLD=replaced\nNEW=read\n")
    (here / "a.toml").touch()
    program = """
import os
from retrain_backends.config import load_command_line
load_command_line(["a.toml"])
print(os.environ["OLD"], os.environ["NEW"])
"""
    environment = {**os.environ, "OLD": "kept"}
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert (ended.stdout, ended.stderr) == ("kept read\n", "")


@pytest.mark.parametrize("content", [b"A=1\nB=b\0c\n", b"A=1\nB\0=c\n"])
def test_dot_env_has_no_nul_character(here, content):
    (here / ".env").write_bytes(content)
    with pytest.raises(ConfigError, match=r"\.env, line 2: has a NUL character; remove it"):
        load_env_file(here / ".env")


def test_dot_env_may_be_missing_but_not_unreadable(here):
    load_env_file(here / ".env")
    (here / ".env").write_bytes(b"A=\xff\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_env_file(here / ".env")


@pytest.mark.parametrize("given", ["http://localhost:1", ["http://localhost:1"]])
def test_one_address_may_stand_without_a_list(given):
    assert load_config(None, {"inference.url": given}).inference.url == ("http://localhost:1",)


@pytest.mark.parametrize(
    "given", ["a:1", ["http://localhost:1", "b"], ["http://localhost:1", "http://localhost:1"], 1]
)
def test_what_is_no_list_of_addresses(given):
    with pytest.raises(ConfigError, match=r"^--url is "):
        load_config(None, {"inference.url": given})
