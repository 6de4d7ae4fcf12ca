"""The start of a run: a record of what it starts from, and a look at its sampler."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from retrain_backends.errors import RunError
from retrain_backends.tracking.console import print_lines
from retrain_backends.train.build import Run
from retrain_backends.train.monitoring.health import Health, Watch
from retrain_backends.train.monitoring.logprob_kind import DEFECTS, consequence
from retrain_backends.train.monitoring.sampler_probe import ProbeResult, SamplerProbe
from retrain_backends.train.step.samples import Samples
from retrain_backends.train.storage.metadata import (
    FIRST_PROMPTS,
    read_metadata,
    run_metadata,
    surroundings,
    write_metadata,
)
from retrain_backends.train.storage.train_state import TrainState
from retrain_backends.types import StepResult

_PROBE_PROMPTS = 2


class Record:
    """`metadata.json`: one section for the run's start, and one for each time it was resumed."""

    def __init__(self, run: Run, state: TrainState) -> None:
        self._directory = run.directory
        known = read_metadata(run.directory) if state.steps_done else None
        if known is None:
            prompts = run.prompts.batch(0, FIRST_PROMPTS)
            known = run_metadata(run.config, run.backend, prompts, run.model_digests, run.directory)
            if state.steps_done:  # the file is lost, and so is the adapter that the run began with
                known["digests"]["initial_adapter"] = None
            self._section = known
        else:
            now = surroundings(run.backend.describe())
            changed = {key: value for key, value in now.items() if known.get(key) != value}
            self._section = {"after_steps": state.steps_done, **changed}
            known["resumed"] = [*known.get("resumed", []), self._section]
        if run.restored:
            self._section["resume_fidelity"] = run.restored.fidelity
            self._section["resume_fidelity_reason"] = run.restored.reason
        self._metadata = known
        write_metadata(self._directory, known)

    def note_probe(self, findings: dict[str, Any]) -> None:
        """Add to what the probe found since this start."""
        self._section["probe"] = {**self._section.get("probe", {}), **findings}
        write_metadata(self._directory, self._metadata)


class Guard:
    """Guards a run from its first step on: the figures of every step, and the adapter's use."""

    def __init__(self, run: Run, watch: Watch, record: Record, probe: SamplerProbe | None) -> None:
        self._fatal = run.config.health.probe == "stop"
        self._watch = watch
        self._record = record
        self._probe = probe
        self._updates = 0

    def examine(self, samples: Samples, result: StepResult | None, state: TrainState) -> Health:
        """Measure the step that led to `state`."""
        step = state.steps_done - 1
        health = self._watch.examine(step, samples, result, state.nonfinite_steps)
        if self._probe is None or result is None or not result.is_finite:
            return health
        self._updates += 1
        if self._updates & (self._updates - 1):  # look after 1, 2, 4, 8, ... updates
            return health
        return self._with_adapter_use(step, health, self._probe)

    def _with_adapter_use(self, step: int, health: Health, probe: SamplerProbe) -> Health:
        use = probe.adapter_use()
        if use == "undecided":
            return health
        self._probe = None
        self._record.note_probe({"adapter": use, "adapter_known_after_step": step})
        if use == "active":
            return health
        line = f"step {step}: {defect_line('inactive_adapter')}"
        if self._fatal:
            return replace(health, stop=health.stop or line)
        return replace(health, lines=(*health.lines, line))


def start_up(run: Run, state: TrainState) -> Guard:
    """Write `metadata.json`, probe the sampler, and set the watch.

    Raises:
      RunError: the probe found a defect and `health.probe` is "stop".
    """
    engine = run.backend.describe().engine
    record, watch = (
        Record(run, state),
        Watch(run.config.health, engine, run.directory / "nonfinite"),
    )
    if run.config.health.probe == "off":
        return Guard(run, watch, record, None)
    prompts = run.prompts.batch(state.prompts_drawn, _PROBE_PROMPTS)
    probe = SamplerProbe(
        run.backend, run.tokenizer, [p.tokens for p in prompts], run.sampling(state.steps_done)
    )
    result = probe.look()
    meant = _consequence(run, result)
    record.note_probe({"engine": engine, **asdict(result), "adapter": "undecided", **meant})
    print_lines(run.console, *meant.values())
    if meant and result.logprobs == "tempered":
        watch.leave_mismatch_alone()
    _report(run, result.defects)
    return Guard(run, watch, record, probe)


def _consequence(run: Run, result: ProbeResult) -> dict[str, str]:
    """What the log-probs mean for a trainer that cannot follow the temperature, if that matters."""
    if run.backend.capabilities.temperature:
        return {}
    meant = consequence(result.logprobs, run.config.training.temperature)
    return {"consequence": meant} if meant else {}


def defect_line(name: str) -> str:
    """A defect in words, with its name."""
    return f"{name}: {DEFECTS[name]}"


def _report(run: Run, defects: Sequence[str]) -> None:
    lines = [f"start-up probe: {defect_line(name)}" for name in defects]
    print_lines(run.console, *lines)
    if lines and run.config.health.probe == "stop":
        raise RunError(f'{lines[0]} (health.probe = "warn" goes on all the same)')
