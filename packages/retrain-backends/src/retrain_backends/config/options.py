"""Tables whose keys belong to a part of a run: `[backend.options]`."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError

from retrain_backends.config.problems import problems_of_options
from retrain_backends.config.section import Section
from retrain_backends.errors import ConfigError

OptionsT = TypeVar("OptionsT", bound=Section)


def read_backend_options(model: type[OptionsT], options: Mapping[str, object]) -> OptionsT:
    """Validate `[backend.options]` as the chosen backend understands it.

    Raises:
      ConfigError: holds a line for every mistake.
    """
    given = dict(options)
    try:
        return model.model_validate(given)
    except ValidationError as error:
        lines = problems_of_options(error, "backend.options", model, given)
        raise ConfigError(*lines) from error
