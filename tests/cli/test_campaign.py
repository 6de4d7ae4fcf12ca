import pytest

from retrain_backends.__main__ import main

FILE = '[backend]\nbackend = "fake"\n[reward]\ntype = "match"\n[campaign]\nseeds = [1]\n'


@pytest.mark.parametrize("words", [["c.toml"], ["run", "c.toml"], ["campaign", "c.toml"]])
def test_a_file_with_the_table_is_a_campaign(here, retrain, words):
    (here / "c.toml").write_text(FILE)
    code, output, errors = retrain(*words, "--seed", "1")
    assert (code, output) == (2, "")
    assert errors == "error: --seed: a campaign has several; --seeds 1,2,3 sets them\n"


def test_without_the_table_it_is_a_run(here, retrain):
    (here / "c.toml").write_text(FILE)
    code, _, errors = retrain("c.toml", "--no-campaign", "--lora-alpha=3")
    assert code == 2
    assert errors.startswith("error: lora.alpha: the backend `fake`")


def test_the_commands_are_printed(here, retrain):
    (here / "c.toml").write_text(FILE)
    code, output, errors = retrain("campaign", "--config", "c.toml", "--seeds", "1,2")
    assert (code, errors) == (0, "")
    assert len(output.splitlines()) == 10
    assert all(" python -m retrain_backends c.toml " in line for line in output.splitlines())


def test_a_run_from_the_file_of_a_campaign_points_to_the_campaign(here, capsys):
    (here / "c.toml").write_text(FILE)
    assert main(["c.toml"]) == 2
    assert "use `retrain campaign FILE.toml`, or" in capsys.readouterr().err
