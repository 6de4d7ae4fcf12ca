"""What an inference server of the tests does wrong, and what it was asked."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Behaviour:
    """What the server does wrong; every field may be changed at any time.

    Args:
      name: of the served model.
      lora: whether adapters can be loaded at all.
      largest_rank: of an adapter.
      bound: whether requests for an adapter use it; False: the model without one.
      stale: whether the first adapter that was loaded answers for all.
      raw_logprobs: log-probs at temperature 1 whatever the temperature is.
      shift: added to every log-prob.
      drift: added to every log-prob for each request that was answered before.
      seeds: False draws other tokens each time.
      without: keys that an answer lacks, such as `logprobs` and `token_ids`.
      ids_as_text: token ids as texts `token_id:7`, for servers without `token_ids`.
      checksums: whether it computes checksums of the base weights, as vLLM and SGLang do.
      takes_ids: False answers 400 to prompts of token ids; texts are always taken.
      token_texts: tokens come back as texts alone.
      extra_token: put before prompts that come as texts.
      halves: answers that have half of the completions.
      broken: answers with success and damaged JSON.
      nan: log-probs are no numbers.
      id_offset: added to every token id.
      busy: number of requests, the next ones, that are answered with `busy_status`.
      busy_status: an HTTP status; 0 breaks the connection.
      drop_after: number of answered completions after which all connections break; None: never.
    """

    name: str = "model"
    lora: bool = True
    largest_rank: int = 64
    bound: bool = True
    stale: bool = False
    raw_logprobs: bool = False
    shift: float = 0.0
    drift: float = 0.0
    seeds: bool = True
    without: frozenset[str] = frozenset()
    ids_as_text: bool = False
    checksums: bool = False
    takes_ids: bool = True
    token_texts: bool = False
    extra_token: int | None = None
    halves: int = 0
    broken: int = 0
    nan: bool = False
    id_offset: int = 0
    busy: int = 0
    busy_status: int = 503
    drop_after: int | None = None


@dataclass
class Log:
    """What a server was asked: calls by path, adapters by name and directory, in order."""

    calls: Counter[str] = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    unloaded: list[str] = field(default_factory=list)
