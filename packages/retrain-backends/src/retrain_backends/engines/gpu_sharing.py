"""How a trainer and an inference engine share the memory of one GPU."""

from dataclasses import dataclass

from retrain_backends.errors import ConfigError
from retrain_backends.memory import size_text

_USABLE = 0.95  # share of the memory; the rest is the driver's, and lost to fragmentation
_BUFFERS = 2 * 10**9  # bytes of the engine's graphs, buffers and context
_FEW = 32  # completions at once with which a GPU is busy


@dataclass(frozen=True)
class Needs:
    """Bytes that trainer and engine need on one GPU.

    Args:
      resident: of the trainer at any time: weights, adapter and optimiser.
      step: of the trainer besides, during a step.
      weights: of the engine's copy of the model.
      completion: of the key-value cache of a prompt with one completion, both at their longest.
      completions: of a training step.
    """

    resident: int
    step: int
    weights: int
    completion: int
    completions: int

    @property
    def training(self) -> int:
        """All that the trainer needs during a step."""
        return self.resident + self.step

    def sampling(self, completions: int) -> int:
        """All that the engine needs for that many completions at once."""
        return self.weights + _BUFFERS + min(completions, self.completions) * self.completion


@dataclass(frozen=True)
class Sharing:
    """The share of an engine in a GPU.

    Args:
      sleeps: whether it gives its memory back while the trainer trains.
      utilization: share of the memory that it may use while it samples.
      reason: of `sleeps`, in words.
    """

    sleeps: bool
    utilization: float
    reason: str


def share(needs: Needs, memory: int, device: str) -> Sharing:
    """The share of an engine in a GPU that the trainer uses too.

    It sleeps only if what training needs, and the engine with a cache for 32 completions, do not
    fit together. Awake or not, it gets no more than the cache of a whole step.

    Args:
      needs: of both.
      memory: of the GPU, bytes.
      device: its name, for messages.

    Raises:
      ConfigError: the engine cannot be there even while nothing is trained.
    """
    usable = int(_USABLE * memory)
    least, most = needs.sampling(_FEW), needs.sampling(needs.completions)
    both = f"sampling {size_text(least)} and training {size_text(needs.training)}"
    fits = least + needs.training <= usable
    room = usable - (needs.training if fits else needs.resident)
    if room < needs.sampling(1):
        raise ConfigError(
            f"model.model: {device} has {size_text(memory)}, too little for the trainer"
            f" ({size_text(needs.resident)}) and the engine ({size_text(needs.sampling(1))});"
            ' give each a device (backend.devices = "gpu:0,gpu:1") or use a server (inference.url)'
        )
    reason = (
        f"{both} fit into the {size_text(memory)} of {device}"
        if fits
        else f"{both} do not fit into the {size_text(memory)} of {device} together"
    )
    return Sharing(not fits, min(room, most) / memory, reason)
