"""The other side of benchmarks/squeeze.py: the same table from a plain loop with torch.linalg."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from sides.measured import best, peak_mib, report, timed
from torch import Tensor

RANKS = (1, 2, 4, 8, 16, 32, 64, 128)
LAYERS = 36
# One module of each size, and how many of a layer's seven have it.
SIZES = {"k_proj": 2, "q_proj": 2, "up_proj": 3}


def factors(path: Path) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, A and B in float32 of one module after the other."""
    with safe_open(path / "adapter_model.safetensors", framework="pt") as file:
        for name in file.keys():  # noqa: SIM118  # not a dict
            if ".lora_A." in name:
                a, b = file.get_tensor(name), file.get_tensor(name.replace("lora_A", "lora_B"))
                yield name, a.float(), b.float()


def triangles_only(x: Tensor) -> Tensor:
    """R of the QR without computing Q."""
    return torch.linalg.qr(x, mode="r").R


def as_usual(x: Tensor) -> Tensor:
    """R of the full QR, the obvious implementation."""
    return torch.linalg.qr(x).R


def loop(path: Path, triangle: Callable[[Tensor], Tensor], means: list[float]) -> None:
    """Retained variance at each rank, its mean over the modules."""
    table: list[Tensor] = []
    for _, a, b in factors(path):
        squares = torch.linalg.svdvals(triangle(b) @ triangle(a.T).T) ** 2
        table.append((squares.cumsum(0) / squares.sum())[[rank - 1 for rank in RANKS]])
    means[:] = torch.stack(table).mean(0).tolist()


def full(path: Path) -> dict[str, float]:
    """The SVD of whole products: one of each size, extrapolated to all modules."""
    sums = {"wall_s": 0.0, "cpu_s": 0.0}
    wanted = dict(SIZES)
    for name, a, b in factors(path):
        count = wanted.pop(name.split(".")[-3], 0)
        if count:
            run = timed(lambda a=a, b=b: torch.linalg.svdvals(b @ a))
            sums = {key: sums[key] + LAYERS * count * run[key] for key in sums}
    return sums


def main(kind: str, path: Path, repeats: int) -> None:
    """Measure one way and report it."""
    if kind == "full":
        report(**full(path), threads=torch.get_num_threads())
        return
    means: list[float] = []
    triangle = {"loop": as_usual, "loop_r": triangles_only}[kind]
    run = best(lambda: loop(path, triangle, means), repeats)
    report(**run, peak_mib=peak_mib(), means=means, threads=torch.get_num_threads())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
