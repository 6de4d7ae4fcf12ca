"""The runs of a campaign as command lines, and `run_all.sh`, which does them all elsewhere."""

import json
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from retrain_backends.config import RunConfig, dump_config
from retrain_backends.config.describe import fields_by_path
from retrain_backends.config.section import Section
from retrain_campaign.plan.campaign import RUNS, Campaign, PlannedRun

SCRIPT_FILE = "run_all.sh"
RUN = ("python", "-m", "retrain_backends")

_OF_THE_PLACE = ("logging.log_dir", "backend.throttle_dir")

_SCRIPT = """\
#!/bin/sh
# Does all runs of a campaign again, one after another, with retrain and the data where they are:
#
#     run_all.sh [DIRECTORY]
#
# A run that is finished is passed over, and one that was stopped goes on. The number of threads is
# that of the campaign, since a run's last digits depend on it; OMP_NUM_THREADS gives another.
set -u
: "${{OMP_NUM_THREADS:={threads}}}"
export OMP_NUM_THREADS
directory="${{1:-rerun}}"
python="${{PYTHON:-python}}"
failed=0
interrupted=0
trap interrupted=1 INT  # the run saves itself; without this, some shells begin the next one

run() {{
    run="$directory/{runs}/$1"; shift
    if [ -f "$run.done" ]; then return; fi
    if [ -f "$run/config.toml" ]; then
        "$python" -m retrain_backends --resume "$run"
    else
        "$python" -m retrain_backends "$directory/base.toml" "$@" --log-dir="$run"
    fi && touch "$run.done"
    code=$?
    if [ "$interrupted" = 1 ]; then echo "interrupted; the same command goes on" >&2; exit 130; fi
    if [ "$code" != 0 ]; then echo "failed: $run" >&2; failed=1; fi
}}

mkdir -p "$directory/{runs}"
cat > "$directory/base.toml" <<'END_OF_BASE'
{base}END_OF_BASE

{calls}
exit "$failed"
"""


def run_all_script(campaign: Campaign, plan: Iterable[PlannedRun], threads: int) -> str:
    """A shell script that needs nothing else of the campaign, whose runs have so many `threads`."""
    base = campaign.base
    calls = (
        shlex.join(["run", run.name, *flags_between(base, run.config, but=_OF_THE_PLACE)])
        for run in plan
    )
    return _SCRIPT.format(
        runs=RUNS, threads=threads, base=dump_config(base), calls="\n".join(calls)
    )


def command_line(file: Path, written: RunConfig, run: PlannedRun, threads: int) -> str:
    """The command that does one run of a campaign by itself.

    Args:
      file: of the campaign.
      written: what the file says, without the flags of the campaign's own command line.
      run: the run.
      threads: of the CPU, as the campaign gives its runs; the last digits depend on them.
    """
    without = [f"--no-{name}" for name in ("campaign", "squeeze") if getattr(written, name)]
    words = [*RUN, str(file), *without, *flags_between(written, run.config)]
    return f"OMP_NUM_THREADS={threads} {shlex.join(words)}"


def flags_between(base: RunConfig, other: RunConfig, but: Iterable[str] = ()) -> Iterator[str]:
    """The flags that make `other` out of `base`, apart from some settings."""
    for path, field in fields_by_path().items():
        if not field.flag or path in but or path.startswith(("campaign.", "squeeze.")):
            continue
        before, now = (_value(config, field.section, field.key) for config in (base, other))
        if before != now:
            yield f"--{field.flag}={_text(now)}"


def _value(config: RunConfig, section: str, key: str) -> object:
    table = getattr(config, section)
    assert isinstance(table, Section)
    return table.model_dump(by_alias=True)[key]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple | dict):
        return json.dumps(value)
    return str(value)
