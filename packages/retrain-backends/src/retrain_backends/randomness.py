"""Random numbers as a pure function of (seed, purpose, indices).

There is no generator with state to pass around: each thing that is drawn has its own stream, so a
resumed run, a run with another batch size and a parallel run draw the same numbers. The generator
is Philox4x64, which is counter-based (Salmon et al. 2011, "Parallel random numbers: as easy as 1,
2, 3"): key = (seed, purpose), counter = indices.
"""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """The use of a stream; different purposes have different numbers.

    Changing a value changes the random numbers of every run.
    """

    ADAPTER = 1  # initial LoRA weights
    ORDER = 2  # permutation of the data, one per epoch
    EXAMPLE = 3  # generated training examples
    HELD_OUT_EXAMPLE = 4  # generated examples of the test split
    SAMPLE = 5  # tokens of the training rollouts
    EVALUATE = 6  # tokens of the evaluation rollouts
    DROPOUT = 7  # LoRA dropout masks
    PROBE = 8  # a sample of data or tokens looked at before training


def stream(seed: int, purpose: Purpose, *indices: int, turn: int = 0) -> np.random.Generator:
    """The random stream that belongs to `(seed, purpose, *indices, turn)`.

    Args:
      seed: the run's seed, >= 0.
      purpose: what the numbers are for.
      indices: at most three, each >= 0: (step, prompt, sample) for a completion, (epoch,) for an
        order of the data.
      turn: which of the policy's turns in a conversation, from 0, below 2^32.

    Returns:
      A numpy generator at the start of its stream; streams with different arguments never overlap
      within 2^32 blocks of four numbers.

    Raises:
      ValueError: more than three indices.
    """
    if len(indices) > 3:
        raise ValueError(f"a stream has at most three indices, got {len(indices)}")
    # The lowest counter word advances as numbers are drawn; turns are 2^32 blocks apart.
    counter = np.array([turn << 32, *indices, *(0,) * (3 - len(indices))], dtype=np.uint64)
    key = np.array([seed, int(purpose)], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def service_seed(rng: np.random.Generator) -> int:
    """A seed for a service that draws all completions of a request from it.

    Below 2^30, since servers add the index of a completion and keep the sum in 32 bits.
    """
    return int(rng.integers(2**30))
