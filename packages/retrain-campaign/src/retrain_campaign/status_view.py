"""What `retrain status` shows: campaigns by condition, what goes on, what failed; single runs."""

from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from retrain_campaign.status import WINDOW, CampaignStatus, Findings, RunStatus

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
_MOST = 20  # runs that are shown one by one, unless all are asked for


def render(findings: Findings, every_run: bool = False) -> RenderableType:
    """The findings for a console.

    Args:
      findings: what to show.
      every_run: show each run of a campaign, and not only what needs a look.
    """
    parts = [_campaign(campaign, every_run) for campaign in findings.campaigns]
    if findings.runs:
        title = [Text("single runs", style="bold")] if findings.campaigns else []
        parts.append(Group(*title, _runs_table(findings.runs)))
    if findings.problems:
        parts.append(Text("\n".join(findings.problems), style="red"))
    if not parts:
        return Text("neither runs nor campaigns here")
    spaced = [Padding(part, (0, 0, 1, 0)) for part in parts[:-1]]
    return Group(*spaced, parts[-1])


def _campaign(campaign: CampaignStatus, every_run: bool) -> RenderableType:
    worth = [run for run in campaign.runs if run.state in _NOTEWORTHY]
    shown = campaign.runs if every_run else sorted(worth, key=_urgency)
    listed = shown if every_run else shown[:_MOST]
    parts: list[RenderableType] = [_heading(campaign), _conditions(campaign)]
    if listed:
        parts.append(Padding(_runs_table(listed), (1, 0, 0, 0)))
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
            run.name if run.condition else str(run.path),
            f"{run.steps:,}/{most}",
            _percent(run.correct),
            _percent(run.held_out),
            Text.assemble((run.state, _STYLES[run.state]), *_because(run)),
        )
    return table


def _urgency(run: RunStatus) -> int:
    return _NOTEWORTHY.index(run.state)


def _because(run: RunStatus) -> Iterator[str]:
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
