"""One training step of retrain's local trainer against TRL's GRPOTrainer, in the same run.

    uv run --group bench python benchmarks/step.py small      # the bundled model, 8 x 16, 32 tokens
    uv run --group bench python benchmarks/step.py medium     # 42M parameters, 4 x 8, 256 tokens

Both sides get the same model, prompts, group size, number of tokens, LoRA rank and layers, and do
one optimiser step a batch, on one CPU thread, each in a process of its own. Printed: median CPU
seconds a step (they depend on other load less than wall time does), by phase, the peak memory of
the process, and our share of the peer's.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from sides.step_size import STEP_SIZES, make_model

SIDES = Path(__file__).parent / "sides"


def main() -> None:
    """Run both sides and print the comparison."""
    parser = argparse.ArgumentParser(description="Time one training step against TRL.")
    parser.add_argument("size", choices=STEP_SIZES)
    size = parser.parse_args().size
    with tempfile.TemporaryDirectory() as directory:
        model = make_model(size, Path(directory))
        sides = {side: spawn(size, side, model) for side in ("retrain", "trl")}
    report(size, sides)


def spawn(size: str, side: str, model: str) -> dict[str, float]:
    """Measure one side in a fresh process; its last line is the result."""
    command = [sys.executable, str(SIDES / f"{side}_side.py"), size, model]
    settings = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=os.environ | settings
    )
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def report(size: str, sides: dict[str, dict[str, float]]) -> None:
    """A table with our share of the peer's figures."""
    ours, peer = sides["retrain"], sides["trl"]
    print(f"{size}: {STEP_SIZES[size]}")
    print(f"{'':22}{'retrain':>10}{'TRL':>10}{'ratio':>8}")
    for figure in ours:
        ratio = ours[figure] / peer[figure]
        print(f"{figure:22}{ours[figure]:10.3f}{peer[figure]:10.3f}{ratio:8.2f}")


if __name__ == "__main__":
    main()
