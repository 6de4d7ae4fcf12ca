"""`retrain resume-check DIR`: report what would be resumed and whether it is exact."""

from collections.abc import Iterable
from pathlib import Path

import click

from retrain_cli.command import Command

_SECTIONS = {
    "Arguments": (("DIRECTORY", "the directory of the run, as for --resume"),),
    "Exit codes": (
        ("0", "the run would be resumed exactly"),
        ("2", "it cannot be resumed, or not exactly"),
    ),
}


@click.command(cls=Command, sections=_SECTIONS)
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--prove",
    metavar="N",
    type=int,
    default=0,
    help="Also run N steps twice, once killed and resumed, and compare the results.",
)
def resume_check(directory: Path, prove: int) -> int:
    """Report what would be resumed and whether it is exact."""
    from retrain_backends.train.checks.resume_check import check_resume

    report = check_resume(directory)
    _print_table(report.facts)
    proven = not prove or _prove(directory, prove)
    return 0 if report.exact and proven else 2


def _prove(directory: Path, steps: int) -> bool:
    from retrain_backends.train.checks.resume_proof import prove_resume

    proof = prove_resume(directory, steps, click.echo)
    names = sorted({*proof.undisturbed, *proof.killed})
    pairs = [
        (name, proof.undisturbed.get(name, "-"), proof.killed.get(name, "-")) for name in names
    ]
    _print_table(
        (name, f"{one[:16]}  {two[:16]}  {'same' if one == two else 'DIFFERENT'}")
        for name, one, two in pairs
    )
    reasons = f" ({'; '.join(proof.weaknesses)})" if proof.weaknesses else ""
    click.echo(f"proven: {'yes' if proof.holds else 'no'}{reasons}")
    return proof.holds


def _print_table(rows: Iterable[tuple[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        for label, text in rows:
            click.echo(f"{label}: {text}")
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for label, text in rows:
        table.add_row(label, Text(text))
    console.print(table)
