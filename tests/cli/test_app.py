import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from retrain_backends.config import RunConfig, load_config, sections
from retrain_cli import __version__
from retrain_cli.app import retrain as command_line

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from retrain_cli.app import main; main()"]


def commands():
    return list(command_line.commands)


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_teaches(retrain, flag):
    code, page, errors = retrain(flag)
    assert (code, errors) == (0, "")
    words = ["retrain my.toml --lr 1e-4", "--advantage-mode", "--group-size", "retrain flags"]
    assert all(word in page for word in [*words, *commands()])


def test_help_of_a_run_is_the_same_page(retrain):
    page = retrain("--help")
    assert retrain("run", "--help") == page
    assert retrain("my.toml", "--lr", "1", "--help") == page


def test_help_has_no_colours_and_fits_when_it_is_no_terminal(retrain):
    _, page, _ = retrain("--help")
    assert "\x1b" not in page
    assert max(map(len, page.splitlines())) <= 100


def test_help_loads_nothing_heavy():
    program = """
import atexit, sys
heavy = {"torch", "transformers", "datasets", "peft", "numpy", "matplotlib", "httpx", "pydantic"}
atexit.register(lambda: sys.exit(print(sorted(heavy & set(sys.modules)))))
from retrain_cli.app import main
main(["--help"])
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines()[-1] == "[]"


def test_version(retrain):
    assert retrain("--version") == (0, f"retrain {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "there is no retrain.toml in this directory; `retrain init` writes one, `retrain"),
        (["--lr", "1"], "there is no retrain.toml in this directory; `retrain init` writes one,"),
        (["--model", "m"], "there is no retrain.toml in this directory; `retrain init` writes"),
        (["a.toml"], "a.toml: no such file"),
        (["./a"], "a: no such file"),
        (["schem"], "schem: neither a file nor a command; did you mean `retrain schema`?"),
        (["zzz"], "zzz: neither a file nor a command; the commands are run, campaign, "),
        (["flags", "zzz"], "zzz: no flag mentions it; `retrain flags` lists them all"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(retrain, arguments, line):
    code, output, errors = retrain(*arguments)
    assert (code, output) == (2, "")
    assert errors.startswith(f"error: {line}")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [["a.toml", "--lrr", "1"], ["--lrr", "1", "a.toml"], ["run", "a.toml", "--lrr=1"]],
)
def test_every_mistake_is_a_line(here, retrain, arguments):
    (here / "a.toml").write_text("[training]\nlr = 'x'\n[trainig]\n")
    code, _, errors = retrain(*arguments)
    assert code == 2
    assert errors.splitlines() == [
        "error: --lrr: unknown flag; did you mean --lr?",
        'error: a.toml: [training] lr is `"x"`; it must be a number >= 0',
        "error: a.toml: [trainig] is an unknown table; did you mean [training]?",
    ]


def test_a_word_that_is_a_file_is_read(here, retrain):
    (here / "settings").write_text("lr")
    assert "expected '='" in retrain("settings")[2]


def test_debug_adds_the_traceback(retrain):
    code, _, errors = retrain("a.toml", "--debug")
    assert code == 2
    assert errors.startswith("Traceback")
    assert errors.splitlines()[-1] == "error: a.toml: no such file"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["schema", "--zzz"],
            "no such option '--zzz'; `retrain schema --help` lists its arguments",
        ),
        (["resume-check"], "missing argument 'DIRECTORY'; `retrain resume-check --help` lists"),
        (["rewards", "chek"], "no such command 'chek'"),
        (["status", "--every", "0"], "invalid value for '--every': 0.0 is not in the range"),
    ],
)
def test_a_mistake_that_click_finds_is_one_line_too(retrain, arguments, line):
    code, output, errors = retrain(*arguments)
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert errors.startswith(f"error: {line}")


def test_words_of_other_tools_are_translated(retrain):
    words = ["training.lr=1e-3", "--num_generations", "8", "--kl-coef", "0.1"]
    code, _, errors = retrain("--model", "m", "--data-source", "arithmetic", *words)
    assert code == 2
    assert errors.splitlines() == [
        "error: training.lr=1e-3: a key is given as a flag; here it is `--lr 1e-3`",
        "error: --num_generations: unknown flag; here it is `--group-size 8`",
        "error: --kl-coef: unknown flag; there is no KL term and no reference model in this "
        "version",
    ]


def test_flags_alone_are_a_run(here, retrain):
    words = "--model builtin:tiny-arithmetic --data-source arithmetic --backend fake --seed 1"
    options = ["--backend-options", '{"vocab_size": 60}', "--max-tokens", "4", "--max-steps", "2"]
    code, _, errors = retrain(*words.split(), *options)
    assert code == 0, errors
    assert len((here / "logs/train/metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.skipif(not Path("/dev/stdin").exists(), reason="needs /dev/stdin")
def test_an_interrupt_exits_130():
    command = [*COMMAND, "/dev/stdin"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        # More than fits in a pipe, so that it is written once the command reads it.
        process.stdin.write(b"#" * (1 << 17))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert (process.returncode, errors) == (130, b"")


def test_schema_is_json_schema(retrain):
    code, text, _ = retrain("schema")
    assert code == 0
    assert "training" in json.loads(text)["properties"]


def test_flags_lists_every_flag(retrain):
    _, page, _ = retrain("flags")
    flags = [f"--{field.flag}" for s in sections() for field in s.fields if field.flag]
    assert set(flags) <= set(page.split())


def test_flags_of_one_subject(retrain):
    _, page, _ = retrain("flags", "wandb")
    assert "--wandb-tags" in page
    assert "--group-size" not in page


def test_init_writes_a_file_that_loads(here, retrain):
    code, output, _ = retrain("init")
    assert (code, output) == (0, "Wrote retrain.toml. Start training with: retrain\n")
    config = load_config(here / "retrain.toml")
    assert config.model.model == "builtin:tiny-arithmetic"
    assert config != RunConfig()


def test_init_overwrites_nothing(here, retrain):
    (here / "retrain.toml").touch()
    code, _, errors = retrain("init")
    assert (code, errors) == (2, "error: retrain.toml: exists already; `retrain` runs it\n")


def test_init_in_a_missing_directory(retrain):
    code, _, errors = retrain("init", "no/where.toml")
    assert code == 2
    assert errors == "error: no/where.toml: cannot be written (No such file or directory)\n"


def test_the_readme_names_every_command():
    readme = (ROOT / "packages" / "retrain-cli" / "README.md").read_text(encoding="utf-8")
    assert all(f"`retrain {name}" in readme for name in commands() if name != "run")
