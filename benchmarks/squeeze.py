"""The analysis of an adapter of Qwen3-4B's shape at rank 128, against torch.linalg.

    uv run python benchmarks/squeeze.py

36 layers of 7 modules in bfloat16, about 530 MB, written to a temporary directory. The same table
is computed by

    full product   the SVD of B A itself, for one module of each size, extrapolated
    torch loop     QR of A^T and B, SVD of the core, module after module
    torch loop, R  the same without computing Q, which the analysis does not need
    retrain        analyze_adapter

each in a process of its own with all cores, the file in the system's cache. The floor is reading
the file once plus the BLAS and LAPACK calls of the analysis alone, on float64 numbers that are in
memory already. Memory is the peak of the process, mapped files included, above a bare interpreter.
Only the ratios are comparable across machines.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from sides.measured import MIB

from retrain_squeeze.tensors import Tensor, TensorWriter, encode

LAYERS, RANK, HIDDEN, MLP, QUERY, KEY = 36, 128, 2560, 9728, 4096, 1024
SHAPES = {
    "self_attn.q_proj": (QUERY, HIDDEN),
    "self_attn.k_proj": (KEY, HIDDEN),
    "self_attn.v_proj": (KEY, HIDDEN),
    "self_attn.o_proj": (HIDDEN, QUERY),
    "mlp.gate_proj": (MLP, HIDDEN),
    "mlp.up_proj": (MLP, HIDDEN),
    "mlp.down_proj": (HIDDEN, MLP),
}
BARE = (
    "print([int(l.split()[1]) / 1024 for l in open('/proc/self/status') if l.startswith('VmHWM')])"
)


def write_adapter(path: Path) -> None:
    """Random factors, tensor by tensor; B decays at a pace that differs between modules."""
    names = [f"base_model.model.model.layers.{i}.{name}" for i in range(LAYERS) for name in SHAPES]
    shapes = [SHAPES[name] for _ in range(LAYERS) for name in SHAPES]
    tensors: list[Tensor] = []
    for name, (rows, columns) in zip(names, shapes, strict=True):
        for letter, shape in (("A", (RANK, columns)), ("B", (rows, RANK))):
            full_name = f"{name}.lora_{letter}.weight"
            tensors.append(Tensor(full_name, "BF16", shape, 0, 2 * shape[0] * shape[1]))
    path.mkdir()
    writer = TensorWriter(path / "adapter_model.safetensors", tensors, {"format": "pt"})
    rng = np.random.default_rng(0)
    for tensor in tensors:
        values = rng.standard_normal(tensor.shape, dtype=np.float32)
        if ".lora_B." in tensor.name:
            values *= (rng.uniform(0.9, 0.99) ** np.arange(RANK)).astype(np.float32)
        writer.write(tensor.name, encode(values.astype(np.float64), "BF16"))
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK}
    (path / "adapter_config.json").write_text(json.dumps(config))


def child(*arguments: str) -> str:
    """The last line that a new interpreter prints."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{arguments[0]} failed:\n{done.stderr[-4000:]}")
    return done.stdout.strip().splitlines()[-1]


def side(name: str, kind: str, path: Path, repeats: int) -> dict[str, Any]:
    """Measure one side in a fresh process."""
    program = Path(__file__).parent / "sides" / f"squeeze_{name}.py"
    return json.loads(child(str(program), kind, str(path), str(repeats)))


def main() -> None:
    """Write the adapter, run all sides, check that the tables agree, print."""
    parser = argparse.ArgumentParser(description="Time the analysis of a large adapter.")
    parser.add_argument("--repeats", type=int, default=3, help="of each; the best counts")
    repeats: int = parser.parse_args().repeats
    (bare,) = json.loads(child("-c", BARE))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "adapter"
        write_adapter(path)
        size = (path / "adapter_model.safetensors").stat().st_size / MIB
        floor = side("retrain", "floor", path, repeats)
        sides = {
            "retrain": side("retrain", "analyze", path, repeats),
            "torch loop": side("torch", "loop", path, repeats),
            "torch loop, R": side("torch", "loop_r", path, repeats),
            "full product": side("torch", "full", path, 1),
        }
        squeezed = side("retrain", "compress", path, 1)
    for peer in ("torch loop", "torch loop, R"):
        np.testing.assert_allclose(sides[peer]["means"], sides["retrain"]["means"], rtol=1e-4)
    load = os.getloadavg()[0]
    print(f"{LAYERS * len(SHAPES)} modules of rank {RANK}, bfloat16, {size:.0f} MiB")
    print(f"threads: {floor['threads']}; machine load over the last minute: {load:.1f}")
    print(f"{'':16}{'wall s':>10}{'ratio':>8}{'CPU s':>10}{'ratio':>8}{'MiB':>8}")
    for name, run in sides.items():
        print(row(name, run, sides["retrain"], bare))
    print(row("compress to 64", squeezed, None, bare))
    for part in ("read", "algebra"):
        print(row(f"floor: {part}", floor[part], sides["retrain"], bare))
    print("the tables agree to 1e-4")


def row(name: str, run: dict[str, Any], ours: dict[str, Any] | None, bare: float) -> str:
    """A line: times, how often ours goes into them, and memory above a bare interpreter."""
    line = f"{name:16}"
    for key in ("wall_s", "cpu_s"):
        ratio = f"{run[key] / ours[key]:.1f}x" if ours else ""
        line += f"{run[key]:10.2f}{ratio:>8}"
    return line + (f"{run['peak_mib'] - bare:8.0f}" if "peak_mib" in run else "")


if __name__ == "__main__":
    main()
