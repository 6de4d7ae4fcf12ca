"""Tries what a run needs, from its machine to its engine, without leaving anything behind."""

import os
import platform
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

from retrain_backends.config import RunConfig
from retrain_backends.declared import declared_capabilities
from retrain_backends.engines.about import ServerAbout, about_servers
from retrain_backends.engines.logprob_kind import DEFECTS, DISTANCES
from retrain_backends.errors import ConfigError, RetrainError
from retrain_backends.group_sampling import GroupSampling
from retrain_backends.memory import machine_memory, size_text
from retrain_backends.planning import build_detector
from retrain_backends.plugins import build as build_part
from retrain_backends.plugins import resolve
from retrain_backends.protocols import Backend, facts_of
from retrain_backends.train.checks.engine_figures import EngineFigures, EngineMeasurement
from retrain_backends.train.checks.sampling import commands
from retrain_backends.train.monitoring.sampler_probe import AdapterUse, ProbeResult, SamplerProbe
from retrain_backends.train.prompts import Task, load_task
from retrain_backends.train.refusals import refuse_clashes, refuse_unavailable
from retrain_backends.train.storage.state_file import versions
from retrain_backends.types import SamplingParams

_PROMPTS, _TOKENS = 8, 128  # of the measurement


@dataclass(frozen=True)
class Finding:
    """Something that was tried: what it is, what was found, and whether a run can do with it."""

    label: str
    text: str
    works: bool = True


def examine(config: RunConfig) -> Iterator[Finding]:
    """Try everything that a run with this configuration needs, the cheap things first.

    Findings are yielded as they are made, and end with the first that prevents a run. A model is
    loaded, sampled from and trained for a few steps, in memory only; with a service, which charges
    for tokens, sampling is tried alone.
    """
    # A border: anything that a run needs may fail.
    try:
        yield Finding("machine", _machine())
        yield Finding("versions", ", ".join(f"{name} {v}" for name, v in versions().items()))
        refuse_unavailable(config)
        refuse_clashes(config, declared_capabilities(config.backend.backend))
        build_detector(config.planning, config.logging.strategic_grams)
        yield Finding("planning", f"the detector `{config.planning.detector}` works")
        if (yield from _servers(config)):
            yield from _backend(config)
    except ConfigError as error:
        yield from (Finding("settings", problem, works=False) for problem in error.problems)
    except RetrainError as error:
        yield Finding("failed", str(error), works=False)


def _machine() -> str:
    memory = machine_memory()
    size = f", {size_text(memory)}" if memory else ""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{size}"


def _servers(config: RunConfig) -> Generator[Finding, None, bool]:
    """What each server says; returns whether a run would have an engine."""
    inference = config.inference
    if not inference.url:
        return True
    dialect = resolve("engine", inference.engine)
    found = about_servers(inference.url, getattr(dialect, "version_path", ""))
    usable = any(not server.problem for server in found)
    for server in found:
        yield Finding("server", _said(server, usable), works=usable)
    if not usable:
        yield Finding("start it", _command(config), works=False)
    return usable


def _said(server: ServerAbout, usable: bool) -> str:
    if server.problem:
        return server.problem + "; a run would leave it out until it answers" * usable
    version = f", version {server.version}" * bool(server.version)
    context = f", {server.context:,} tokens" if server.context else ""
    return f"{server.url} serves `{server.model}`{context}{version}"


def _command(config: RunConfig) -> str:
    try:
        return next(commands(config))
    except ConfigError as error:
        return str(error)


def _backend(config: RunConfig) -> Iterator[Finding]:
    seed = max(config.training.seed, 0)
    training = config.training.model_copy(update={"seed": seed})
    task = load_task(config.model, config.data, training, config.eval)
    longest = task.longest_prompt(training.max_steps * training.batch_size)
    yield Finding("data", f"{config.data.source}; the longest prompt has {longest:,} tokens")
    seeded = config.model_copy(update={"training": training})
    name = config.backend.backend
    backend: Backend = build_part("backend", name, seeded.policy(longest))
    with closing(backend):
        devices = ", ".join(facts_of(backend).devices) or "the CPU"
        yield Finding("model", f"{config.model.model} is loaded, on {devices}")
        yield from _sampling(backend, task, seeded)


def _sampling(backend: Backend, task: Task, config: RunConfig) -> Iterator[Finding]:
    training = config.training
    prompts = [prompt.tokens for prompt in task.prompts.batch(0, _PROMPTS)]
    params = SamplingParams(training.temperature, task.tokenizer.stop_token_ids)
    tokens = min(_TOKENS, training.max_tokens)
    sampling = GroupSampling(training.seed, training.group_size, tokens, params)
    probe = SamplerProbe(backend, task.tokenizer, prompts[:2], sampling, 0)
    yield _probed(probe.run(), backend)
    if config.backend.backend != "local":
        return
    measurement = EngineMeasurement(backend, prompts, replace(sampling, group_size=4))
    measurement.warm_up()
    yield from _measured(measurement.run())
    yield _use(probe.adapter_use())


def _probed(result: ProbeResult, backend: Backend) -> Finding:
    engine = backend.sampler.facts.engine
    if result.defects:
        text = "; ".join(f"{name}: {DEFECTS[name]}" for name in result.defects)
        return Finding("log-probs", f"{engine}: {text}", works=False)
    apart = result.distance_nats[DISTANCES["hot"]]
    text = f"{engine}: {result.logprobs}, {apart:.2g} nats a token from the trainer's"
    return Finding("log-probs", text)


def _measured(figures: EngineFigures) -> Iterator[Finding]:
    yield Finding("sampling", f"{figures.tokens_per_s:,.0f} tokens/s ({figures.tokens:,} tokens)")
    if figures.handover_s is not None:
        text = f"{figures.handover_s:.3f} s to load the adapter, {figures.canary_s:.3f} s to check"
        yield Finding("hand-over", f"{text} that it is used")
    yield Finding("mismatch", f"{figures.mismatch_nats:.2g} nats a token, engine to trainer")
    yield Finding("training", f"{figures.train_s:.2f} s for an optimiser step on these tokens")


def _use(use: AdapterUse) -> Finding:
    texts: dict[AdapterUse, str] = {
        "active": "the engine samples from the adapter that is trained",
        "inactive": DEFECTS["inactive_adapter"],
        "undecided": "too small a change to see whether the engine samples from it",
    }
    return Finding("adapter", texts[use], works=use != "inactive")
