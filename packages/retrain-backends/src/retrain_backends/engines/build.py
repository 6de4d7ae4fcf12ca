"""Connects a policy to the engine that samples from it."""

from functools import cache, partial

from retrain_backends.config import PolicySettings
from retrain_backends.dotted_names import load_object
from retrain_backends.engines.adapter_files import AdapterFiles
from retrain_backends.engines.canary import Policy
from retrain_backends.engines.dialect import Dialect
from retrain_backends.engines.engine import Engine
from retrain_backends.engines.exact_prompts import ExactPrompts
from retrain_backends.engines.fleet import Fleet
from retrain_backends.engines.sampler import EngineSampler
from retrain_backends.engines.sampling_server import Exchange
from retrain_backends.engines.server import Server
from retrain_backends.engines.servers import ServerSettings
from retrain_backends.errors import ConfigError
from retrain_backends.plugins import build as build_part
from retrain_backends.plugins import resolve
from retrain_backends.protocols import Trainer
from retrain_backends.tokenizer import load_tokenizer
from retrain_backends.types import Determinism, Facts

_NOT_CONTROLLED: tuple[Determinism, str] = (
    "not controlled",
    "completions come from an inference engine, which may sum in another order each time",
)
_SAME_TOKENS: tuple[Determinism, str] = (
    "bitwise",
    "the inference engine gives a request the same tokens and log-probs in any batch, which was"
    " compared at the start: the same machines and versions give the same bytes",
)
_RECOMPUTE = {"auto": None, "engine": False, "trainer": True}


def engine_sampler(
    settings: PolicySettings, trainer: Trainer, policy: Policy, vocabulary: int
) -> EngineSampler | ExactPrompts:
    """The sampler of a policy: the servers or the library of `[inference]`.

    Args:
      settings: of the policy.
      trainer: its trainer.
      policy: the adapter that is trained.
      vocabulary: number of token ids of the model.

    Raises:
      ConfigError: a setting is missing, or does not fit the servers.
      RunError: no server answers.
    """
    inference = settings.inference
    dialect: Dialect = build_part("engine", inference.engine)
    tokenizer = cache(partial(load_tokenizer, settings.model.model))
    as_text = bool(inference.url) and inference.prompts == "text"
    invariance = getattr(dialect, "batch_invariance", "")
    same_tokens = inference.determinism == "tokens"
    if same_tokens:
        _check_determinism(inference.engine, invariance, as_text=as_text)
    files = AdapterFiles(inference.adapter_dir)
    try:
        if inference.url:
            engine = _fleet(settings, Exchange(dialect, vocabulary, as_text, tokenizer))
        else:
            engine = _in_process(settings, dialect)
    except BaseException:
        files.close()
        raise
    facts = Facts(
        inference.engine,
        (),
        *(_SAME_TOKENS if same_tokens else _NOT_CONTROLLED),
        steps_off_policy=inference.max_steps_off_policy,
        separate=bool(inference.url),
    )
    sampler = EngineSampler(
        engine,
        trainer,
        policy,
        files,
        facts,
        recompute=_RECOMPUTE[inference.logprobs],
        batch_invariance=invariance if same_tokens else "",
    )
    return ExactPrompts(sampler, tokenizer(), inference.inexact_prompts) if as_text else sampler


def plan_in_process(settings: PolicySettings) -> str:
    """What an engine in this process would take of the devices; empty for a server, or if unknown.

    Raises:
      ConfigError: it cannot run there.
    """
    inference = settings.inference
    if inference.url or inference.engine == "pytorch":
        return ""
    plan = getattr(resolve("engine", inference.engine), "plan", "")
    return load_object(plan, _where(settings))(settings) if plan else ""


def _where(settings: PolicySettings) -> str:
    return f"inference.engine: `{settings.inference.engine}`"


def _fleet(settings: PolicySettings, exchange: Exchange) -> Engine:
    """The servers, connected."""
    inference = settings.inference
    if not hasattr(exchange.dialect, "completion"):
        raise ConfigError(
            f"inference.url: `{inference.engine}` samples in this process only; leave it empty"
        )
    asked = ServerSettings(inference.url, inference.max_requests, inference.timeout_s)
    fleet = Fleet(exchange, asked)
    try:
        for server in fleet.connect():
            _check_context(settings, server)
    except BaseException:
        fleet.close()
        raise
    return fleet


def _in_process(settings: PolicySettings, dialect: Dialect) -> Engine:
    """The library of the engine, in this process."""
    inference = settings.inference
    library = getattr(dialect, "in_process", "")
    if not library:
        raise ConfigError(
            f"inference.url: `{inference.engine}` needs the address of its server, such as"
            " http://localhost:8000"
        )
    if inference.max_steps_off_policy:
        raise ConfigError(
            "inference.max_steps_off_policy: `1` needs a server, which samples beside the trainer;"
            " leave it at 0, or set inference.url"
        )
    return load_object(library, _where(settings))(settings)


def _check_determinism(engine: str, invariance: str, *, as_text: bool) -> None:
    setting = "inference.determinism: `tokens`"
    if not invariance:
        raise ConfigError(
            f"{setting} cannot be had from `{engine}`, whose completions depend on others in their"
            " batch; use `vllm`, or `pytorch` on the CPU, or set it to off"
        )
    if as_text:
        raise ConfigError(f'{setting} is compared with token ids; set inference.prompts = "ids"')


def _check_context(settings: PolicySettings, server: Server) -> None:
    if server.context and settings.longest_prompt + settings.max_tokens > server.context:
        raise ConfigError(
            f"training.max_tokens: `{settings.max_tokens}` after a prompt of"
            f" {settings.longest_prompt} tokens is beyond the context of {server.url},"
            f" {server.context} tokens; lower it, or start the server with a longer one"
        )
