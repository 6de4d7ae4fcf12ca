"""`retrain rewards check [PATH.toml] [--flag value]...`: try the reward before training."""

from typing import TYPE_CHECKING

import click

from retrain_cli.command import ConfigCommand
from retrain_cli.dispatch import Group

if TYPE_CHECKING:
    from rich.table import Table

    from retrain_backends.config import Arguments
    from retrain_backends.train.checks.reward_check import Misjudged, RewardCheck, Tried
    from retrain_backends.types import Verdict

_MOST_SHOWN = 20
_MOST_OF_A_FORM = 3
_WIDEST = 40

_SECTIONS = {
    "Arguments": (("PATH.toml", "the file of a run; without it, retrain.toml here"),),
    "Examples": (
        ("retrain rewards check my.toml", "try the reward of that file"),
        ("retrain rewards check --reward-type math", "try another reward on the same data"),
    ),
    "Exit codes": (
        ("0", "every answer was judged as expected"),
        ("1", "some answers were not"),
        ("2", "a mistake in the file or the flags"),
    ),
}


@click.group(cls=Group, no_args_is_help=True)
def rewards() -> None:
    """Try the reward before training."""


@rewards.command(cls=ConfigCommand, sections=_SECTIONS)
@click.argument("path", metavar="[PATH.toml]", type=click.Path(), required=False)
@click.option(
    "--examples",
    metavar="N",
    type=click.IntRange(min=1),
    default=50,
    help="Number of examples of the data. [50]",
)
def check(arguments: "Arguments", examples: int) -> int:
    """Judge answers known to be right and wrong, and show where `match` and `math` differ."""
    from retrain_backends.config import load_arguments

    config = load_arguments(arguments)
    from rich.console import Console

    from retrain_backends.train.checks.reward_check import check_reward

    found = check_reward(config, examples)
    console = Console(highlight=False, markup=False)
    console.print(_outcome(config.reward.type, found))
    if found.surprises:
        console.print(_surprises(found.surprises))
    console.print(_disagreements(found))
    if found.misjudged:
        console.print(_misjudged(config.reward.type, found.misjudged))
    return 1 if found.surprises else 0


def _outcome(name: str, found: "RewardCheck") -> "Table":
    from retrain_backends.train.checks.reward_check import Answer

    title = f"`{name}` on {found.examples} examples, judged in {found.time_s:.1f} s"
    table = _table(title, "known to be", "judged right", "judged wrong", "no verdict")
    for known in Answer:
        counts = found.counts(known)
        table.add_row(known.value, *(str(counts[w]) for w in ("right", "wrong", "no verdict")))
    return table


def _surprises(surprises: "list[Tried]") -> "Table":
    table = _table(f"Surprises: {len(surprises)}", "known to be", "answer", "reference", "judged")
    for one in surprises[:_MOST_SHOWN]:
        verdict = _verdict_text(one.verdict)
        table.add_row(one.known.value, _cut(one.answer), _cut(one.example.reference), verdict)
    return table


def _disagreements(found: "RewardCheck") -> "Table | str":
    """Some answers of each form on which `match` and `math` differ, and their number."""
    if found.disagreements is None:
        return "`match` and `math` were not compared: math-verify is not installed"
    title = f"`match` and `math` differ on {len(found.disagreements)} of {found.compared} answers"
    if not found.disagreements:
        return title
    table = _table(title, "which is", "answer", "reference", "match", "math")
    by_form = {}
    for one in found.disagreements:
        by_form.setdefault(one.form, []).append(one)
    for form, differ in by_form.items():
        for one in differ[:_MOST_OF_A_FORM]:
            verdicts = (_verdict_text(one.match), _verdict_text(one.math))
            table.add_row(form, _cut(one.answer), _cut(one.reference), *verdicts)
        if len(differ) > _MOST_OF_A_FORM:
            table.add_row(form, f"… and {len(differ) - _MOST_OF_A_FORM} more")
    return table


def _misjudged(name: str, found: "Misjudged") -> "Table | str":
    """The rates of a reward on the table of pairs, and the pairs that it misjudges."""
    title = (
        f"`{name}` on {found.same + found.different} known pairs: "
        f"{_rate(len(found.false_negatives), found.same)} false negatives, "
        f"{_rate(len(found.false_positives), found.different)} false positives"
    )
    if not found.pairs:
        return title
    table = _table(title, "kind", "answer", "reference", "known to be")
    for pair in found.pairs[:_MOST_SHOWN]:
        known = "the same" if pair.same else "different"
        table.add_row(pair.kind, _cut(pair.answer), _cut(pair.reference), known)
    if len(found.pairs) > _MOST_SHOWN:
        table.add_row(f"… and {len(found.pairs) - _MOST_SHOWN} more")
    return table


def _rate(count: int, total: int) -> str:
    return f"{count} of {total} ({100 * count / total:.1f} %)"


def _table(title: str, *columns: str) -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left", min_width=len(title))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _verdict_text(verdict: "Verdict") -> str:
    return verdict.reason if verdict.value is None else f"{verdict.value:g}"


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
