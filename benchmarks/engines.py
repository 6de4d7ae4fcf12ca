"""Inference engines side by side: tokens/s, hand-over and mismatch, in one run.

    uv run python benchmarks/engines.py small
    uv run python benchmarks/engines.py medium --rank 128 \
        --server vllm=http://localhost:8000 --server sglang=http://localhost:30000 \
        --library vllm=vllm-environment/bin/python --library mlx=mlx-environment/bin/python

`pytorch` is always measured. A server must serve the model of the size (`retrain serve` prints how
it is started; `--model-directory` says where this benchmark writes the random model of `medium`);
a library is measured by the Python of an environment that has it and retrain. Each engine is
measured in a fresh process, one after the other, with the same prompts and one CPU thread for the
trainer. Printed: medians of three measurements, and the ratio of tokens/s to `pytorch`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from sides.step_size import STEP_SIZES, make_model

SIDE = Path(__file__).parent / "sides" / "engine_side.py"


def main() -> None:
    """Measure each engine and print the table."""
    parser = argparse.ArgumentParser(description="Measure inference engines side by side.")
    parser.add_argument("size", choices=STEP_SIZES)
    parser.add_argument("--rank", type=int, default=16, help="of the adapter")
    parser.add_argument("--model-directory", type=Path, help="where the random model is written")
    parser.add_argument("--server", action="append", default=[], metavar="ENGINE=URL")
    parser.add_argument("--library", action="append", default=[], metavar="ENGINE=PYTHON")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        model = make_model(asked.size, asked.model_directory or Path(directory))
        rows = {"pytorch": measure(sys.executable, asked, model, "pytorch")}
        for text in asked.library:
            engine, _, python = text.partition("=")
            rows[f"{engine}, in process"] = measure(python, asked, model, engine)
        for text in asked.server:
            engine, _, url = text.partition("=")
            rows[f"{engine}, server"] = measure(sys.executable, asked, model, engine, url)
    report(asked, rows)


def measure(
    python: str, asked: argparse.Namespace, model: str, engine: str, *urls: str
) -> dict[str, float | None]:
    """Measure one engine in a fresh process; its last line is the result."""
    command = [python, str(SIDE), asked.size, str(model), str(asked.rank), engine, *urls]
    settings = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=os.environ | settings
    )
    if done.returncode:
        sys.exit(f"{engine} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def report(asked: argparse.Namespace, rows: dict[str, dict[str, float | None]]) -> None:
    """A table with a row for each engine."""
    print(f"{asked.size}: {STEP_SIZES[asked.size]}, rank {asked.rank}")
    figures = list(rows["pytorch"])
    print(f"{'':20}{'x pytorch':>10}", *(f"{figure:>15}" for figure in figures))
    for engine, row in rows.items():
        ratio = (row["tokens/s"] or 0) / (rows["pytorch"]["tokens/s"] or 1)
        shown = (f"{'-' if row[f] is None else format(row[f], '.4g'):>15}" for f in figures)
        print(f"{engine:20}{ratio:10.2f}", *shown)


if __name__ == "__main__":
    main()
