"""The prompts of a run: those that it trains on, and the held-out ones of its evaluations."""

from collections.abc import Callable, Sequence

from retrain_backends.config import RunConfig
from retrain_backends.data import PromptStream, load_examples, load_held_out
from retrain_backends.errors import ConfigError
from retrain_backends.tokenizer import Tokenizer
from retrain_backends.types import Example, Prompt


def renderer(config: RunConfig, tokenizer: Tokenizer) -> Callable[[Example], Prompt]:
    """Makes the prompt of an example, as the model's chat template wants it."""

    def render(example: Example) -> Prompt:
        text = tokenizer.render(example.question, config.data.prompt_template)
        return Prompt(example, text, tokenizer.encode(text))

    return render


def training_prompts(config: RunConfig, render: Callable[[Example], Prompt]) -> PromptStream:
    """The prompts that a run trains on, in its order; its seed must be drawn."""
    training, data = config.training, config.data
    examples = load_examples(data, training.seed, training.max_examples)
    return PromptStream(examples, render, training.seed, data.shuffle)


def held_out_prompts(
    config: RunConfig, render: Callable[[Example], Prompt]
) -> Sequence[tuple[int, Prompt]]:
    """The questions of the evaluations, each with its number in its source; none without any.

    Raises:
      ConfigError: several completions of a question are wanted, and all would be the same.
    """
    evaluation = config.eval
    if not evaluation.every:
        return ()
    if evaluation.samples > 1 and not evaluation.temperature_beside(config.training.temperature):
        raise ConfigError(
            f"eval.samples: `{evaluation.samples}` completions of a question are all the same at "
            "training.temperature = 0; set eval.temperature"
        )
    return [(index, render(example)) for index, example in load_held_out(config.data, evaluation)]
