import json
import subprocess
import sys

import pytest

from retrain_backends.config import load_config
from retrain_backends.train import train
from retrain_core import TRANSFORM_MODES

CONFIG = """
[model]
model = "builtin:tiny-arithmetic"
[data]
source = "arithmetic"
[training]
max_steps = 10
batch_size = 2
group_size = 4
max_tokens = 100
temperature = 0.5
[eval]
every = 4
max_examples = 5
[backend]
"""
TINKER = (
    'backend = "tinker"\noptions = {prices = {prompt = 1000, sampled = 2000, trained = 3000}}\n'
)


@pytest.fixture
def explain(here, retrain):
    """Explain a run on a backend, with flags: (exit code, words of the page)."""

    def run(backend, *flags):
        (here / "a.toml").write_text(CONFIG + backend)
        code, page, errors = retrain("explain", "a.toml", *flags)
        assert errors == ""
        return code, " ".join(page.split())

    return run


def numbers(page, label):
    """The figures of the row of the table that begins with the label."""
    words = page[page.index(label) + len(label) :].split()
    return [float(word.replace(",", "")) for word in words[:4]]


def test_nothing_is_written_or_trained(here, explain):
    code, page = explain('backend = "fake"')
    assert code == 0
    assert [path.name for path in here.iterdir()] == ["a.toml"]
    for words in (
        "condition maxrl+gtpo_sepa",
        "completions 8, 4 of each prompt",
        "sampled at most 800 tokens",
        "steps 10, with at most 8,000 sampled tokens",
        "evaluations 4: before the first step, every 4 steps and at the end; 5 questions, "
        "1 completion each at temperature 0.5",
        "logs logs/train",
    ):
        assert words in page
    assert "refused" not in page


def test_another_run_is_not_disturbed(here, explain):
    (here / "logs/train").mkdir(parents=True)
    (here / "logs/train/metrics.jsonl").touch()
    assert "logs logs/train-2 (logs/train holds another run)" in explain('backend = "fake"')[1]


def test_what_a_service_does_otherwise(explain):
    code, page = explain(TINKER)
    assert code == 0
    assert "lora.alpha cannot be set" in page
    assert "lora.dropout cannot be set" in page
    assert "samples at 0.5, but trains and scores at 1" in page
    assert "recorded as resume_fidelity" in page


def test_the_cost_of_a_run_at_most(explain):
    page = explain(TINKER)[1]
    prompt, sampled, trained, cost = numbers(page, "a step, at most")
    assert sampled == 800
    assert trained == pytest.approx(800 + 4 * prompt, abs=4)
    assert cost == pytest.approx((prompt + 2 * sampled + 3 * trained) / 1000, abs=0.006)
    evaluation = numbers(page, "an evaluation, at most")
    assert evaluation[1:3] == [500, 0]
    whole = numbers(page, "the whole run, at most")
    assert whole[1] == 10 * 800 + 4 * 500
    assert whole[3] == pytest.approx(10 * cost + 4 * evaluation[3], abs=0.06)


def test_without_prices_there_is_no_cost(explain):
    page = explain('backend = "tinker"')[1]
    assert "prompt sampled trained ─" in page
    assert "With [backend.options.prices] there would be a cost" in page


def test_all_reasons_for_a_refusal_are_reported(explain):
    code, page = explain(
        'backend = "tinker"\noptions = {max_cost = 3}',
        "--lora-alpha",
        "3",
        "--data-source",
        "jsonl",
    )
    assert code == 2
    refused = page.partition("This run would be refused:")[2]
    assert "max_cost = 3 needs the prices of tokens" in refused
    assert "lora.alpha: the backend `tinker` chooses it itself" in refused
    assert "data.path" in refused


def test_an_engine_that_is_not_installed(explain):
    code, page = explain('backend = "local"', "--engine", "vllm")
    assert code == 2
    assert "`vllm` needs the package `vllm`, which is not installed: pip install 'retrain-" in page


def test_mistakes_in_the_file_are_those_of_a_run(here, retrain):
    code, output, errors = retrain("explain", "b.toml", "--lrr", "1")
    assert (code, output, len(errors.splitlines())) == (2, "", 2)


def write_run(here, rows):
    (here / "run").mkdir()
    (here / "run/config.toml").write_text(CONFIG + TINKER)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (here / "run/metrics.jsonl").write_text(text)


def test_the_rest_is_judged_by_what_was_measured(here, retrain):
    totals = dict(zip(("prompt", "sampled", "trained"), (40, 400, 600), strict=True))
    charged = {f"{kind}_tokens_charged_total": count for kind, count in totals.items()}
    write_run(here, [{"step": s, "step_time_s": 900, **charged} for s in range(4)])
    (here / "run/eval.jsonl").write_text('{"step": 0, "time_s": 3600}\n')
    code, page, errors = retrain("explain", "--from", "run")
    page = " ".join(page.split())
    assert (code, errors) == (0, "")
    assert "logs logs/train there" in page
    assert "steps 4 of 10 time 2.00 hours, about 5.00 at the end" in page
    assert numbers(page, "used in 4 steps") == [40, 400, 600, 2.64]
    assert numbers(page, "a step with its share of evaluations") == [10, 100, 150, 0.66]
    assert numbers(page, "the whole run, extrapolated") == [100, 1000, 1500, 6.6]


def test_a_run_that_was_charged_nothing(here, retrain):
    write_run(here, [{"step": 0, "step_time_s": 1.0, "tokens_sampled": 5}])
    code, page, _ = retrain("explain", "--from", "run", "--max-steps", "3")
    assert code == 0
    assert "was not charged for tokens" in page
    assert "1 of 3" in page


@pytest.mark.parametrize("made", [False, True])
def test_a_run_without_a_step(here, retrain, made):
    (here / "a.toml").write_text(CONFIG + TINKER)
    if made:
        write_run(here, [])
    code, output, errors = retrain("explain", "a.toml", "--from", "run")
    assert (code, output) == (2, "")
    wrong = "run has no finished step yet" if made else "run is no run"
    assert errors.startswith(f"error: --from: {wrong}; name the directory")


def test_a_real_run_can_be_measured(here, retrain, capsys):
    (here / "a.toml").write_text(CONFIG + 'backend = "fake"\noptions = {vocab_size = 60}\n')
    run_dir = train(load_config(here / "a.toml", {"training.max_tokens": 4})).run_dir
    capsys.readouterr()
    code, page, _ = retrain("explain", "--from", str(run_dir), "--max-steps", "20")
    assert code == 0
    assert "10 of 20" in page
    assert "with `retrain --resume logs/train`" in page


def test_it_works_without_the_sdk(here):
    (here / "a.toml").write_text(CONFIG + TINKER)
    program = (
        "import sys; sys.modules['tinker'] = None\n"
        "from retrain_cli.app import main; main(['explain', 'a.toml'])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (2, "")
    page = " ".join(ended.stdout.split())
    assert "can do not known here; see the problems below" in page
    assert "the whole run, at most" in page
    assert "retrain-backends[tinker]" in page.partition("would be refused")[2]


MODES = """
from retrain_core import TransformSpec

def ranks(rewards):
    "Ranks of the rewards."
    return rewards

def make_even(*, decay=0.9):
    return TransformSpec(lambda tokens: tokens.uncertainty, uses_sepa=True, summary="all alike")
"""


def test_modes_are_described_by_their_rows(here, explain):
    page = explain('backend = "fake"')[1]
    assert TRANSFORM_MODES["gtpo_sepa"].summary in page
    assert "SEPA linear, from step 50" in page
    (here / "modes_to_explain.py").write_text(MODES)
    modes = ("modes_to_explain.ranks", "modes_to_explain.make_even")
    flags = ("--advantage-mode", modes[0], "--transform-mode", modes[1])
    page = explain('backend = "fake"', *flags)[1]
    assert "advantage Ranks of the rewards transform all alike SEPA linear" in page
    assert "its strength is 0 in all 10 steps." in page


def test_a_mode_that_leads_nowhere_is_refused_once(explain):
    code, page = explain('backend = "fake"', "--transform-mode", "no_such.transform")
    assert code != 0
    assert "rule maxrl+no_such.transform" in page
    assert page.count("there is no module `no_such`") == 1


def test_help_says_what_can_be_given(retrain):
    assert "--from" in retrain("explain", "--help")[1]
