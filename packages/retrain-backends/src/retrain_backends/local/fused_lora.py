"""LoRA layers that share an input, computed together.

PEFT wraps each linear layer in its own module, so the query, key and value projections read the
same input six times. Here the layers that share an input are one `Projection`: their weights are
stacked, so that one product computes all of their outputs, and one autograd function computes the
LoRA update in place of autograd's chain of small operations:

    u = x A^T,    y_i = x W_i^T + b_i + s * u_i B_i^T            s = alpha / rank

The model keeps its modules: each linear layer's `forward` returns the output of its projection.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

# Names, in transformers' models, of sibling layers that read the same input.
SHARED_INPUT = (
    frozenset({"q_proj", "k_proj", "v_proj"}),
    frozenset({"gate_proj", "up_proj"}),
)


Layer = nn.Linear | Conv1D  # Conv1D, of GPT-2, is a linear layer with its weight transposed
_FORWARDS = (nn.Linear.forward, Conv1D.forward)  # subclasses may compute something else


@dataclass(frozen=True)
class LoraFactors:
    """An adapter's factors for one projection: `a` (sum of ranks, in), `b[i]` (out_i, rank)."""

    a: Tensor
    b: Sequence[Tensor]
    scale: float
    dropout: float


class _LoraLinear(torch.autograd.Function):
    """All outputs of one projection; saves the input and `u` only, not the larger outputs."""

    @staticmethod
    def forward(ctx, x, lora_x, weight, bias, scale, a, *bs):
        flat_x = x.reshape(-1, x.shape[-1])
        flat_lora_x = flat_x if lora_x is None else lora_x.reshape(-1, x.shape[-1])
        a, bs = a.to(x.dtype), [b.to(x.dtype) for b in bs]
        u = flat_lora_x @ a.t()
        y = functional.linear(flat_x, weight, bias)
        outputs, rank = y.split([b.shape[0] for b in bs], dim=-1), bs[0].shape[1]
        for i, (output, b) in enumerate(zip(outputs, bs, strict=True)):
            output.addmm_(u[:, i * rank : (i + 1) * rank], b.t(), alpha=scale)
        ctx.save_for_backward(flat_x if lora_x is None else flat_lora_x, u, weight, a, *bs)
        ctx.scale, ctx.shape, ctx.separate = scale, x.shape, lora_x is not None
        return tuple(output.view(*x.shape[:-1], -1) for output in outputs)

    @staticmethod
    def backward(ctx, *grads):  # pyright: ignore[reportIncompatibleMethodOverride]
        lora_x, u, weight, a, *bs = ctx.saved_tensors
        rank, scale = bs[0].shape[1], ctx.scale
        grads = [grad.reshape(-1, grad.shape[-1]) for grad in grads]
        grad_u = torch.empty_like(u)
        grad_bs = []
        for i, (grad, b) in enumerate(zip(grads, bs, strict=True)):
            columns = slice(i * rank, (i + 1) * rank)
            torch.mm(grad, b, out=grad_u[:, columns])
            grad_bs.append((grad.t() @ u[:, columns]).mul_(scale))
        grad_u.mul_(scale)
        grad_a = grad_u.t() @ lora_x
        grad_x = grad_lora_x = None
        if ctx.needs_input_grad[0]:
            rows = weight.split([grad.shape[1] for grad in grads])
            grad_x = grads[0] @ rows[0]
            for grad, part in zip(grads[1:], rows[1:], strict=True):
                grad_x.addmm_(grad, part)
            if not ctx.separate:
                grad_x.addmm_(grad_u, a)
            grad_x = grad_x.view(ctx.shape)
        if ctx.separate and ctx.needs_input_grad[1]:
            grad_lora_x = (grad_u @ a).view(ctx.shape)
        return grad_x, grad_lora_x, None, None, None, grad_a.float(), *(g.float() for g in grad_bs)


class Projection:
    """The linear layers that share an input, and the factors of the attached adapter."""

    def __init__(self, names: Sequence[str], layers: Sequence[Layer]) -> None:
        self.names = tuple(names)
        self.layers = tuple(layers)
        self.transposed = isinstance(layers[0], Conv1D)
        self.weight = torch.cat([_rows(layer) for layer in layers])
        self.widths = [len(_rows(layer)) for layer in layers]
        self.in_features = self.weight.shape[1]
        self.bias = _stacked_bias(layers)
        self.factors: LoraFactors | None = None
        self._merged: Tensor | None = None
        self._input: Tensor | None = None
        self._outputs: dict[int, Tensor] = {}
        for i, (layer, rows) in enumerate(zip(layers, self.weight.split(self.widths), strict=True)):
            # A view: the stacked weight is the only copy.
            layer.weight.data = rows.t() if self.transposed else rows
            layer.forward = _Output(self, i)  # pyright: ignore[reportAttributeAccessIssue]

    def output(self, index: int, x: Tensor) -> Tensor:
        """Output of layer `index` for `x`; the first call computes those of all layers."""
        if self._input is not x or index not in self._outputs:
            self._input, self._outputs = x, dict(enumerate(self._compute(x)))
        y = self._outputs.pop(index)
        if not self._outputs:
            self._input = None
        return y

    def _compute(self, x: Tensor) -> Sequence[Tensor]:
        factors = self.factors
        if factors is None or self._merged is not None:
            weight = self.weight if self._merged is None else self._merged
            return functional.linear(x, weight, self.bias).split(self.widths, dim=-1)
        drop = factors.dropout > 0 and torch.is_grad_enabled()
        lora_x = functional.dropout(x, factors.dropout) if drop else None
        return _LoraLinear.apply(  # pyright: ignore[reportReturnType]
            x, lora_x, self.weight, self.bias, factors.scale, factors.a, *factors.b
        )

    def replace_weight(self, replacement: Callable[[Tensor], Tensor]) -> None:
        """Use another weight of the same shape; those of the layers are freed."""
        weight = replacement(self.weight)
        for layer in self.layers:
            layer.weight.data = self.weight.new_empty(0)
        self.weight = weight

    @torch.no_grad()
    def merge(self) -> None:
        """Merge the adapter into a copy of the weight, W_i + s * B_i A_i, until `unmerge`."""
        if self.factors is None:
            return
        merged = torch.empty_like(self.weight)
        parts = zip(
            merged.split(self.widths),
            self.weight.split(self.widths),
            self.factors.b,
            self.factors.a.split([b.shape[1] for b in self.factors.b]),
            strict=True,
        )
        for out, weight, b, a in parts:
            torch.addmm(weight, b, a, alpha=self.factors.scale, out=out)
        self._merged = merged

    def unmerge(self) -> None:
        """Drop the merged copy of the weight."""
        self._merged = None


class _Output:
    """The `forward` of one linear layer."""

    def __init__(self, projection: Projection, index: int) -> None:
        self.projection = projection
        self.index = index

    def __call__(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that nn.Linear uses
        return self.projection.output(self.index, input)


def _rows(layer: Layer) -> Tensor:
    """The weight as rows of the product x W^T, shape (out, in)."""
    return layer.weight.data.t() if isinstance(layer, Conv1D) else layer.weight.data


def _stacked_bias(layers: Sequence[Layer]) -> Tensor | None:
    if all(layer.bias is None for layer in layers):
        return None
    return torch.cat(
        [
            _rows(layer).new_zeros(len(_rows(layer))) if layer.bias is None else layer.bias.data
            for layer in layers
        ]
    )


def find_projections(model: nn.Module, head: nn.Module) -> list[Projection]:
    """Group all linear layers except the head into projections, in the model's order."""
    projections = []
    for parent_name, parent in model.named_modules():
        linears = {
            name: child
            for name, child in parent.named_children()
            if isinstance(child, Layer) and type(child).forward in _FORWARDS and child is not head
        }
        for names in _siblings(linears):
            full_names = [f"{parent_name}.{name}" if parent_name else name for name in names]
            projections.append(Projection(full_names, [linears[name] for name in names]))
    return projections


def _siblings(linears: dict[str, Layer]) -> list[list[str]]:
    """Group one module's linear layers by shared input."""
    groups: list[list[str]] = []
    remaining = list(linears)
    while remaining:
        first = remaining[0]
        family = next((names for names in SHARED_INPUT if first in names), frozenset({first}))
        same = [
            name
            for name in remaining
            if name in family
            and type(linears[name]) is type(linears[first])
            and _rows(linears[name]).shape[1] == _rows(linears[first]).shape[1]
        ]
        groups.append(same)
        remaining = [name for name in remaining if name not in same]
    return groups
