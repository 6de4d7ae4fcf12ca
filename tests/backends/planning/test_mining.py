import numpy as np
import pytest

from retrain_backends.planning.mining import mine_phrases


def by_first_word(phrases):
    """Vectors that are equal for phrases with the same first word."""
    words = [phrase.split()[0] for phrase in phrases]
    order = sorted(set(words))
    return np.eye(len(order))[[order.index(word) for word in words]]


def test_nothing_to_mine():
    for answers in ([], ["Let me check this."], ["Let me check this."] * 3, ["a b", "a b c, d"]):
        mined = mine_phrases(answers, by_first_word)
        assert (mined.clusters, mined.phrases) == ([], [])


@pytest.mark.slow
def test_the_clusters_in_most_answers_are_kept():
    pytest.importorskip("sklearn")
    rare = [f"{word} {word}er {word}est" for word in ("old", "tall", "small", "cold")]
    answers = [f"Let  me see. It is {n}. {rare[n % 4]}" for n in range(8)]
    answers += ["Let me go: 4", "let me go, now", r"Let \me see x_1 a b", "9 let me go"]
    mined = mine_phrases(answers, by_first_word)
    assert mined.answers == 12
    first, *others = mined.clusters
    assert (first.phrases, first.answers) == (("let me see", "let me go"), 11)
    assert [(cluster.phrases, cluster.answers) for cluster in others] == [
        ((phrase,), 2) for phrase in sorted(rare)
    ]
    assert mined.phrases == ["let me see", "let me go"]


@pytest.mark.slow
def test_phrases_of_similar_meaning_are_one_cluster(minilm):
    answers = [
        f"{plan} that {number} is right"
        for plan in ("let me verify", "let me check", "let us double check")
        for number in ("one", "two")
    ]
    mined = mine_phrases(answers, minilm)
    [cluster] = [cluster for cluster in mined.clusters if "let me check" in cluster.phrases]
    assert "let me verify" in cluster.phrases
    assert cluster.answers >= 4
