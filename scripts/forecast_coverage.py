"""Forecast small campaigns from pilots, run them, and count how many are within the interval.

    uv run python scripts/forecast_coverage.py --campaigns 20                    # 10 minutes, idle
    uv run python scripts/forecast_coverage.py --campaigns 20 --backend fake

Each campaign has its own pilot of fewer steps with one seed, as `retrain explain` suggests. The
true time is that of the command `python -m retrain_campaign`, from start to end. The machine
must be idle: the forecast assumes that it is as fast as during the pilot. Of 20 campaigns, 17 to 19
should be within the interval of 90 %.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import chdir
from pathlib import Path

from retrain_campaign.forecast.pilot import measure_pilot
from retrain_campaign.forecast.simulation import Forecast, RunSize, forecast
from retrain_campaign.plan.campaign import load_campaign, plan_runs
from retrain_campaign.plan.capacity import capacity_of, this_machine

FILE = """\
[model]
model = "builtin:tiny-arithmetic"
lora_rank = 4

[backend]
backend = "{backend}"
devices = "cpu"

[data]
source = "arithmetic"
prompt_template = "{{question}}"

[training]
batch_size = 4
group_size = 8
max_tokens = 24
temperature = 1.0
lr = 1e-3
save_every = 10

[reward]
type = "match"

[eval]
every = {steps}
max_examples = 16

[campaign]
seeds = [{first}, {second}]
max_steps = {steps}
parallel = true
max_workers = 2

[[campaign.conditions]]
advantage_mode = "grpo"
transform_mode = "none"

[[campaign.conditions]]
advantage_mode = "maxrl"
transform_mode = "gtpo"
"""
PILOT_SHARE = 2  # a pilot does the steps of a campaign divided by this


def main() -> None:
    """Run pilots and campaigns, and print how many are within their interval."""
    parser = argparse.ArgumentParser(description="Coverage of the forecast.")
    parser.add_argument("--campaigns", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20, help="of each run")
    parser.add_argument("--backend", choices=("local", "fake"), default="local")
    chosen = parser.parse_args()
    within = 0
    with tempfile.TemporaryDirectory(prefix="retrain-forecast-") as place, chdir(place):
        for number in range(chosen.campaigns):
            text = FILE.format(
                backend=chosen.backend,
                steps=chosen.steps,
                first=2 * number + 1,
                second=2 * number + 2,
            )
            file = Path(f"c{number}.toml")
            file.write_text(text)
            pilot_steps = chosen.steps // PILOT_SHARE
            run(
                file,
                Path(f"pilot{number}"),
                f"--campaign-max-steps={pilot_steps}",
                f"--campaign-seeds={2 * number + 1}",
            )
            found = forecast_of(file, Path(f"pilot{number}")).wall_s
            true_s = run(file, Path(f"campaign{number}"))
            hit = found.low <= true_s <= found.high
            within += hit
            print(
                f"campaign {number}: {found.low:.1f} to {found.high:.1f} s forecast, median "
                f"{found.median:.1f} s; took {true_s:.1f} s: {'within' if hit else 'outside'}",
                flush=True,
            )
    load = os.getloadavg()[2] if hasattr(os, "getloadavg") else float("nan")
    print(f"within the interval: {within} of {chosen.campaigns} ({within / chosen.campaigns:.0%})")
    print(f"load of the machine in the last 15 minutes: {load:.1f} on {os.cpu_count()} cores")


def run(file: Path, directory: Path, *flags: str) -> float:
    """Run a campaign; return the seconds that its command took."""
    command = [sys.executable, "-m", "retrain_campaign", str(file), *flags]
    started = time.monotonic()
    done = subprocess.run(
        [*command, f"--campaign-directory={directory}"], capture_output=True, text=True, check=False
    )
    elapsed_s = time.monotonic() - started
    if done.returncode:
        raise SystemExit(f"the campaign failed: {done.stdout}{done.stderr}")
    return elapsed_s


def forecast_of(file: Path, pilot: Path) -> Forecast:
    """The forecast of `retrain explain FILE --from PILOT`."""
    campaign = load_campaign(file)
    plan = plan_runs(campaign)
    steps = campaign.max_steps
    evaluations = len(campaign.base.eval.due_after(steps))
    sizes = [RunSize(run.label, steps, evaluations) for run in plan]
    workers = capacity_of(campaign, this_machine(os.environ), len(plan)).workers
    return forecast(measure_pilot(pilot), sizes, workers)


if __name__ == "__main__":
    main()
