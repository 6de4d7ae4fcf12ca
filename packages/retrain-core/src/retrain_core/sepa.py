"""The schedule of SEPA's strength, lambda, over a run."""

from dataclasses import dataclass
from math import isfinite
from typing import Final, NamedTuple

from retrain_core.entropy import EntropyStats
from retrain_core.names import unknown_name

_SCHEDULES: Final = ("linear", "auto")


class SepaState(NamedTuple):
    """The state of the schedule between steps; `_asdict()` is plain data for a checkpoint."""

    var_ema: float | None = None
    var_0: float | None = None
    warmup_seen: int = 0
    gate_open: bool = False


@dataclass(frozen=True)
class SepaSchedule:
    """The strength of SEPA at each step, as pure functions over a `SepaState`.

        lin(s) = 0 if S = 0 or s <= D, else min(1, (s - D) / S)
        auto   = 1 - min(1, (E / V0) / tau), 0 until V0 is known
        lambda = 0 while the gate is closed, then lin(s) (linear) or max(auto, lin(s)) (auto)

    `E` is a moving average of the variance of execution uncertainty, starting at the first value;
    `V0` is `max(E, eps)` at observation number `warmup`. The gate opens at the first correct rate
    of at least `correct_rate_gate` and never closes; a gate of 0 or less is open from the start.

    In each step, read `sepa_lambda`, train with it, then call `update` once.

    Attributes:
      steps: S, number of steps from 0 to 1; 0 turns the linear part off.
      schedule: `linear` or `auto`.
      delay_steps: D, number of steps before the linear part starts.
      correct_rate_gate: correct rate that opens the gate.
      ema_decay: decay of the moving average E, in [0, 1).
      var_threshold: tau, share of V0 below which `auto` is positive, > 0.
      warmup: number of observations at which V0 is set, at least 1.
      eps: smallest V0.
    """

    steps: int = 500
    schedule: str = "linear"
    delay_steps: int = 50
    correct_rate_gate: float = 0.1
    ema_decay: float = 0.99
    var_threshold: float = 0.2
    warmup: int = 50
    eps: float = 1e-8

    def __post_init__(self) -> None:
        if self.schedule not in _SCHEDULES:
            raise unknown_name("sepa schedule", self.schedule, _SCHEDULES)
        if self.steps < 0 or self.delay_steps < 0:
            raise ValueError(
                f"sepa steps and delay_steps must be >= 0, got {self.steps}, {self.delay_steps}"
            )
        if not (0.0 <= self.ema_decay < 1.0 and self.var_threshold > 0.0 and self.eps > 0.0):
            raise ValueError("sepa needs ema_decay in [0, 1), var_threshold > 0 and eps > 0")
        if self.warmup < 1:
            raise ValueError(f"sepa warmup must be at least 1, got {self.warmup}")

    @property
    def enabled(self) -> bool:
        """Whether lambda can become positive."""
        return self.schedule == "auto" or self.steps > 0

    def init(self) -> SepaState:
        """The state before the first step."""
        return SepaState(gate_open=self.correct_rate_gate <= 0.0)

    def sepa_lambda(self, state: SepaState, step: int) -> float:
        """Strength at `step` (the first is 0), in [0, 1]."""
        if not state.gate_open:
            return 0.0
        linear = 0.0
        if self.steps > 0 and step > self.delay_steps:
            linear = min(1.0, (step - self.delay_steps) / self.steps)
        if self.schedule == "linear" or state.var_0 is None or state.var_ema is None:
            return linear
        return max(linear, 1.0 - min(1.0, state.var_ema / state.var_0 / self.var_threshold))

    def observe_correct_rate(self, state: SepaState, correct_rate: float | None) -> SepaState:
        """Open the gate if the rate reaches it; None is ignored."""
        if correct_rate is None or correct_rate < self.correct_rate_gate:
            return state
        return state._replace(gate_open=True)

    def observe_variance(self, state: SepaState, variance: float | None) -> SepaState:
        """Update E and V0 with the variance of the step's execution uncertainty.

        None and values that are not finite are ignored. The linear schedule does not use the
        variance and returns the state unchanged.
        """
        if self.schedule == "linear" or variance is None or not isfinite(variance):
            return state
        ema = variance
        if state.var_ema is not None:
            ema = self.ema_decay * state.var_ema + (1.0 - self.ema_decay) * variance
        if state.var_0 is not None:
            return state._replace(var_ema=ema)
        seen = state.warmup_seen + 1
        var_0 = max(ema, self.eps) if seen >= self.warmup else None
        return state._replace(var_ema=ema, var_0=var_0, warmup_seen=seen)

    def update(
        self, state: SepaState, correct_rate: float | None, stats: EntropyStats | None
    ) -> SepaState:
        """The state after a step, from its correct rate and its entropy statistics.

        The variance of a step without execution tokens is ignored.
        """
        state = self.observe_correct_rate(state, correct_rate)
        if stats is None or stats.exec_count == 0:
            return state
        return self.observe_variance(state, stats.exec_var)
