"""The difference between two conditions: its mean, standard error and degrees of freedom.

Shapes: S seeds, Q questions; leading axes, written `...`, are repetitions and may be absent. The
unit of replication is the seed: questions and completions are repeated measures within it.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from retrain_backends.types import Floats

SIGN_FLIP_SEEDS = range(6, 21)  # fewer cannot reach p = 0.05; more have over a million patterns
_NO_SPREAD = 1e-12  # as a share of the largest value: rounding errors of equal numbers


@dataclass(frozen=True)
class Estimate:
    """A mean difference whose error follows Student's t distribution; all arrays have shape [...].

    Where the standard error is 0, as with equal differences in all seeds, nothing can be tested:
    intervals are infinite and p values are 1.

    Args:
      mean: the estimated difference.
      se: its standard error.
      df: degrees of freedom of the standard error.
    """

    mean: Floats
    se: Floats
    df: Floats

    def interval(self, alpha: float) -> tuple[Floats, Floats]:
        """The two-sided interval of confidence 1 - alpha: mean -+ t(1 - alpha/2, df) se."""
        half = self.half_width(stats.t.ppf(1 - alpha / 2, self.df))
        return self.mean - half, self.mean + half

    def half_width(self, critical: Floats | float) -> Floats:
        """`critical` standard errors; infinite where there is no spread."""
        return critical * np.where(self.se > 0, self.se, np.inf)

    def upper_limit(self, alpha: float) -> Floats:
        """The one-sided upper limit of confidence 1 - alpha."""
        return self.mean + self.half_width(stats.t.ppf(1 - alpha, self.df))

    def t_value(self) -> Floats:
        """The mean in standard errors; 0 where there is no spread."""
        return np.divide(self.mean, self.se, out=np.zeros_like(self.mean), where=self.se > 0)

    def p_value(self) -> Floats:
        """Two-sided p value of no difference."""
        return np.minimum(2 * stats.t.sf(np.abs(self.t_value()), self.df), 1)

    def p_equivalence(self, margin: float) -> Floats:
        """The p value of a difference of at least the margin: two one-sided tests (TOST).

            p = max(P(T > (mean + margin) / se), P(T < (mean - margin) / se))

        Source: Schuirmann (1987).
        """
        inside = margin - np.abs(self.mean)
        never = np.full_like(self.se, -np.inf)
        inside = np.divide(inside, self.se, out=never, where=self.se > 0)
        return stats.t.sf(inside, self.df)


def paired_t(differences: Floats) -> Estimate:
    """Student's t of the paired differences of seeds.

    It is about the questions that were asked: other seeds, the same questions.

        mean = mean_s d_s        se = sd(d) / sqrt(S)        df = S - 1

    Args:
      differences: treatment minus control for each seed, shape [..., S], S >= 2.
    """
    seeds = differences.shape[-1]
    if seeds < 2:
        raise ValueError(f"a spread needs 2 seeds or more, not {seeds}")
    mean = differences.mean(axis=-1)
    sd = differences.std(axis=-1, ddof=1)
    sd = np.where(sd > _NO_SPREAD * np.abs(differences).max(axis=-1), sd, 0)
    return Estimate(mean, sd / np.sqrt(seeds), np.full_like(mean, seeds - 1))


def crossed(differences: Floats) -> Estimate:
    """The mean over seeds and questions, both a sample of a larger population.

    It is about other seeds and other questions of the same kind. With the mean squares of the
    two-way table without replication, of seeds (MS_s), questions (MS_q) and the remainder (MS_e):

        se^2 = max(MS_s, MS_s + MS_q - MS_e) / (S Q)
        df   = (MS_s + MS_q - MS_e)^2
               / (MS_s^2 / (S-1) + MS_q^2 / (Q-1) + MS_e^2 / ((S-1)(Q-1)))

    df is kept between S - 1 and 1.5 (S - 1), since Satterthwaite's approximation is too large with
    few seeds. The standard error is never below that of `paired_t`.

    Args:
      differences: treatment minus control, shape [..., S, Q], both >= 2.

    Source: Satterthwaite (1946); the limits of df are by simulation (`selfcheck`).
    """
    seeds, questions = differences.shape[-2:]
    if seeds < 2 or questions < 2:
        raise ValueError(f"needs 2 seeds and 2 questions, not {seeds} and {questions}")
    by_seed, by_question = differences.mean(axis=-1), differences.mean(axis=-2)
    mean = by_seed.mean(axis=-1)
    all_squares = np.square(differences - mean[..., None, None]).sum(axis=(-1, -2))
    seed_squares = questions * np.square(by_seed - mean[..., None]).sum(axis=-1)
    question_squares = seeds * np.square(by_question - mean[..., None]).sum(axis=-1)
    df_s, df_q, df_e = seeds - 1, questions - 1, (seeds - 1) * (questions - 1)
    ms_s, ms_q = seed_squares / df_s, question_squares / df_q
    ms_e = np.maximum(all_squares - seed_squares - question_squares, 0) / df_e
    total = ms_s + ms_q - ms_e
    spread = ms_s**2 / df_s + ms_q**2 / df_q + ms_e**2 / df_e
    df = np.divide(total**2, spread, out=np.full_like(mean, df_s), where=(total > 0) & (spread > 0))
    se = np.sqrt(np.maximum(ms_s, total) / (seeds * questions))
    largest = np.abs(differences).max(axis=(-1, -2))
    se = np.where(se > _NO_SPREAD * largest, se, 0)
    return Estimate(mean, se, np.clip(df, df_s, 1.5 * df_s))


def sign_flip(differences: Floats) -> Floats:
    """Exact p value of no difference, two-sided, by flipping the sign of each seed's difference.

    It assumes only that a seed's difference is symmetric about 0 if there is none. The smallest
    p value is 2 / 2^S, so that fewer than 6 seeds cannot reach 0.05.

    Args:
      differences: treatment minus control for each seed, shape [..., S].

    Returns:
      Share of all sign patterns whose sum is at least as far from 0, shape [...].

    Source: Fisher (1935), section 21.
    """
    seeds = differences.shape[-1]
    if seeds > SIGN_FLIP_SEEDS[-1]:
        raise ValueError(f"at most {SIGN_FLIP_SEEDS[-1]} seeds, not {seeds}")
    sums = differences[..., :1]  # by symmetry, the first sign need not be flipped
    for seed in range(1, seeds):
        step = differences[..., seed : seed + 1]
        sums = np.concatenate([sums + step, sums - step], axis=-1)
    observed = np.abs(sums[..., :1])
    ties = _NO_SPREAD * np.abs(differences).sum(axis=-1, keepdims=True)
    return (np.abs(sums) >= observed - ties).mean(axis=-1)
