"""Mines strategic grams: phrases of three to five words that recur in correct answers.

Source: HICRA, arXiv 2509.03646, section 2.1. The phrases are embedded and clustered, and those of
the clusters that occur in the most answers are kept.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from retrain_backends.dotted_names import load_object
from retrain_backends.planning.embedding import Embed
from retrain_backends.planning.sentences import sentence_spans

_LENGTHS = (3, 4, 5)  # words of a phrase
_KEPT_SHARE = 0.2  # of the clusters
_LARGEST_DISTANCE = 0.35  # cosine distance between two clusters that become one
_MOST_PHRASES = 4000  # clustering takes memory quadratic in them
# Words with one or two blanks between them, as the `regex` detector finds them; no LaTeX command.
_LETTERS = r"[^\W\d_]+(?:['’][^\W\d_]+)*"
_WORDS = re.compile(rf"(?<![\\\w]){_LETTERS}(?: {{1,2}}{_LETTERS})*(?!\w)")


@dataclass(frozen=True)
class Cluster:
    """Phrases of similar meaning, the most frequent first, and the number of answers with one."""

    phrases: tuple[str, ...]
    answers: int


@dataclass(frozen=True)
class Mined:
    """The clusters, those in most answers first; of `kept` ones, the phrases are strategic."""

    answers: int
    clusters: Sequence[Cluster]
    kept: int

    @property
    def phrases(self) -> list[str]:
        """The phrases of the kept clusters."""
        return [phrase for cluster in self.clusters[: self.kept] for phrase in cluster.phrases]


def mine_phrases(answers: Sequence[str], embed: Embed) -> Mined:
    """Mine the phrases of a model's correct answers.

    A phrase is three to five words of a sentence in lower case. Those of at least two different
    answers are candidates, at most 4,000, the most frequent first. Their embeddings are clustered
    (average linkage, up to a cosine distance of 0.35). The fifth of the clusters that occurs in the
    most answers is kept.

    Args:
      answers: the correct answers; repeated ones count once.
      embed: unit vectors of phrases.
    """
    phrases_of = [set(_phrases(answer)) for answer in dict.fromkeys(answers)]
    counts = Counter(phrase for phrases in phrases_of for phrase in phrases)
    repeated = (phrase for phrase, count in counts.items() if count > 1)
    candidates = sorted(repeated, key=lambda phrase: (-counts[phrase], phrase))[:_MOST_PHRASES]
    labels = dict(zip(candidates, _clustered(candidates, embed), strict=True))
    frequency = Counter(
        label
        for phrases in phrases_of
        for label in {labels[phrase] for phrase in phrases if phrase in labels}
    )
    members: dict[int, list[str]] = {}
    for phrase, label in labels.items():
        members.setdefault(label, []).append(phrase)
    clusters = [Cluster(tuple(phrases), frequency[label]) for label, phrases in members.items()]
    clusters.sort(key=lambda cluster: -cluster.answers)
    return Mined(len(phrases_of), clusters, math.ceil(_KEPT_SHARE * len(clusters)))


def _phrases(answer: str) -> Iterator[str]:
    for start, end in sentence_spans(answer):
        for run in _WORDS.findall(answer[start:end].lower()):
            words = run.split()
            for length in _LENGTHS:
                for first in range(len(words) - length + 1):
                    yield " ".join(words[first : first + length])


def _clustered(phrases: Sequence[str], embed: Embed) -> list[int]:
    """The cluster of each phrase."""
    if len(phrases) < 2:
        return [0] * len(phrases)
    # By name: an optional package that is slow to import.
    clustering = load_object("sklearn.cluster:AgglomerativeClustering", "mining phrases")(
        n_clusters=None,
        metric="cosine",
        linkage="average",
        distance_threshold=_LARGEST_DISTANCE,
    )
    return np.asarray(clustering.fit_predict(embed(phrases))).tolist()
