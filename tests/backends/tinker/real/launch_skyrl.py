"""Start SkyRL's Tinker-API server, the package `skyrl[tinker,jax]` 0.3.0, on the CPU.

Run by the Python of the environment that holds it. The package's own entry point,
`python -m skyrl.tinker.api`, is not used for three reasons:

- It starts its engine with `uv run --extra tinker --extra jax`, with flags read off the command
  line of its parent, which must be a `uv run` too. Here the engine is this file again.
- Its module of types has a `typing.TypedDict` in a pydantic model, which pydantic refuses on
  Python 3.11; that of `typing_extensions` is the same to both.
- Its engine looks for gradients to compute first and for optimiser steps to take last, in several
  queries. When both come in between, the step is taken without the gradient, once in some 170 steps
  that were watched. Here it looks for steps first; then a step that it sees has its gradient among
  those that it sees later.
"""

import argparse
import sys
import typing

import typing_extensions

typing.TypedDict = typing_extensions.TypedDict

import uvicorn  # noqa: E402
from skyrl.tinker import api, engine  # noqa: E402
from skyrl.tinker.config import EngineConfig, add_model, config_to_argv  # noqa: E402


class OrderedEngine(engine.TinkerEngine):
    """Finds single requests, optimiser steps among them, before those that can be batched."""

    def find_batchable_model_passes(self, session, request_type):
        if request_type == engine.types.RequestType.FORWARD_BACKWARD:  # the first query of a round
            self._singles = super().find_single_requests(session)
        return super().find_batchable_model_passes(session, request_type)

    def find_single_requests(self, session):  # noqa: ARG002
        return self._singles


def run_engine():
    engine.TinkerEngine = OrderedEngine
    engine.main()


def run_server():
    parser = argparse.ArgumentParser()
    add_model(parser, EngineConfig)
    parser.add_argument("--port", type=int, required=True)
    arguments = vars(parser.parse_args())
    port = arguments.pop("port")

    def engine_command(_, config):
        return [sys.executable, __file__, "engine", *config_to_argv(config)]

    api._build_uv_run_cmd_engine = engine_command
    api.app.state.engine_config = EngineConfig.model_validate(arguments)
    uvicorn.run(api.app, host="127.0.0.1", port=port, log_level="info")


if sys.argv[1:2] == ["engine"]:
    del sys.argv[1]
    run_engine()
else:
    run_server()
