"""The prompts of a run: those that it trains on, and the held-out ones of its evaluations."""

from collections.abc import Callable, Sequence

from retrain_backends.config import DataConfig, EvalConfig, TrainingConfig
from retrain_backends.data import PromptStream, load_examples, load_held_out
from retrain_backends.errors import ConfigError
from retrain_backends.tokenizer import Tokenizer
from retrain_backends.types import Example, Prompt


def renderer(template: str, tokenizer: Tokenizer) -> Callable[[Example], Prompt]:
    """Makes the prompt of an example, as the model's chat template wants it."""

    def render(example: Example) -> Prompt:
        text = tokenizer.render(example.question, template)
        asked = {"role": "user", "content": template.replace("{question}", example.question)}
        return Prompt(example, text, tokenizer.encode(text), (asked,))

    return render


def training_prompts(
    data: DataConfig, training: TrainingConfig, render: Callable[[Example], Prompt]
) -> PromptStream:
    """The prompts that a run trains on, in its order; its seed must be drawn."""
    examples = load_examples(data, training.seed, training.max_examples)
    return PromptStream(examples, render, training.seed, data.shuffle)


def held_out_prompts(
    data: DataConfig,
    evaluation: EvalConfig,
    training_temperature: float,
    render: Callable[[Example], Prompt],
) -> Sequence[tuple[int, Prompt]]:
    """The questions of the evaluations, each with its number in its source; none without any.

    Raises:
      ConfigError: several completions of a question are wanted, and all would be the same.
    """
    if not evaluation.every:
        return ()
    if evaluation.samples > 1 and not evaluation.temperature_beside(training_temperature):
        raise ConfigError(
            f"eval.samples: `{evaluation.samples}` completions of a question are all the same at "
            "training.temperature = 0; set eval.temperature"
        )
    return [(index, render(example)) for index, example in load_held_out(data, evaluation)]
