"""What a planning detector costs a step, as ratios to `regex` and to sampling in the same run.

    python benchmarks/planning.py --planning-model DIR [--completions 128] [--sentences 20]

A step is completions of sentences that plan and that compute, split into words, almost all of them
different. `regex` and `semantic` mark the same completions; `semantic` does it twice, the second
time with all its sentences known. Then the local backend samples as many tokens with `--model`, by
default the bundled one: sampling from a model of billions of parameters costs far more, and the
detector the same. All on the CPU, in CPU seconds, which depend on other load less than wall time.
"""

import argparse
import re
import time
from collections.abc import Callable
from contextlib import closing

import numpy as np

from retrain_backends.config import PlanningConfig, load_config
from retrain_backends.group_sampling import GroupSampling
from retrain_backends.local.backend import LocalBackend
from retrain_backends.planning import build_detector
from retrain_backends.randomness import Purpose
from retrain_backends.types import SamplingParams

PLANNING = (
    "Let me check whether {a} is really the number of boxes.",
    "First, we need to find how far the train goes in {a} hours.",
    "Wait, that can't be right, because {a} is larger than {b}.",
    "Perhaps it is easier to count the other {b} cases.",
)
EXECUTION = (
    "{a} + {b} = {c}.",
    "Multiplying both sides by {a} gives {b}x = {c}.",
    "So there are {c} apples left in the {b} baskets.",
    "The area of the square is {a} times {a}.",
    "Each of the {b} boxes holds {a} pencils.",
    "Therefore, the total is {c} dollars.",
)
GROUP = 16


def completions(count: int, sentences: int) -> list[list[str]]:
    """Completions as words, of which a third plan."""
    rng = np.random.default_rng(0)
    made: list[list[str]] = []
    for _ in range(count):
        kinds = rng.random(sentences) < 1 / 3
        texts = [rng.choice(PLANNING if plans else EXECUTION) for plans in kinds]
        a, b = rng.integers(2, 1000, (2, sentences)).tolist()
        filled = [t.format(a=x, b=y, c=x + y) for t, x, y in zip(texts, a, b, strict=True)]
        made.append(re.findall(r"\s*[^\W\d]+|\s*\d|\s*\S", " ".join(filled)))
    return made


def seconds(work: Callable[[], object]) -> float:
    """The CPU time that something takes."""
    started = time.process_time()
    work()
    return time.process_time() - started


def sampling_s(model: str, step: list[list[str]]) -> float:
    """The time to sample as many completions of the same mean length."""
    config = load_config(None, {"model.model": model, "training.seed": 0, "backend.devices": "cpu"})
    length = round(sum(map(len, step)) / len(step))
    params = SamplingParams(1.0, stop_token_ids=())
    prompts = [np.arange(5, 25)] * (len(step) // GROUP)
    with closing(LocalBackend.from_config(config.policy())) as backend:
        sampling = GroupSampling(0, GROUP, length, params)
        requests = sampling.requests(prompts, Purpose.SAMPLE, 0)
        list(backend.sampler.sample(requests[:1], params))
        return seconds(lambda: list(backend.sampler.sample(requests, params)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time the planning detectors.")
    parser.add_argument("--planning-model", default="all-MiniLM-L6-v2")
    parser.add_argument("--model", default="builtin:tiny-arithmetic")
    parser.add_argument("--completions", type=int, default=128)
    parser.add_argument("--sentences", type=int, default=20)
    given = parser.parse_args()
    step = completions(given.completions, given.sentences)
    regex = build_detector(PlanningConfig(), "")
    config = PlanningConfig(detector="semantic", model=given.planning_model)
    semantic = build_detector(config, "")
    for detector in (regex, semantic):
        detector.masks(completions(1, 1))  # warms up
    times = {
        "regex": seconds(lambda: regex.masks(step)),
        "semantic": seconds(lambda: semantic.masks(step)),
        "semantic, all known": seconds(lambda: semantic.masks(step)),
        f"sampling, {given.model}": sampling_s(given.model, step),
    }
    tokens = sum(map(len, step))
    print(f"{len(step)} completions, {tokens:,} tokens, {given.sentences} sentences each")
    *_, sampling = times.values()
    for name, time_s in times.items():
        ratios = f"{time_s / times['regex']:10.1f} x regex {time_s / sampling:10.4f} x sampling"
        print(f"{name:40} {time_s:8.3f} s {ratios}")


if __name__ == "__main__":
    main()
