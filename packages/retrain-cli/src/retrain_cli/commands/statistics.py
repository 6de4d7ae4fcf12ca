"""`retrain statistics`: what seeds can show, and the error rates of the verdicts."""

from typing import TYPE_CHECKING

import click

from retrain_cli.command import Command

if TYPE_CHECKING:
    from rich.table import Table

_SECTIONS = {
    "Examples": (
        ("retrain statistics", "the difference that 3 to 16 seeds can show"),
        ("retrain statistics --contrasts 4", "the same for four conditions against a control"),
        ("retrain statistics --selfcheck", "simulate the error rates of all tests, for minutes"),
    ),
    "Exit codes": (
        ("0", "done; with --selfcheck, all error rates keep their limits"),
        ("1", "an error rate does not"),
    ),
}
_SEEDS = (3, 4, 5, 6, 8, 10, 16)


@click.command(cls=Command, sections=_SECTIONS)
@click.option("--selfcheck", is_flag=True, help="Simulate the error rates of all tests.")
@click.option("--quick", is_flag=True, help="With --selfcheck: a twentieth of the repetitions.")
@click.option(
    "--contrasts",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    help="Number of contrasts that are declared. [1]",
)
def statistics(selfcheck: bool, quick: bool, contrasts: int) -> int:
    """Show what seeds can show, or check the error rates of the verdicts."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if not selfcheck:
        console.print(_reach_table(contrasts))
        return 0
    from retrain_campaign.statistics.selfcheck import (
        QUICK_REPETITIONS,
        REPETITIONS,
        check_error_rates,
    )

    repetitions = QUICK_REPETITIONS if quick else REPETITIONS
    table = _table(f"Error rates in %, {repetitions:,} simulated campaigns in each setting")
    for column in ("settings", "lowest", "highest", "limit", ""):
        table.add_column(column, justify="right")
    holds = True
    with Console(stderr=True).status("simulating"):
        for check in check_error_rates(repetitions):
            holds = holds and check.holds
            limit = check.at_most if check.at_least is None else check.at_least
            bound = (
                "-" if limit is None else f"{'≤' if check.at_least is None else '≥'} {limit:.0%}"
            )
            rates = (f"{100 * rate:.1f}" for rate in (check.lowest, check.highest))
            mark = "" if limit is None else "holds" if check.holds else "FAILS"
            table.add_row(check.name, str(check.settings), *rates, bound.rstrip("%"), mark)
    console.print(table)
    return 0 if holds else 1


def _reach_table(contrasts: int) -> "Table":
    from retrain_campaign.statistics.power import Design, detectable_effect, provable_margin

    family = f"{contrasts} contrasts" if contrasts > 1 else "one contrast"
    table = _table(f"Shown in 80 % of campaigns, in sd of the paired difference: {family}")
    for column in ("difference found", "margin shown"):
        table.add_column(column, justify="right")
    if contrasts > 1:
        table.add_column("pooled: difference found", justify="right")
        table.add_column("margin shown", justify="right")
    ways = (False, True) if contrasts > 1 else (False,)
    for seeds in _SEEDS:
        designs = [Design(seeds, contrasts, pooled) for pooled in ways]
        cells = [
            f"{reach(d):.2f}" for d in designs for reach in (detectable_effect, provable_margin)
        ]
        table.add_row(f"{seeds} seeds", *cells)
    return table


def _table(title: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    return table
