"""The runs of a campaign as command lines, and `run_all.sh`, a script with all of them."""

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

_PER_DIRECTORY = ("logging.log_dir", "backend.throttle_dir")

_SCRIPT = """\
#!/bin/sh
# Repeats all runs of a campaign, one after another, on a machine with retrain and the data:
#
#     run_all.sh [DIRECTORY]
#
# Finished runs are skipped, and interrupted runs are resumed. The number of threads is that of the
# campaign, since the last digits of a run depend on it; OMP_NUM_THREADS overrides it.
set -u
: "${{OMP_NUM_THREADS:={threads}}}"
export OMP_NUM_THREADS
directory="${{1:-rerun}}"
python="${{PYTHON:-python}}"
failed=0
interrupted=0
trap interrupted=130 INT  # the run is saved; without this, some shells start the next run
trap interrupted=143 TERM

run() {{
    run="$directory/{runs}/$1"; shift
    if [ -f "$run.done" ]; then return; fi
    if [ -f "$run/config.toml" ]; then
        "$python" -m retrain_backends --resume "$run"
    else
        "$python" -m retrain_backends "$directory/base.toml" "$@" --log-dir="$run"
    fi && touch "$run.done"
    code=$?
    if [ "$code" = 143 ]; then interrupted=143; fi
    if [ "$interrupted" != 0 ]; then
        echo "interrupted; the same command resumes" >&2
        exit "$interrupted"
    fi
    if [ "$code" != 0 ]; then echo "failed: $run" >&2; failed=1; fi
}}

mkdir -p "$directory/{runs}"
cat > "$directory/base.toml" <<'END_OF_BASE'
{base}END_OF_BASE

{calls}
exit "$failed"
"""


def run_all_script(campaign: Campaign, plan: Iterable[PlannedRun], threads: int) -> str:
    """A self-contained shell script that repeats all runs of a campaign.

    Args:
      campaign: the campaign.
      plan: its runs.
      threads: CPU threads of each run.
    """
    base = campaign.base
    calls = (
        shlex.join(["run", run.name, *flags_between(base, run.config, except_for=_PER_DIRECTORY)])
        for run in plan
    )
    return _SCRIPT.format(
        runs=RUNS, threads=threads, base=dump_config(base), calls="\n".join(calls)
    )


def command_line(file: Path, in_file: RunConfig, run: PlannedRun, threads: int) -> str:
    """The command line of one run of a campaign.

    Args:
      file: of the campaign.
      in_file: the configuration in the file, without the flags of the campaign's command line.
      run: the run.
      threads: CPU threads of the run; the last digits of its results depend on them.
    """
    without = [f"--no-{name}" for name in ("campaign", "squeeze") if getattr(in_file, name)]
    words = [*RUN, str(file), *without, *flags_between(in_file, run.config)]
    return f"OMP_NUM_THREADS={threads} {shlex.join(words)}"


def flags_between(
    base: RunConfig, other: RunConfig, except_for: Iterable[str] = ()
) -> Iterator[str]:
    """The flags that turn `base` into `other`, except for some settings."""
    for path, field in fields_by_path().items():
        if not field.flag or path in except_for or path.startswith(("campaign.", "squeeze.")):
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
