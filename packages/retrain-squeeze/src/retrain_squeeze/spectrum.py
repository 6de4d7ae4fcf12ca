"""The singular values and the best approximation of an update `BA`, without forming `BA`.

    QR of A^T and B, SVD of the r x r core R_b R_a^T = U S V^T

A and B are read in blocks in their stored format, and everything is computed in float64, which
represents all stored formats exactly. Source: LoRA-Squeeze, arXiv 2602.10993.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrain_squeeze.tensors import Matrix, decode

Floats = NDArray[np.float64]
Stored = NDArray[Any] | Matrix

_BLOCK = 2048  # rows decoded at once: 2 MB at rank 128, which fit into the cache
_PARTS = 4
_SLAB = 8 * _BLOCK  # columns read at once: all columns of most modules, contiguous in the file
_GATHERED = 2 * _BLOCK  # rows of triangles that are reduced to one triangle by a QR
# Cancellation between A and B, ||A||^2 ||B||^2 / ||BA||^2, up to which Gram matrices are accurate.
_MOST_CANCELLED = 1e6
_EPS = float(np.finfo(np.float64).eps)


def squared_singular_values(a: Stored, b: Stored) -> Floats:
    """Squares of the singular values of `BA`, largest first; all 0 if `BA` is 0 up to rounding.

    They are the eigenvalues of `F (B^T B) F^T` with `F^T F = A A^T`. Their errors are at most a
    small multiple of eps ||A||^2 ||B||^2. If that could exceed about 1e-9 of ||BA||^2, the accuracy
    needed for retained variance, they are computed from the core of the QR instead, which does not
    square A and B but takes five times as long.

    Args:
      a: lora_A as stored, shape (r, in).
      b: lora_B as stored, shape (out, r).

    Returns:
      Shape (r,); NaN if a factor is not finite.
    """
    gram_a, gram_b = _gram(_columns(a)), _gram(_rows(b))
    most = float(np.trace(gram_a) * np.trace(gram_b))  # ||A||^2 ||B||^2 >= ||BA||^2
    if not np.isfinite(most):
        return np.full(a.shape[0], np.nan)
    eigenvalues, vectors = np.linalg.eigh(gram_a)
    factor = np.sqrt(eigenvalues.clip(0))[:, None] * vectors.T
    squares = np.linalg.eigvalsh(factor @ gram_b @ factor.T)[::-1].clip(0)
    if squares.sum() * _MOST_CANCELLED >= most:
        return squares
    return squares_of_core(*triangles(a, b))


def triangles(a: Stored, b: Stored) -> tuple[Floats, Floats]:
    """`R_a` and `R_b` of the QR of A^T and of B.

    Args:
      a: lora_A as stored, shape (r, in).
      b: lora_B as stored, shape (out, r).

    Returns:
      Shapes (min(r, in), r) and (min(r, out), r).
    """
    return _triangle(_columns(a)), _triangle(_rows(b))


def squares_of_core(r_a: Floats, r_b: Floats) -> Floats:
    """Squares of the singular values of the core `R_b R_a^T`, largest first.

    Args:
      r_a: shape (at most r, r), as `triangles` gives it.
      r_b: likewise.

    Returns:
      Shape (r,); 0 where they are no more than rounding errors of R_a and R_b, and not numbers
      where those are not.
    """
    core = r_b @ r_a.T
    rank = r_a.shape[1]
    if not np.isfinite(core).all():
        return np.full(rank, np.nan)
    values = np.linalg.svd(core, compute_uv=False)
    squares = np.where(values > _rounding(r_a, r_b), values, 0.0) ** 2
    return np.concatenate([squares, np.zeros(rank - len(squares))])


def retained_variance(squares: Floats) -> Floats:
    """`V(k) = sum_{j<=k} s_j^2 / sum s_j^2`, k = 1..r; 1 for an update of 0, which loses nothing.

    Args:
      squares: of the singular values, largest first, shape (r,).

    Returns:
      Shape (r,), never falling, 1 at the end.
    """
    kept = np.cumsum(squares)
    return kept / kept[-1] if kept[-1] > 0 else np.ones_like(squares)


def best_mixing(r_a: Floats, r_b: Floats, rank: int) -> tuple[Floats, Floats]:
    """The matrices that turn A and B into balanced factors of the best approximation of `BA`.

        B' = Q_b U_k S_k^(1/2),   A' = S_k^(1/2) V_k^T Q_a^T

    need neither Q_a nor Q_b: `Q_b U S = B R_a^T V` and `Q_a V S = A^T R_b^T U`, so B' is B times
    a small matrix, and A'^T is A^T times one. Directions in which `BA` is 0 get 0.

    Args:
      r_a: shape (at most r, r), as returned by `triangles`.
      r_b: likewise.
      rank: k, from 1 to r.

    Returns:
      `M_a = R_b^T U_k S_k^(-1/2)` and `M_b = R_a^T V_k S_k^(-1/2)`, both of shape (r, k).
      `B' A'` with `A'^T = A^T M_a` and `B' = B M_b` is the best approximation of rank k in the
      Frobenius and the spectral norm (Eckart-Young).
    """
    u, values, vt = np.linalg.svd(r_b @ r_a.T, full_matrices=False)
    kept = min(rank, int(np.count_nonzero(values > _rounding(r_a, r_b))))
    root = np.sqrt(values[:kept])
    mix_a, mix_b = np.zeros((2, r_a.shape[1], rank))
    mix_a[:, :kept] = r_b.T @ (u[:, :kept] / root)
    mix_b[:, :kept] = r_a.T @ (vt[:kept].T / root)
    return mix_a, mix_b


def mixed_a(a: Stored, mix_a: Floats) -> Iterator[tuple[int, Floats]]:
    """`A'` with `A'^T = A^T M_a`, shape (k, in), as blocks of columns with their start."""
    return ((i * _BLOCK, (block @ mix_a).T) for i, block in enumerate(_columns(a)))


def mixed_b(b: Stored, mix_b: Floats) -> Iterator[tuple[int, Floats]]:
    """`B' = B M_b`, shape (out, k), as blocks of rows with their start."""
    return ((i * _BLOCK, block @ mix_b) for i, block in enumerate(_rows(b)))


def _rounding(r_a: Floats, r_b: Floats) -> float:
    """The threshold below which a singular value of the core is a rounding error."""
    return float(np.linalg.norm(r_a) * np.linalg.norm(r_b)) * r_a.shape[1] * _EPS


def _rows(stored: Stored) -> Iterator[Floats]:
    """Blocks of a matrix's rows."""
    return (decode(stored[i : i + _BLOCK]) for i in range(0, stored.shape[0], _BLOCK))


def _columns(stored: Stored) -> Iterator[Floats]:
    """Blocks of the rows of a matrix's transpose."""
    for start in range(0, stored.shape[1], _SLAB):
        slab = stored[:, start : start + _SLAB]
        for i in range(0, slab.shape[1], _BLOCK):
            yield decode(slab[:, i : i + _BLOCK]).T


def _gram(blocks: Iterator[Floats]) -> Floats:
    """`X^T X` of a tall X."""
    return sum((block.T @ block for block in blocks), start=np.zeros(()))


def _triangle(blocks: Iterator[Floats]) -> Floats:
    """R of the QR of a tall X, computed from the R of its blocks, stacked as they are read.

    A block is split into a stack of parts, since numpy releases the interpreter lock during the QR
    of a stack, but not during that of a single matrix with few columns.
    """
    parts: list[Floats] = []
    for block in blocks:
        rows, rank = block.shape
        padding = np.zeros((-rows % _PARTS, rank))
        stack = np.concatenate([block, padding]).reshape(_PARTS, -1, rank)
        parts.append(_r(stack).reshape(-1, rank))
        if sum(map(len, parts)) >= _GATHERED:
            parts = [_r(np.concatenate(parts))]
    return _r(np.concatenate(parts))


def _r(rows: Floats) -> Floats:
    return np.asarray(np.linalg.qr(rows, mode="r"))  # numpy's type stubs lack this mode
