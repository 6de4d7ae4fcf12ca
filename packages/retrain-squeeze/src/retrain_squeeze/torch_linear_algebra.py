"""QR on a PyTorch device; small matrices stay in numpy. Needs the extra `torch`."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from retrain_squeeze.errors import SqueezeConfigError
from retrain_squeeze.linear_algebra import LinearAlgebra
from retrain_squeeze.spectrum import Floats, Stored, squares_of_core


def torch_linear_algebra(device: str) -> LinearAlgebra:
    """The linear algebra for a PyTorch device such as `cuda:0`.

    Raises:
      SqueezeConfigError: PyTorch has no such device, or this machine does not.
    """
    try:
        target = torch.device(device)
        torch.zeros(1, dtype=torch.float64, device=target).item()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise SqueezeConfigError(
            f"device is `{device}`, on which PyTorch cannot compute in float64 ({reason}); "
            "use `cpu`"
        ) from error

    def triangles(a: Stored, b: Stored) -> tuple[Floats, Floats]:
        return _triangle(a[:].T, target), _triangle(b[:], target)

    def squares(a: Stored, b: Stored) -> Floats:
        return squares_of_core(*triangles(a, b))

    return LinearAlgebra(squares, triangles, threads=1)


def _triangle(stored: NDArray[Any], device: torch.device) -> Floats:
    """R of the QR of a tall matrix, which is moved to the device in its stored format."""
    bits = stored.dtype == np.uint16  # bfloat16
    moved = torch.from_numpy(stored.view(np.int16) if bits else stored).to(device)
    numbers = (moved.view(torch.bfloat16) if bits else moved).double()
    return torch.linalg.qr(numbers, mode="r").R.cpu().numpy()
