"""Checks how a run would be resumed, and whether it would equal an uninterrupted run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from retrain_backends.config import CONFIG_FILE, load_config
from retrain_backends.data import fingerprint, load_examples, load_held_out
from retrain_backends.declared import declared_capabilities
from retrain_backends.errors import ConfigError, RunError
from retrain_backends.train.storage.fingerprints import fingerprints_of
from retrain_backends.train.storage.resume_point import ResumePoint, find_resume_point


@dataclass(frozen=True)
class ResumeReport:
    """The findings as (label, text) pairs; `exact` if the run resumes bit for bit."""

    facts: tuple[tuple[str, str], ...]
    exact: bool


def check_resume(run_dir: Path) -> ResumeReport:
    """Check a run without changing it or loading its model.

    Every file of the checkpoint is read and compared with its digest.

    Raises:
      ConfigError: there is no run, or its configuration cannot be read.
      DataError: its data cannot be loaded.
    """
    point = _point_of(run_dir)
    if isinstance(point, RunError):
        return ResumeReport((("run", str(run_dir)), ("resumes", f"no: {point}")), exact=False)
    refused = _refusals(point)
    if refused:
        return ResumeReport((*_facts(point), ("resumes", _listed("no", refused))), exact=False)
    exact, verdict = _verdict(point)
    return ResumeReport((*_facts(point), ("resumes", "yes"), ("exact", verdict)), exact)


def _point_of(run_dir: Path) -> ResumePoint | RunError:
    config = load_config(run_dir / CONFIG_FILE, {"resume.from": str(run_dir)})
    try:
        return find_resume_point(config)
    except RunError as error:
        return error


def _refusals(point: ResumePoint) -> list[str]:
    try:
        point.refuse()
    except ConfigError as error:
        return list(error.problems)
    config, saved = point.config, point.saved
    examples = load_examples(config.data, config.training.seed, config.training.max_examples)
    held_out = load_held_out(config.data, config.eval) if config.eval.every else ()
    now = fingerprints_of(config.model.model, fingerprint(examples), [e for _, e in held_out])
    return list(saved.fingerprints.differences(now)) if saved else []


def _verdict(point: ResumePoint) -> tuple[bool, str]:
    """Whether the run is known to resume exactly, and the text for it.

    A backend that does not declare exact resuming is measured by `Trainer.load`, that is, only when
    the run is resumed.
    """
    reasons, name = point.inexact(), point.config.backend.backend
    if (
        point.saved
        and point.saved.checkpoint
        and declared_capabilities(name).trainer.resume != "exact"
    ):
        reason = f"the backend `{name}` does not promise to keep weights and optimiser exactly"
        return False, _listed("unknown; measured when the run is resumed", [reason, *reasons])
    return (False, _listed("no", reasons)) if reasons else (True, f"yes: {_promise(point)}")


def _promise(point: ResumePoint) -> str:
    if point.saved is None:
        return "no step is done yet"
    return f"{point.saved.determinism}, {point.saved.determinism_reason}"


def _facts(point: ResumePoint) -> Iterator[tuple[str, str]]:
    saved = point.saved
    yield "run", str(point.directory)
    yield "done", f"{point.steps_done} of {point.config.training.max_steps} steps"
    if saved and saved.checkpoint:
        size = f"{saved.bytes / 1e6:,.1f} MB"
        yield "from", f"{saved.checkpoint}: {len(saved.files)} files, {size}, digests match"
        if saved.remote:
            yield "service", saved.remote
        if saved.resume_fidelity:
            yield "last resume", f"{saved.resume_fidelity}, as measured then"
        if saved.score is not None:
            yield "score", f"{saved.score:.3f}"
    else:
        yield "from", "the first step: there is no checkpoint yet"
    for damage in point.all_damages():
        yield "damaged", damage
    yield "repeated", f"{point.rows_cut} logged steps"
    yield "settings", "; ".join(map(str, point.changes)) or "unchanged"
    yield "versions", "; ".join(point.updates) or "unchanged"


def _listed(answer: str, reasons: Sequence[str]) -> str:
    return f"{answer}: {'; '.join(reasons)}"
