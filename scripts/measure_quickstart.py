"""Measure the quickstart: held-out accuracy before and after training, for several seeds.

    uv run python scripts/measure_quickstart.py --seeds 1 2 3 4 5

Trains `examples/quickstart.toml` once for each seed in a separate process. Before and after, the
model answers 1,000 questions of the test split, which training does not use: once sampled at the
training temperature and once greedily. Prints a table and draws
`docs/images/quickstart.png`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table
from safetensors.torch import load_file

from retrain_backends.config import RunConfig, load_config
from retrain_backends.data.arithmetic import ArithmeticExamples
from retrain_backends.local.backend import LocalBackend
from retrain_backends.randomness import Purpose
from retrain_backends.rewards import build_reward
from retrain_backends.testing import GroupSampling
from retrain_backends.tokenizer import load_tokenizer
from retrain_backends.tracking.journal import read_metrics
from retrain_backends.types import Rollout, SamplingParams

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "examples" / "quickstart.toml"
PICTURE = ROOT / "docs" / "images" / "quickstart.png"
QUESTIONS = 1000


@dataclass(frozen=True)
class SeedResult:
    """One seed: accuracies in percent, the training time, and the correct rate of every step."""

    seed: int
    sampled: tuple[float, float]
    greedy: tuple[float, float]
    time_s: float
    rates: list[float]


def main() -> None:
    """Train, evaluate, and print the results."""
    parser = argparse.ArgumentParser(description="Measure the quickstart.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    seeds = parser.parse_args().seeds
    before = accuracies(None)
    outcomes = [
        run(seed, before) for seed in track(seeds, "training", console=Console(stderr=True))
    ]
    print_results(outcomes)
    draw(outcomes)


def run(seed: int, before: tuple[float, float]) -> SeedResult:
    """Train and evaluate the quickstart with a seed."""
    with tempfile.TemporaryDirectory() as directory:
        logs = Path(directory) / "run"
        command = [sys.executable, "-m", "retrain_backends", str(QUICKSTART)]
        command += ["--seed", str(seed), "--log-dir", str(logs)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        rows = read_metrics(logs)
        after = accuracies(logs / "final")
    return SeedResult(
        seed=seed,
        sampled=(before[0], after[0]),
        greedy=(before[1], after[1]),
        time_s=sum(row["step_time_s"] for row in rows),
        rates=[row["correct_rate"] for row in rows],
    )


def accuracies(adapter: Path | None) -> tuple[float, float]:
    """Sampled and greedy accuracy on the test split, in percent."""
    config = load_config(QUICKSTART, {"training.seed": 0})
    backend = LocalBackend.from_config(config.policy())
    if adapter is not None:
        backend.trainer.adapter.load_state(load_file(adapter / "adapter_model.safetensors"))
    return accuracy(backend, config, config.training.temperature), accuracy(backend, config, 0.0)


def accuracy(backend: LocalBackend, config: RunConfig, temperature: float) -> float:
    """Share of the held-out questions that are answered correctly, in percent."""
    tokenizer, reward = load_tokenizer(config.model.model), build_reward(config.reward)
    questions = ArithmeticExamples(0, "test")
    examples = [questions[i] for i in range(QUESTIONS)]
    prompts = [
        tokenizer.encode(tokenizer.render(example.question, config.data.prompt_template))
        for example in examples
    ]
    params = SamplingParams(temperature, tokenizer.stop_token_ids)
    sampling = GroupSampling(0, 1, config.training.max_tokens, params)
    groups = sampling.sample(backend.sampler, prompts, Purpose.EVALUATE)
    answers = [tokenizer.decode(row.tokens_T) for (row,) in groups]
    verdicts = reward.score([Rollout(*pair) for pair in zip(examples, answers, strict=True)])
    return 100 * float(np.mean([verdict.value or 0.0 for verdict in verdicts]))


def print_results(outcomes: list[SeedResult]) -> None:
    """Print a table for people, and a line of JSON for programs."""
    table = Table("seed", "sampled, %", "gain", "greedy, %", "gain", "training, s")
    for outcome in outcomes:
        (s0, s1), (g0, g1) = outcome.sampled, outcome.greedy
        table.add_row(
            str(outcome.seed),
            f"{s0:.1f} -> {s1:.1f}",
            f"{s1 - s0:+.1f}",
            f"{g0:.1f} -> {g1:.1f}",
            f"{g1 - g0:+.1f}",
            f"{outcome.time_s:.0f}",
        )
    Console().print(table)
    print(json.dumps([vars(outcome) | {"rates": None} for outcome in outcomes]))


def draw(outcomes: list[SeedResult]) -> None:
    """Draw the correct rate of every seed in training, and their mean."""
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.subplots()
    rates = 100 * np.array([outcome.rates for outcome in outcomes])
    window = 5
    smooth = np.apply_along_axis(
        lambda r: np.convolve(r, np.ones(window) / window, "valid"), 1, rates
    )
    steps = np.arange(smooth.shape[1]) + window
    for outcome, line in zip(outcomes, smooth, strict=True):
        axes.plot(steps, line, linewidth=1, alpha=0.5, label=f"seed {outcome.seed}")
    axes.plot(steps, smooth.mean(0), color="black", linewidth=2, label="mean")
    axes.set(xlabel="step", ylabel="correct answers, %", ylim=(0, 100))
    axes.set_title("examples/quickstart.toml, mean of five steps", fontsize=10)
    axes.legend(fontsize=8, ncols=3, loc="lower right")
    axes.grid(alpha=0.3)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=130)


if __name__ == "__main__":
    main()
