"""Option tables of the parts: `[backend.options]`, `[campaign.executor_options]`."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError

from retrain_backends.config.problems import problems_of_options
from retrain_backends.config.section import Section
from retrain_backends.errors import ConfigError

OptionsT = TypeVar("OptionsT", bound=Section)


def read_backend_options(model: type[OptionsT], options: Mapping[str, object]) -> OptionsT:
    """Validate `[backend.options]` with the model of the chosen backend.

    Raises:
      ConfigError: has a line for every mistake.
    """
    return read_options("backend.options", model, options)


def read_options(name: str, model: type[OptionsT], options: Mapping[str, object]) -> OptionsT:
    """Validate the table `name` with the model of its part.

    Raises:
      ConfigError: has a line for every mistake.
    """
    given = dict(options)
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise ConfigError(*problems_of_options(error, name, model, given)) from error
