"""What happens before the first step of a process: `metadata.json` and the sampler probe."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.console import Console

from retrain_backends.config import HealthConfig
from retrain_backends.data import PromptStream
from retrain_backends.engines.logprob_kind import DEFECTS, consequence
from retrain_backends.errors import RunError
from retrain_backends.group_sampling import GroupSampling
from retrain_backends.protocols import Backend
from retrain_backends.tokenizer import Tokenizer
from retrain_backends.tracking.console import print_lines
from retrain_backends.train.monitoring.health import Health, HealthMonitor
from retrain_backends.train.monitoring.sampler_probe import ProbeResult, SamplerProbe
from retrain_backends.train.step.samples import Samples
from retrain_backends.train.storage.metadata import MetadataFile
from retrain_backends.train.storage.train_state import TrainState
from retrain_backends.types import StepResult

_PROBE_PROMPTS = 2


class RunMonitor:
    """Examines every step of a process, and whether the sampler uses the trained adapter.

    Args:
      health: measures the figures of a step.
      metadata: receives the findings of the probe.
      probe: of the sampler; None if `health.probe` is "off".
      fatal: whether a defect ends the run.
    """

    def __init__(
        self,
        health: HealthMonitor,
        metadata: MetadataFile,
        probe: SamplerProbe | None,
        *,
        fatal: bool,
    ) -> None:
        self._health = health
        self._metadata = metadata
        self._probe = probe
        self._fatal = fatal
        self._updates = 0

    def examine(self, samples: Samples, result: StepResult | None, state: TrainState) -> Health:
        """Measure the step that led to `state`."""
        step = state.steps_done - 1
        health = self._health.examine(step, samples, result, state.nonfinite_steps)
        if self._probe is None or result is None or not result.is_finite:
            return health
        self._updates += 1
        if self._updates & (self._updates - 1):  # check after 1, 2, 4, 8, ... updates
            return health
        return self._with_adapter_use(step, health, self._probe)

    def _with_adapter_use(self, step: int, health: Health, probe: SamplerProbe) -> Health:
        use = probe.adapter_use()
        if use == "undecided":
            return health
        self._probe = None
        self._metadata.note_probe({"adapter": use, "adapter_known_after_step": step})
        if use == "active":
            return health
        line = f"step {step}: {defect_line('inactive_adapter')}"
        if self._fatal:
            return replace(health, stop=health.stop or line)
        return replace(health, lines=(*health.lines, line))


@dataclass(frozen=True)
class StartupChecks:
    """Records the start of a process and probes the sampler.

    Args:
      backend: what samples and trains.
      stream: the prompts of the run.
      tokenizer: of the trainer.
      sampling: how the run samples.
      health: `[health]`.
      metadata: of the run.
      monitor: measures the figures of a step.
      console: shows the findings of the probe.
    """

    backend: Backend
    stream: PromptStream
    tokenizer: Tokenizer
    sampling: GroupSampling
    health: HealthConfig
    metadata: MetadataFile
    monitor: HealthMonitor
    console: Console

    def run(self, state: TrainState) -> RunMonitor:
        """Write `metadata.json` and probe the sampler.

        Raises:
          RunError: the probe found a defect and `health.probe` is "stop".
        """
        self.metadata.start(self.stream, state.steps_done)
        probe = None if self.health.probe == "off" else self._probe(state)
        fatal = self.health.probe == "stop"
        return RunMonitor(self.monitor, self.metadata, probe, fatal=fatal)

    def _probe(self, state: TrainState) -> SamplerProbe:
        prompts = self.stream.batch(state.prompts_drawn, _PROBE_PROMPTS)
        probe = SamplerProbe(
            self.backend,
            self.tokenizer,
            [prompt.tokens for prompt in prompts],
            self.sampling,
            state.steps_done,
        )
        result = probe.run()
        consequences = self._consequences(result)
        engine = self.backend.sampler.facts.engine
        self.metadata.note_probe(
            {"engine": engine, **asdict(result), "adapter": "undecided", **consequences}
        )
        print_lines(self.console, *consequences.values())
        if consequences and result.logprobs == "tempered":
            self.monitor.ignore_mismatch()
        self._report(result.defects)
        return probe

    def _consequences(self, result: ProbeResult) -> Mapping[str, Any]:
        """What the log-probs mean for a trainer that computes at temperature 1 only."""
        if self.backend.capabilities.trainer.temperature:
            return {}
        text = consequence(result.logprobs, self.sampling.params.temperature)
        return {"consequence": text} if text else {}

    def _report(self, defects: Sequence[str]) -> None:
        lines = [f"start-up probe: {defect_line(name)}" for name in defects]
        print_lines(self.console, *lines)
        if lines and self.health.probe == "stop":
            raise RunError(f'{lines[0]} (set health.probe = "warn" to continue anyway)')


def defect_line(name: str) -> str:
    """A defect with its name and description."""
    return f"{name}: {DEFECTS[name]}"
