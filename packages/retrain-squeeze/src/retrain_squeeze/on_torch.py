"""QR on a device that PyTorch drives; what is small stays with numpy. Needs the extra `torch`."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from retrain_squeeze.engine import Engine
from retrain_squeeze.errors import SqueezeConfigError
from retrain_squeeze.spectrum import Floats, Stored, squares_of_core


def torch_engine(device: str) -> Engine:
    """The engine of a device as PyTorch names it, such as `cuda:0`.

    Raises:
      SqueezeConfigError: PyTorch knows no such device, or this machine has none.
    """
    try:
        place = torch.device(device)
        torch.zeros(1, dtype=torch.float64, device=place).item()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        said = str(error).partition("\n")[0]
        raise SqueezeConfigError(
            f"device is `{device}`, where PyTorch cannot compute in float64 ({said}); use `cpu`"
        ) from error

    def triangles(a: Stored, b: Stored) -> tuple[Floats, Floats]:
        return _triangle(a[:].T, place), _triangle(b[:], place)

    def squares(a: Stored, b: Stored) -> Floats:
        return squares_of_core(*triangles(a, b))

    return Engine(squares, triangles, threads=1)


def _triangle(stored: NDArray[Any], place: torch.device) -> Floats:
    """R of a tall matrix, which travels to the device as it is stored."""
    bits = stored.dtype == np.uint16  # of bfloat16
    moved = torch.from_numpy(stored.view(np.int16) if bits else stored).to(place)
    numbers = (moved.view(torch.bfloat16) if bits else moved).double()
    return torch.linalg.qr(numbers, mode="r").R.cpu().numpy()
