import json

import pytest


@pytest.fixture
def run_dir(here):
    """What a run leaves behind that was stopped after two of four steps."""
    directory = here / "logs/train"
    directory.mkdir(parents=True)
    (directory / "config.toml").write_text("[training]\nmax_steps = 4\n")
    rows = [{"step": step, "correct_rate": rate} for step, rate in enumerate((0.25, 0.75))]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory


def test_runs_below_a_directory(retrain, run_dir):
    code, page, errors = retrain("status")
    assert (code, errors) == (0, "")
    assert page.splitlines()[1].split() == ["logs/train", "2/4", "50.0%", "-", "stopped"]
    assert retrain("status", "logs/train") == (0, page, "")


def test_for_other_programs(retrain, run_dir):
    code, text, _ = retrain("status", "logs", "--json")
    assert code == 0
    [run] = json.loads(text)["runs"]
    assert (run["state"], run["steps"], run["max_steps"], run["correct"]) == ("stopped", 2, 4, 0.5)


def test_nothing_there(retrain):
    assert retrain("status") == (0, "no runs and no campaigns found\n", "")
    code, _, errors = retrain("status", "missing")
    assert (code, errors.splitlines()) == (
        2,
        ["error: missing: is not a directory; name one that contains runs or campaigns"],
    )


def test_a_campaign_is_explained(retrain, here):
    (here / "rules.toml").write_text(
        '[backend]\nbackend = "fake"\n[data]\nsource = "arithmetic"\n'
        "[campaign]\nseeds = [1, 2]\nmax_steps = 10\n"
    )
    code, page, errors = retrain("explain", "rules.toml")
    assert (code, errors) == (0, "")
    assert "10: 5 conditions x 2 seeds" in page
    assert "retrain explain rules.toml --from logs/pilot" in page
    assert not (here / "logs").exists()
    code, _, errors = retrain("explain", "rules.toml", "--from", "logs")
    assert code == 2
    assert "logs: is not a directory" in errors
