"""A LoRA adapter: its weights, their initial values, and its PEFT files.

All weights of an adapter are views of one flat float32 tensor, and so are their gradients. The
optimiser works on one tensor, and an adapter is copied to another device in one operation.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from retrain_backends.local.files import write_tensors
from retrain_backends.local.fused_lora import LoraFactors, Projection
from retrain_backends.local.peft_config import write_peft_config
from retrain_backends.randomness import Purpose, stream


class Adapter:
    """LoRA factors for every projection of one base model.

    `A ~ U(-1/sqrt(in), 1/sqrt(in))` (PEFT's default, Kaiming uniform with a = sqrt(5)) from the
    stream (seed, ADAPTER, layer), `B = 0`: a new adapter does not change the model's output, and is
    the same for every condition with the same seed, on every device.
    """

    def __init__(
        self,
        projections: Sequence[Projection],
        *,
        rank: int,
        alpha: float,
        dropout: float,
        seed: int,
        device: torch.device,
    ) -> None:
        self.rank, self.alpha, self.dropout = rank, alpha, dropout
        self._names = [projection.names for projection in projections]
        self._transposed = any(projection.transposed for projection in projections)
        shapes = [shape for projection in projections for shape in _shapes(projection, rank)]
        sizes = [rows * columns for rows, columns in shapes]
        self.weights = torch.zeros(sum(sizes), device=device)
        self.gradient = torch.zeros_like(self.weights)
        self._factors = [
            nn.Parameter(part.view(shape), requires_grad=True)
            for part, shape in zip(self.weights.split(sizes), shapes, strict=True)
        ]
        parts = zip(self._factors, self.gradient.split(sizes), shapes, strict=True)
        for factor, gradient, shape in parts:
            factor.grad = gradient.view(shape)  # backward passes accumulate in the flat gradient
        self._by_projection = list(_grouped(self._factors, projections))
        self._draw(seed)

    def _draw(self, seed: int) -> None:
        layer = 0
        for a, *_ in self._by_projection:
            bound = a.shape[1] ** -0.5
            for rows in a.data.split(self.rank):
                values = stream(seed, Purpose.ADAPTER, layer).uniform(-bound, bound, rows.shape)
                rows.copy_(torch.from_numpy(values.astype(np.float32)))
                layer += 1

    def factors(self, projection: int) -> LoraFactors:
        """The factors of the projection with this index."""
        a, *bs = self._by_projection[projection]
        return LoraFactors(a=a, b=bs, scale=self.alpha / self.rank, dropout=self.dropout)

    def copy_from(self, other: "Adapter") -> None:
        """Copy another adapter's weights, from any device."""
        self.weights.copy_(other.weights)

    def _named(self, values: str = "data") -> Iterator[tuple[str, Tensor]]:
        """Views of the weights, or of their gradients ("grad"), under PEFT's names."""
        for factors, names in zip(self._by_projection, self._names, strict=True):
            a, *bs = (getattr(factor, values) for factor in factors)
            for name, rows, b in zip(names, a.split(self.rank), bs, strict=True):
                yield f"base_model.model.{name}.lora_A.weight", rows
                yield f"base_model.model.{name}.lora_B.weight", b

    def state(self) -> dict[str, Tensor]:
        """A copy of the weights under PEFT's names, float32, on the CPU."""
        return {name: view.detach().to("cpu", copy=True) for name, view in self._named()}

    def gradient_state(self) -> dict[str, Tensor]:
        """A copy of the gradient under the same names."""
        return {name: view.to("cpu", copy=True) for name, view in self._named("grad")}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy the weights of `state`, or of a PEFT file of the same rank and layers."""
        for name, view in self._named():
            view.copy_(tensors[name])

    def export(self, directory: Path, base_model: str) -> None:
        """Write a directory that `peft.PeftModel.from_pretrained` can load."""
        directory.mkdir(parents=True, exist_ok=True)
        layers = {name.rsplit(".", 1)[-1] for names in self._names for name in names}
        write_peft_config(
            directory,
            base_model,
            sorted(layers),
            rank=self.rank,
            alpha=self.alpha,
            dropout=self.dropout,
            fan_in_fan_out=self._transposed,
        )
        write_tensors(self.state(), directory / "adapter_model.safetensors", {"format": "pt"})


def _shapes(projection: Projection, rank: int) -> list[tuple[int, int]]:
    """Shape of the stacked A, then of each B."""
    a = (rank * len(projection.widths), projection.in_features)
    return [a, *((width, rank) for width in projection.widths)]


def _grouped(factors: Sequence[nn.Parameter], projections: Sequence[Projection]):
    start = 0
    for projection in projections:
        end = start + 1 + len(projection.widths)
        yield factors[start:end]
        start = end
