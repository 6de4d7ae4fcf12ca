"""What resuming a run would do, and whether its numbers would be those of an undisturbed run."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from retrain_backends.config import CONFIG_FILE, load_config
from retrain_backends.data import fingerprint, load_examples
from retrain_backends.errors import ConfigError, RunError
from retrain_backends.train.build import declared_capabilities
from retrain_backends.train.resume import ResumePoint, find_resume_point


@dataclass(frozen=True)
class ResumeReport:
    """What was found out, as (label, text) pairs, and the answer: resumes, and bit for bit."""

    facts: tuple[tuple[str, str], ...]
    exact: bool


def check_resume(run_dir: Path) -> ResumeReport:
    """Look at a run without changing it or loading its model.

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
    reasons = [*point.inexact(), *_reasons_of_the_backend(point)]
    verdict = _listed("no", reasons) if reasons else f"yes: {_promise(point)}"
    return ResumeReport((*_facts(point), ("resumes", "yes"), ("exact", verdict)), not reasons)


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
    training, saved = point.config.training, point.saved
    examples = load_examples(point.config.data, training.seed, training.max_examples)
    if saved and saved.examples != fingerprint(examples):
        return ["data.source: the examples are not those that it has trained on"]
    return []


def _reasons_of_the_backend(point: ResumePoint) -> Iterator[str]:
    name = point.config.backend.backend
    if declared_capabilities(name).resume != "exact":
        yield f"the backend `{name}` saves weights and optimiser only"


def _promise(point: ResumePoint) -> str:
    if point.saved is None:
        return "nothing has been done yet"
    return f"{point.saved.determinism}, {point.saved.determinism_reason}"


def _facts(point: ResumePoint) -> Iterator[tuple[str, str]]:
    saved = point.saved
    yield "run", str(point.directory)
    yield "done", f"{point.steps_done} of {point.config.training.max_steps} steps"
    if saved and saved.checkpoint:
        size = f"{saved.bytes / 1e6:,.1f} MB"
        yield "from", f"{saved.checkpoint}: {len(saved.files)} files, {size}, digests right"
        if saved.score is not None:
            yield "score", f"{saved.score:.3f}"
    else:
        yield "from", "the first step: there is no checkpoint yet"
    for damage in point.damages:
        yield "damaged", damage
    yield "done again", f"{point.rows_cut} logged steps"
    yield "settings", "; ".join(map(str, point.changes)) or "those of the run"
    yield "versions", "; ".join(point.updates) or "those of the run"


def _listed(answer: str, reasons: list[str]) -> str:
    return f"{answer}: {'; '.join(reasons)}"
