import pytest

from retrain_cli.app import retrain as command_line

COMMANDS = [name for name in command_line.commands if name != "run"]
PAGES = [*([name] for name in COMMANDS), ["rewards", "check"]]


@pytest.mark.parametrize("words", [[], *PAGES], ids=" ".join)
@pytest.mark.parametrize("width", [80, 120])
def test_pages_fit_and_are_alike(retrain, monkeypatch, words, width):
    monkeypatch.setenv("COLUMNS", str(width))
    code, page, errors = retrain(*words, "--help")
    assert (code, errors) == (0, "")
    lines = page.splitlines()
    assert max(map(len, lines)) <= min(width, 100)
    usage = ["Usage: retrain", *words]
    assert any(line.startswith(" ".join(usage)) for line in lines)
    assert "╭" not in page


@pytest.mark.parametrize("words", PAGES, ids=" ".join)
def test_a_command_is_helped_wherever_the_flag_stands(retrain, words):
    assert retrain(*words, "-h") == retrain(*words, "--help")


def test_a_campaign_says_what_it_takes_and_how_it_ends(retrain):
    page = retrain("campaign", "--help")[1]
    for word in ("DIR", "--seeds", "process", "ray", "slurm", "Exit codes", "130", "--execute"):
        assert word in page


def test_explain_lists_its_arguments_and_exit_codes(retrain):
    page = " ".join(retrain("explain", "--help")[1].split())
    for word in ("[PATH.toml] [--from DIR] [--flag value]...", "2 the run would be refused"):
        assert word in page


def test_squeeze_shows_its_flags(retrain):
    page = retrain("squeeze", "--help")[1]
    assert "--min-variance-retention" in page
    assert "--lr" not in page


def test_without_a_command_a_group_shows_its_page(retrain):
    code, page, errors = retrain("rewards")
    assert (code, page) == (2, "")
    assert errors == retrain("rewards", "--help")[1]
