"""Which side of a run waits for the other, and the settings that change it."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

Row: TypeAlias = Mapping[str, Any]

_MOST = 0.5  # share of the time that one side waits, from which it is worth a line
_RATIO = 2.0  # to the share of the other side


def longer_wait(rows: Sequence[Row], config: Path) -> str:
    """The side that waits for most of the time, its share, and what changes it.

    Args:
      rows: of `metrics.jsonl`.
      config: the `config.toml` of the run.

    Returns:
      Half a sentence; empty if the times are not measured, neither side waits much longer than the
      other, or no setting changes it.
    """
    timed = [row for row in rows if _is_timed(row)]
    total_s = sum(row["step_time_s"] for row in timed)
    if not total_s:
        return ""
    # While it computes log-probs itself, the trainer does not wait.
    trainer_s = sum(row["rollout_wait_s"] - row.get("rescore_s", 0.0) for row in timed)
    trainer, engine = trainer_s / total_s, sum(row["engine_wait_s"] for row in timed) / total_s
    if max(trainer, engine) < max(_MOST, _RATIO * min(trainer, engine)):
        return ""
    # A border: the file may be anybody's.
    try:
        settings = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    *others, last = ["", *_fixes(settings, trainer > engine)]
    fixes = " or ".join(filter(None, (", ".join(others[1:]), last)))
    waits = (
        f"the trainer waits for completions {trainer:.0%} of the time"
        if trainer > engine
        else f"the engine waits for the trainer {engine:.0%} of the time"
    )
    return f"{waits}: {fixes}" if fixes else ""


def _is_timed(row: Row) -> bool:
    keys = ("step_time_s", "rollout_wait_s", "engine_wait_s")
    return all(isinstance(row.get(key), int | float) for key in keys)


def _fixes(settings: Mapping[str, Any], trainer_waits: bool) -> Iterator[str]:
    """Settings that shorten the wait, the most effective first."""
    backend, inference = settings.get("backend", {}), settings.get("inference", {})
    options = backend.get("options", {})
    if backend.get("backend") == "tinker":
        if trainer_waits:
            yield "a larger backend.max_concurrent"
        if not options.get("max_steps_off_policy"):
            yield "backend.options.max_steps_off_policy = 1"
        return
    if trainer_waits:
        yield "more servers in inference.url"
    else:
        yield "a faster device in backend.devices"
        yield "larger backend.options.microbatch_tokens"
    if not inference.get("max_steps_off_policy"):
        if inference.get("overlap", "off") == "off":
            yield 'inference.overlap = "exact"'
        yield "inference.max_steps_off_policy = 1"
