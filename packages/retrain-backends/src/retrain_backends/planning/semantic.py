"""Planning tokens by meaning: sentences that resemble planning more than execution."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Self

import numpy as np

from retrain_backends.config import PlanningConfig
from retrain_backends.planning.embedding import Embed, load_sentence_model
from retrain_backends.planning.phrases import EXECUTION_PHRASES, PLANNING_PHRASES
from retrain_backends.planning.regex import read_grams
from retrain_backends.planning.sentences import sentence_spans
from retrain_backends.types import Floats, Mask
from retrain_core import span_mask

_REMEMBERED = 100_000  # sentences whose margins are kept


class SemanticDetector:
    """Marks every token that overlaps a sentence whose margin is above the threshold.

    The margin of a sentence is the cosine between its embedding and the mean embedding of the
    planning phrases, minus the cosine between it and that of the execution phrases.

    Args:
      embed: unit vectors of sentences; those of a sentence do not depend on the other sentences.
      planning: phrases that plan.
      execution: phrases that execute.
      threshold: margin above which a sentence is planning.
    """

    def __init__(
        self, embed: Embed, planning: Sequence[str], execution: Sequence[str], threshold: float
    ) -> None:
        self._embed = embed
        self._direction = _centre(embed(planning)) - _centre(embed(execution))
        self._threshold = threshold
        self._known: dict[str, float] = {}

    @classmethod
    def from_config(cls, config: PlanningConfig, strategic_grams: str) -> Self:
        """A detector with the configured model; configured phrases replace those that plan.

        Raises:
          ConfigError: a text that begins like a JSON list but is not one, or the device.
          ModelError: the embedding model cannot be loaded.
          PluginError: sentence-transformers is not installed.
        """
        planning = read_grams(strategic_grams) if strategic_grams else PLANNING_PHRASES
        embed = load_sentence_model(config.model, config.device, "planning.detector: `semantic`")
        return cls(embed, planning, EXECUTION_PHRASES, config.threshold)

    def masks(self, completions: Sequence[Sequence[str]]) -> list[Mask]:
        """True for planning tokens, for each completion; new sentences are embedded together."""
        joined = [(tokens, "".join(tokens)) for tokens in completions]
        found = [(tokens, text, sentence_spans(text)) for tokens, text in joined]
        margins = self.margins(text[a:b] for _, text, spans in found for a, b in spans)
        return [
            span_mask(tokens, [(a, b) for a, b in spans if margins[text[a:b]] > self._threshold])
            for tokens, text, spans in found
        ]

    def margins(self, sentences: Iterable[str]) -> Mapping[str, float]:
        """The margin of each sentence."""
        wanted = dict.fromkeys(sentences)
        new = [sentence for sentence in wanted if sentence not in self._known]
        if new:
            found = (self._embed(new) @ self._direction).tolist()
            self._known.update(zip(new, found, strict=True))
        margins = {sentence: self._known[sentence] for sentence in wanted}
        for oldest in list(islice(self._known, max(0, len(self._known) - _REMEMBERED))):
            del self._known[oldest]
        return margins


def _centre(vectors: Floats) -> Floats:
    """The direction of the mean of unit vectors."""
    mean = vectors.mean(axis=0)
    return mean / np.linalg.norm(mean)
