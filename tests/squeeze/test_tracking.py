import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

pytest.importorskip("wandb")


@pytest.fixture
def analyse(tmp_path):
    """Analyse an adapter whose updates are 1, 1/2, 1/4, 1/8, in an empty directory."""
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    factors = {"A": np.eye(4, 12, dtype="f"), "B": np.eye(16, 4, dtype="f") * 0.5 ** np.arange(4)}
    save_file(
        {f"base_model.model.q.lora_{x}.weight": np.float32(f) for x, f in factors.items()},
        adapter / "adapter_model.safetensors",
    )
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["q"]}
    (adapter / "adapter_config.json").write_text(json.dumps(config))

    def run(*flags, **environment):
        kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
        return subprocess.run(
            [sys.executable, "-m", "retrain_squeeze", "adapter", "--wandb-project", "p", *flags],
            cwd=tmp_path,
            env={**kept, "HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run


def records(path):
    """The records of a `.wandb` file: LevelDB's log format, in blocks of 32 KiB after a header."""
    from wandb.proto import wandb_internal_pb2  # noqa: PLC0415 - an extra

    data, position, begun = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        begun += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(begun)
            begun = b""
            yield record


def items(entries):
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in entries}


@pytest.fixture
def recorded(analyse, tmp_path):
    """The records of an offline run, by kind."""
    flags = ["--wandb-tags", "mine, mine", "--wandb-group", "g", "--min-variance-retention", "0.9"]
    done = analyse(*flags, WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    assert f"wandb: offline; `wandb sync {tmp_path}" in done.stdout
    found = {}
    for record in records(next(tmp_path.glob("wandb/offline-run-*/*.wandb"))):
        kind = record.WhichOneof("record_type")
        found.setdefault(kind, []).append(getattr(record, kind))
    return found


@pytest.mark.slow
def test_a_run_of_its_own(recorded, tmp_path):
    (run,) = recorded["run"]
    assert (run.project, run.display_name, run.run_group) == ("p", "squeeze-analysis", "g")
    assert list(run.tags) == ["squeeze", "rank-2", "mine"]
    config = items(run.config.update)
    assert (config["adapter_path"], config["source_rank"]) == ("adapter", 4)

    rows = [items(row.item) for row in recorded["history"]]
    curves = [[row.get(f"squeeze/{key}") for row in rows] for key in ("rank", "mean_variance")]
    assert curves[0] == [1, 2, 4]
    assert curves[1] == pytest.approx([64 / 85, 80 / 85, 1])
    assert {"squeeze/min_variance", "squeeze/max_variance"} <= rows[0].keys()

    summary = {}
    for update in recorded["summary"]:
        summary |= items(update.update)
    assert summary["squeeze/recommended_rank"] == 2
    assert summary["squeeze/source_rank"] == 4
    assert summary["squeeze/min_variance_retention"] == 0.9
    assert summary["squeeze/num_layers"] == 1

    (file,) = tmp_path.glob("wandb/offline-run-*/files/media/table/squeeze/*.json")
    table = json.loads(file.read_text())
    assert table["columns"] == ["rank", "mean", "min", "max", "recommended"]
    assert [(row[0], row[4]) for row in table["data"]] == [(1, False), (2, True), (4, False)]


@pytest.mark.slow
def test_a_failure_costs_one_line_and_not_the_analysis(analyse, tmp_path):
    done = analyse("--json")  # there is no key
    assert done.returncode == 0
    assert done.stderr.startswith("warning: the analysis was not sent to Weights & Biases (")
    assert done.stderr.count("\n") == 1
    assert json.loads(done.stdout)["recommended_rank"] == 4
    assert (tmp_path / "squeeze.png").is_file()
