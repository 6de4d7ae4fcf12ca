import os
import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete

from retrain_cli.app import retrain as command_line


def offered(line):
    """What the shell offers for the last word of a command line, by value and kind."""
    *words, incomplete = line.split(" ")
    shell = ShellComplete(command_line, {}, "retrain", "_RETRAIN_COMPLETE")
    return {item.value: item.type for item in shell.get_completions(words, incomplete)}


@pytest.mark.parametrize(
    "line",
    ["run --adv", "explain --adv", "--adv", "my.toml --adv", "--lr 1 --adv", "rewards check --adv"],
)
def test_keys_are_options(line):
    assert "--advantage-mode" in offered(line)


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("run --advantage-mode r", {"rloo", "reinforce_pp"}),
        ("run --advantage-mode=rl", {"rloo"}),
        ("explain --data-source a", {"arithmetic"}),
        ("campaign --campaign-executor ", {"process", "ray", "slurm"}),
        ("s", {"status", "statistics", "squeeze", "schema", "serve"}),
        ("explain --fr", {"--from"}),
        ("squeeze --target", {"--target-ranks"}),
        ("squeeze --lr", set()),
        ("run --no-data-sh", {"--no-data-shuffle"}),
        ("completion z", {"zsh"}),
    ],
)
def test_what_is_offered(line, values):
    assert set(offered(line)) == values


@pytest.mark.parametrize(
    ("line", "kind"),
    [("exa", "file"), ("run exa", "file"), ("--log-dir lo", "dir"), ("squeeze lo", "file")],
)
def test_paths_are_left_to_the_shell(line, kind):
    assert list(offered(line).values()) == [kind]


def test_a_shell_asks_the_command_itself():
    command = [sys.executable, "-c", "from retrain_cli.app import main; main()"]
    words = {"_RETRAIN_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
    done = subprocess.run(
        command,
        env={**os.environ, **words, "COMP_WORDS": "retrain run --adv"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "plain,--advantage-mode" in done.stdout.splitlines()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell(retrain, shell):
    code, script, errors = retrain("completion", shell)
    assert (code, errors) == (0, "")
    assert f"_RETRAIN_COMPLETE={shell}_complete" in script
