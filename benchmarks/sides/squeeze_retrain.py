"""Our side of benchmarks/squeeze.py: `analyze`, `compress` or `floor` of a directory."""

import shutil
import sys
from pathlib import Path

import numpy as np
from sides.measured import best, peak_mib, report, timed

from retrain_squeeze import analyze_adapter, compress_adapter
from retrain_squeeze.adapter import read_adapter
from retrain_squeeze.linear_algebra import for_each, linear_algebra_for


def analyze(path: Path, repeats: int) -> None:
    """Time the analysis as a user runs it."""
    means: list[float] = []

    def work() -> None:
        means[:] = [row.mean for row in analyze_adapter(path).table]

    run = best(work, repeats)
    report(**run, peak_mib=peak_mib(), means=means)


def compress(path: Path, repeats: int) -> None:
    """Time the compression to half the rank, including the flush to the disk."""
    del repeats
    output = path.with_name("squeezed")
    run = timed(lambda: compress_adapter(path, output, 64))
    shutil.rmtree(output)
    report(**run, peak_mib=peak_mib())


def floor(path: Path, repeats: int) -> None:
    """Time reading the file once, and the BLAS and LAPACK calls alone on numbers in memory."""
    adapter = read_adapter(path)
    rng = np.random.default_rng(0)
    layer = len(adapter.modules) // 36
    pairs = [
        [rng.standard_normal((size, module.rank)) for size in module.shape]
        for module in adapter.modules[:layer]
    ]

    def algebra(index: int) -> None:
        gram_a, gram_b = (x.T @ x for x in pairs[index % layer])
        np.linalg.eigh(gram_a)
        np.linalg.eigvalsh(gram_a @ gram_b @ gram_a)

    def read() -> None:
        buffer = bytearray(2**20)
        with adapter.file.path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass

    threads = linear_algebra_for("cpu").threads
    modules = range(len(adapter.modules))
    report(
        read=best(read, repeats),
        algebra=best(lambda: for_each(algebra, modules, threads, None), repeats),
        threads=threads,
    )


if __name__ == "__main__":
    {"analyze": analyze, "compress": compress, "floor": floor}[sys.argv[1]](
        Path(sys.argv[2]), int(sys.argv[3])
    )
