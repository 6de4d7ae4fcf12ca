"""The singular values of an update `BA`, and its best approximation, without forming it.

    QR of A^T and B, SVD of the r x r core R_b R_a^T = U S V^T

A and B are read in blocks, as they are stored; everything is computed in float64, in which all
stored formats are exact. Source: LoRA-Squeeze, arXiv 2602.10993.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrain_squeeze.tensors import Matrix, decode

Floats = NDArray[np.float64]
Stored = NDArray[Any] | Matrix

_BLOCK = 2048  # rows decoded at once: two megabytes at rank 128, which stay in the cache
_PARTS = 4
_SLAB = 8 * _BLOCK  # columns taken at once: those of most modules, which lie together in the file
_GATHERED = 2 * _BLOCK  # rows of triangles, from which on a QR makes one triangle of them
# Cancellation between A and B, ||A||^2 ||B||^2 / ||BA||^2, up to which Gram matrices will do.
_MOST_CANCELLED = 1e6
_EPS = float(np.finfo(np.float64).eps)


def squared_singular_values(a: Stored, b: Stored) -> Floats:
    """Squares of the singular values of `BA`, largest first; all 0 where it is 0 but for rounding.

    They are the eigenvalues of `F (B^T B) F^T` with `F^T F = A A^T`. Their errors are at most some
    eps ||A||^2 ||B||^2. Where that could be more than a share of about 1e-9 of ||BA||^2, which is
    all that retained variance asks for, the core is taken from QR; it does not square A and B,
    but takes five times as long.

    Args:
      a: lora_A as stored, shape (r, in).
      b: lora_B as stored, shape (out, r).

    Returns:
      Shape (r,); not numbers where a factor holds something that is not finite.
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
    """What turns B and A into the balanced factors of the best approximation of `BA` of a rank.

        B' = Q_b U_k S_k^(1/2),   A' = S_k^(1/2) V_k^T Q_a^T

    need neither Q_a nor Q_b: `Q_b U S = B R_a^T V` and `Q_a V S = A^T R_b^T U`, so that B' is B
    and A'^T is A^T times a small matrix. Directions in which `BA` is 0 get 0.

    Args:
      r_a: shape (at most r, r), as `triangles` gives it.
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
    """`A'` with `A'^T = A^T M_a`, shape (k, in), in blocks of columns with the first of each."""
    return ((i * _BLOCK, (block @ mix_a).T) for i, block in enumerate(_columns(a)))


def mixed_b(b: Stored, mix_b: Floats) -> Iterator[tuple[int, Floats]]:
    """`B' = B M_b`, shape (out, k), in blocks of rows with the first of each."""
    return ((i * _BLOCK, block @ mix_b) for i, block in enumerate(_rows(b)))


def _rounding(r_a: Floats, r_b: Floats) -> float:
    """Below this, a singular value of the core is an error of rounding."""
    return float(np.linalg.norm(r_a) * np.linalg.norm(r_b)) * r_a.shape[1] * _EPS


def _rows(stored: Stored) -> Iterator[Floats]:
    """Blocks of a matrix's rows."""
    return (decode(stored[i : i + _BLOCK]) for i in range(0, stored.shape[0], _BLOCK))


def _columns(stored: Stored) -> Iterator[Floats]:
    """Blocks of the rows of its transpose."""
    for start in range(0, stored.shape[1], _SLAB):
        slab = stored[:, start : start + _SLAB]
        for i in range(0, slab.shape[1], _BLOCK):
            yield decode(slab[:, i : i + _BLOCK]).T


def _gram(blocks: Iterator[Floats]) -> Floats:
    """`X^T X` of a tall X."""
    return sum((block.T @ block for block in blocks), start=np.zeros(()))


def _triangle(blocks: Iterator[Floats]) -> Floats:
    """R of the QR of a tall X: of the R of its parts, one below the other, as they come.

    A block is cut into a stack of parts, as numpy lets other threads run during the QR of a stack,
    but not of one matrix with as few columns.
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
    return np.asarray(np.linalg.qr(rows, mode="r"))  # numpy's types do not know this mode
