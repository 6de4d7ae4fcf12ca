"""Credit assignment: from judged completions to the batch that is trained on."""

from dataclasses import dataclass

from retrain_backends.train.step.batches import BatchOrigin, completion_batch, train_batch
from retrain_backends.train.step.learning_rule import Rule, apply_rule, pooled_entropy
from retrain_backends.train.step.samples import Judged, count
from retrain_backends.train.step.sepa import SepaReading, read_sepa
from retrain_backends.train.storage.train_state import TrainState
from retrain_backends.types import TrainBatch
from retrain_core import EntropyStats, SepaSchedule, StepBookkeeping, TokenAdvantages


@dataclass(frozen=True)
class Credit:
    """Advantages of the completions of a step, and the batch to train on.

    `num_prompts` counts the prompts drawn; `entropy` is the pooled uncertainty of all sampled
    tokens; `sepa` is the input of the rule.
    """

    num_prompts: int
    counts: StepBookkeeping
    entropy: EntropyStats
    sepa: SepaReading
    advantages: TokenAdvantages
    batch: TrainBatch


@dataclass(frozen=True)
class CreditAssignment:
    """Applies the learning rule to the completions of a step.

    Args:
      rule: the learning rule.
      sepa: the strength of SEPA by step.
      uncertainty_kind: the kind of uncertainty in the entropy statistics.
      max_tokens: the length at which a completion was cut off.
      temperature: the sampling temperature.
      seed: of the run.
    """

    rule: Rule
    sepa: SepaSchedule
    uncertainty_kind: str
    max_tokens: int
    temperature: float
    seed: int

    def assign(self, judged: Judged, state: TrainState) -> Credit:
        """The credit of the completions of the step that follows `state`."""
        counts = count(judged, self.max_tokens, state.running)
        sepa = read_sepa(self.sepa, state)
        entropy = pooled_entropy(judged.samples, self.uncertainty_kind)
        advantages = apply_rule(self.rule, completion_batch(judged), sepa.strength)
        origin = BatchOrigin(self.temperature, state.steps_done, self.seed)
        batch = train_batch(judged, advantages.values, counts.kept_groups, origin)
        return Credit(len(judged.samples.prompts), counts, entropy, sepa, advantages, batch)
