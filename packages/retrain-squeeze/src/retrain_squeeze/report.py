"""Report an analysis as a table or as JSON."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retrain_squeeze.analysis import SqueezeAnalysis

_WORST = 5


@dataclass(frozen=True)
class AnalyzedAdapter:
    """An analysis, with the adapter as the user named it and the bytes of its LoRA tensors."""

    adapter: str
    analysis: SqueezeAnalysis
    size: int

    def bytes_of(self, parameters: int) -> int:
        """The size of this many parameters in the number format of the adapter."""
        return round(self.size * parameters / self.analysis.parameters(self.analysis.source_rank))


@dataclass(frozen=True)
class Outputs:
    """What was written after the analysis; None or empty if it was not.

    `output` is the directory of the compressed adapter and `ranks` the rank of each of its modules;
    `wandb` is the address of the run.
    """

    output: Path | None = None
    ranks: Mapping[str, int] | None = None
    picture: Path | None = None
    wandb: str = ""


@dataclass(frozen=True)
class SqueezeReport:
    """An analysis and what was written after it."""

    analyzed: AnalyzedAdapter
    outputs: Outputs

    def as_json(self) -> str:
        """One JSON object: shares of variance in [0, 1], sizes in bytes."""
        return json.dumps(self._record(), indent=2, ensure_ascii=False, allow_nan=False)

    def _record(self) -> dict[str, Any]:
        analysis, outputs = self.analyzed.analysis, self.outputs
        rank = analysis.recommended_rank
        per_module = analysis.module_ranks()
        rows = [
            {
                "rank": row.rank,
                "mean": row.mean,
                "min": row.minimum,
                "max": row.maximum,
                "recommended": row.rank == rank,
            }
            for row in analysis.table
        ]
        worst = analysis.worst_modules(rank, _WORST)
        return {
            "adapter": self.analyzed.adapter,
            "source_rank": analysis.source_rank,
            "min_variance_retention": analysis.min_variance_retention,
            "recommended_rank": rank,
            "num_layers": len(analysis.modules),
            "zero_modules": list(analysis.zero_modules),
            "table": rows,
            "worst_modules": [
                {"name": module.name, "retained": module.retained_at(rank)} for module in worst
            ],
            "module_ranks": per_module,
            "sizes": {
                "source": self._sizes(analysis.source_rank),
                "recommended": self._sizes(rank),
                "per_module": self._sizes(per_module),
            },
            "output": None if outputs.output is None else str(outputs.output),
            "output_ranks": outputs.ranks and dict(outputs.ranks),
            "picture": None if outputs.picture is None else str(outputs.picture),
            "wandb": outputs.wandb or None,
        }

    def _sizes(self, ranks: int | Mapping[str, int]) -> dict[str, int]:
        parameters = self.analyzed.analysis.parameters(ranks)
        return {"parameters": parameters, "bytes": self.analyzed.bytes_of(parameters)}


def print_analysis(console: Console, analyzed: AnalyzedAdapter) -> None:
    """Print the table of ranks and the recommendation."""
    table = Table(
        title=f"How much of {analyzed.adapter} a rank keeps",
        title_justify="left",
        title_style="bold",
    )
    for column in ("Rank", "Mean Var%", "Min Var%", "Max Var%"):
        table.add_column(column, justify="right")
    table.add_column("")
    sign = "←" if console.encoding.startswith("utf") else "<-"
    for row in analyzed.analysis.table:
        chosen = row.rank == analyzed.analysis.recommended_rank
        shares = [f"{100 * share:.2f}" for share in (row.mean, row.minimum, row.maximum)]
        arrow = f"{sign} recommended" if chosen else ""
        table.add_row(str(row.rank), *shares, arrow, style="green" if chosen else None)
    console.print(table)
    _print_facts(console, _analysis_facts(analyzed))


def print_outputs(console: Console, analyzed: AnalyzedAdapter, outputs: Outputs) -> None:
    """Print what was written and where."""
    _print_facts(console, _output_facts(analyzed, outputs))


def _analysis_facts(analyzed: AnalyzedAdapter) -> Iterator[tuple[str, str]]:
    analysis, rank = analyzed.analysis, analyzed.analysis.recommended_rank
    yield "recommended", _recommendation(analysis)
    if (lowest := _lowest(analysis)) < rank:
        yield (
            "lowest",
            f"rank {lowest} would be sufficient; add it to target_ranks (--target-ranks)",
        )
    yield "modules", _modules(analysis)
    if rank < analysis.source_rank:
        worst = analysis.worst_modules(rank, _WORST)
        lines = [f"{100 * module.retained_at(rank):6.2f}%  {module.name}" for module in worst]
        yield f"least kept at {rank}", "\n".join(lines)
    yield (
        f"size at {analysis.source_rank}",
        f"{_size(analyzed, analysis.source_rank)}, the adapter itself",
    )
    if rank < analysis.source_rank:
        yield f"size at {rank}", _size(analyzed, rank)
        ranks = analysis.module_ranks()
        spread = f"ranks {min(ranks.values())} to {max(ranks.values())}"
        yield (
            "per module",
            f"{_size(analyzed, ranks)}: {spread}, same variance kept (per_module = true)",
        )


def _recommendation(analysis: SqueezeAnalysis) -> str:
    rank, wanted = analysis.recommended_rank, f"{100 * analysis.min_variance_retention:g}%"
    if rank == analysis.source_rank:
        return f"rank {rank}, the adapter's own: no lower rank in the table keeps {wanted}"
    kept = f"{100 * analysis.mean_retained(rank):.2f}% of the variance on average"
    return f"rank {rank} of {analysis.source_rank}: keeps {kept}, {wanted} is required"


def _lowest(analysis: SqueezeAnalysis) -> int:
    """The lowest rank, in the table or not, whose mean reaches the threshold."""
    ranks = range(1, analysis.source_rank + 1)
    return next(
        (rank for rank in ranks if analysis.mean_retained(rank) >= analysis.min_variance_retention),
        analysis.source_rank,
    )


def _modules(analysis: SqueezeAnalysis) -> str:
    zero = analysis.zero_modules
    text = f"{len(analysis.modules)} layers"
    if not zero:
        return text
    names = ", ".join(zero[:_WORST]) + (", …" if len(zero) > _WORST else "")
    return f"{text}, {len(zero)} of them all zero, which the table leaves out: {names}"


def _size(analyzed: AnalyzedAdapter, ranks: int | Mapping[str, int]) -> str:
    parameters = analyzed.analysis.parameters(ranks)
    whole = analyzed.analysis.parameters(analyzed.analysis.source_rank)
    share = "" if parameters == whole else f" ({parameters / whole:.0%})"
    return f"{parameters:,} parameters, {_megabytes(analyzed.bytes_of(parameters))}{share}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.{2 if size < 1e7 else 0}f} MB"


def _output_facts(analyzed: AnalyzedAdapter, outputs: Outputs) -> Iterator[tuple[str, str]]:
    if outputs.output is not None:
        ranks = set((outputs.ranks or {}).values())
        which = f"rank {min(ranks)}" if len(ranks) == 1 else f"ranks {min(ranks)} to {max(ranks)}"
        yield "adapter", f"{outputs.output} ({which}, {_size(analyzed, outputs.ranks or {})})"
    elif analyzed.analysis.recommended_rank < analyzed.analysis.source_rank:
        rank = analyzed.analysis.recommended_rank
        yield "adapter", f"not written; output_path (--output-path DIR) writes it at rank {rank}"
    if outputs.picture is not None:
        yield "picture", str(outputs.picture)
    if outputs.wandb:
        yield "wandb", outputs.wandb


def _print_facts(console: Console, facts: Iterable[tuple[str, str]]) -> None:
    if not console.is_terminal:
        for label, text in facts:
            line = f"{label}: {', '.join(' '.join(part.split()) for part in text.splitlines())}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True, min_width=17)
    table.add_column(overflow="fold")
    for label, text in facts:
        table.add_row(label, Text(text))
    console.print(table)
