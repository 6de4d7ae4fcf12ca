"""The tables of `retrain status`: campaigns by condition, notable runs, single runs."""

from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from retrain_campaign.report.status import WINDOW, CampaignStatus, RunStatus, StatusReport

_STYLES = {
    "running": "cyan",
    "lost": "red",
    "failed": "red",
    "stopped": "yellow",
    "done": "green",
    "planned": "dim",
}
_NOTEWORTHY = ("lost", "failed", "stopped", "running")  # in the order in which they are listed
_CORRECT = f"correct, last {WINDOW}"
_MOST = 20  # rows of runs, without --all


def render(report: StatusReport, every_run: bool = False) -> RenderableType:
    """The report for a console.

    Args:
      report: what to show.
      every_run: show all runs of a campaign, not only those that are running or ended early.
    """
    parts = [_campaign(campaign, every_run) for campaign in report.campaigns]
    if report.runs:
        title = [Text("single runs", style="bold")] if report.campaigns else []
        parts.append(Group(*title, _runs_table(report.runs), *_waits(report.runs)))
    if report.problems:
        parts.append(Text("\n".join(report.problems), style="red"))
    if not parts:
        return Text("no runs and no campaigns found")
    spaced = [Padding(part, (0, 0, 1, 0)) for part in parts[:-1]]
    return Group(*spaced, parts[-1])


def _campaign(campaign: CampaignStatus, every_run: bool) -> RenderableType:
    notable = [run for run in campaign.runs if run.state in _NOTEWORTHY]
    shown = campaign.runs if every_run else sorted(notable, key=_urgency)
    listed = shown if every_run else shown[:_MOST]
    parts: list[RenderableType] = [_heading(campaign), _conditions(campaign)]
    if listed:
        parts.append(Padding(_runs_table(listed), (1, 0, 0, 0)))
        parts += _waits([run for run in listed if run.state == "running"])
    if len(shown) > len(listed):
        parts.append(Text(f"and {len(shown) - len(listed)} more; --all lists them", style="dim"))
    return Group(*parts)


def _heading(campaign: CampaignStatus) -> Text:
    states = ", ".join(f"{count:,} {state}" for state, count in campaign.counts.items())
    share = campaign.steps / campaign.max_steps if campaign.max_steps else 0.0
    steps = f"{campaign.steps:,} of {campaign.max_steps:,} steps ({share:.0%})"
    return Text.assemble(
        (campaign.name, "bold"),
        f"  {campaign.path}\n",
        f"{len(campaign.runs):,} runs: {states}; {steps}",
    )


def _conditions(campaign: CampaignStatus) -> Table:
    table = _table("condition", "done", "steps", _CORRECT, "held-out")
    for condition, runs in campaign.by_condition().items():
        steps = sum(run.steps for run in runs) / max(1, sum(run.max_steps or 0 for run in runs))
        table.add_row(
            condition,
            f"{sum(run.state == 'done' for run in runs)} of {len(runs)}",
            f"{steps:.0%}",
            _percent(_mean(run.correct for run in runs)),
            _percent(_mean(run.held_out for run in runs)),
        )
    return table


def _runs_table(runs: Sequence[RunStatus]) -> Table:
    table = _table("run", "steps", _CORRECT, "held-out", "state", left=("run", "state"))
    for run in runs:
        most = "?" if run.max_steps is None else f"{run.max_steps:,}"
        table.add_row(
            _shown_name(run),
            f"{run.steps:,}/{most}",
            _percent(run.correct),
            _percent(run.held_out),
            Text.assemble((run.state, _STYLES[run.state]), *_reason(run)),
        )
    return table


def _waits(runs: Iterable[RunStatus]) -> Iterator[Text]:
    """A line for each run in which one side waits for the other for most of the time."""
    for run in runs:
        if run.waits:
            yield Text(f"{_shown_name(run)}: {run.waits}", style="dim")


def _shown_name(run: RunStatus) -> str:
    return run.name if run.condition else str(run.path)


def _urgency(run: RunStatus) -> int:
    return _NOTEWORTHY.index(run.state)


def _reason(run: RunStatus) -> Iterator[str]:
    if run.reason:
        yield f": {run.reason.strip().splitlines()[-1]}"


def _table(*columns: str, left: Sequence[str] = ("condition",)) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for column in columns:
        wide = column in left
        table.add_column(
            column,
            justify="left" if wide else "right",
            no_wrap=not wide,
            overflow="fold" if wide else "ellipsis",
        )
    return table


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
