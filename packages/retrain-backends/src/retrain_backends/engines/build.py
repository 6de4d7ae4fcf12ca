"""Connects a policy to the servers that sample from it."""

from retrain_backends.config import PolicySettings
from retrain_backends.engines.adapter_files import AdapterFiles
from retrain_backends.engines.canary import Policy
from retrain_backends.engines.dialect import Dialect
from retrain_backends.engines.fleet import Fleet
from retrain_backends.engines.sampler import EngineSampler
from retrain_backends.engines.server import Server
from retrain_backends.engines.servers import ServerSettings
from retrain_backends.errors import ConfigError
from retrain_backends.plugins import build as build_part
from retrain_backends.protocols import Trainer
from retrain_backends.types import Facts

_RECOMPUTE = {"auto": None, "engine": False, "trainer": True}


def engine_sampler(
    settings: PolicySettings, trainer: Trainer, policy: Policy, vocabulary: int
) -> EngineSampler:
    """The sampler of a policy, connected to the servers of `[inference]`.

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
    if not inference.url:
        raise ConfigError(
            f"inference.url: `{inference.engine}` needs the address of its server, such as"
            " http://localhost:8000"
        )
    dialect: Dialect = build_part("engine", inference.engine)
    asked = ServerSettings(inference.url, inference.max_requests, inference.timeout_s, vocabulary)
    files = AdapterFiles(inference.adapter_dir)
    fleet = Fleet(dialect, asked)
    try:
        for server in fleet.connect():
            _check_context(settings, server)
    except BaseException:
        fleet.close()
        files.close()
        raise
    facts = Facts(
        inference.engine,
        (),
        "not controlled",
        "completions come from a server, which may sum in another order each time",
        steps_off_policy=inference.max_steps_off_policy,
    )
    return EngineSampler(
        fleet,
        trainer,
        policy,
        files,
        facts,
        declared=dialect.logprobs,
        recompute=_RECOMPUTE[inference.logprobs],
    )


def _check_context(settings: PolicySettings, server: Server) -> None:
    if server.context and settings.longest_prompt + settings.max_tokens > server.context:
        raise ConfigError(
            f"training.max_tokens: `{settings.max_tokens}` after a prompt of"
            f" {settings.longest_prompt} tokens is beyond the context of {server.url},"
            f" {server.context} tokens; lower it, or start the server with a longer one"
        )
