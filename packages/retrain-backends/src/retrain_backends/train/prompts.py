"""The prompts of a run: for training, and held out for evaluation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from retrain_backends.config import DataConfig, EvalConfig, ModelConfig, TrainingConfig
from retrain_backends.data import PromptStream, load_examples, load_held_out
from retrain_backends.errors import ConfigError, DataError
from retrain_backends.tokenizer import Tokenizer, load_tokenizer
from retrain_backends.types import Example, Prompt

_MEASURED = 256  # training prompts whose length is measured before the start


@dataclass(frozen=True)
class Task:
    """The tokenizer of a run, its training prompts, and its held-out prompts.

    `held_out` has each prompt with the index of its example in the source.
    """

    tokenizer: Tokenizer
    prompts: PromptStream
    held_out: Sequence[tuple[int, Prompt]]

    def longest_prompt(self, drawn: int) -> int:
        """Tokens of the longest held-out prompt or training prompt, of the first few hundred.

        Args:
          drawn: the number of prompts that the run draws.
        """
        first = self.prompts.batch(0, min(_MEASURED, drawn))
        return max(len(prompt.tokens) for prompt in (*first, *(p for _, p in self.held_out)))

    @property
    def questions(self) -> list[Example]:
        """The held-out examples."""
        return [prompt.example for _, prompt in self.held_out]


def load_task(
    model: ModelConfig, data: DataConfig, training: TrainingConfig, evaluation: EvalConfig
) -> Task:
    """Load the data, then the model's tokenizer.

    Args:
      model: `[model]`.
      data: `[data]`.
      training: `[training]`; its seed must not be -1.
      evaluation: `[eval]`.

    Raises:
      ConfigError: several greedy completions per question, which would be identical; a variable
        that the model's chat template does not have.
      DataError: the data cannot be loaded.
      ModelError: the tokenizer cannot be loaded.
    """
    examples = load_examples(data, training.seed, training.max_examples)
    held_out = _held_out_examples(data, evaluation, training.temperature)
    tokenizer = load_tokenizer(model.model, model.chat_template_kwargs)
    render = _renderer(data.prompt_template, tokenizer)
    return Task(
        tokenizer,
        PromptStream(examples, render, training.seed, data.shuffle),
        [(index, render(example)) for index, example in held_out],
    )


def _renderer(template: str, tokenizer: Tokenizer) -> Callable[[Example], Prompt]:
    """A function that renders the prompt of an example with the model's chat template.

    It raises DataError for a prompt without tokens.
    """

    def render(example: Example) -> Prompt:
        text = tokenizer.render(example.question, template)
        tokens = tokenizer.encode(text)
        if not len(tokens):
            raise DataError(
                f"data: the prompt of the question `{example.question[:80]}` has no tokens; check"
                " data.prompt_template and the chat template of the model"
            )
        message = {"role": "user", "content": template.replace("{question}", example.question)}
        return Prompt(example, text, tokens, (message,))

    return render


def _held_out_examples(
    data: DataConfig, evaluation: EvalConfig, training_temperature: float
) -> Sequence[tuple[int, Example]]:
    if not evaluation.every:
        return ()
    if evaluation.samples > 1 and not evaluation.temperature_beside(training_temperature):
        raise ConfigError(
            f"eval.samples: `{evaluation.samples}` completions of a question are all the same at "
            "training.temperature = 0; set eval.temperature"
        )
    return load_held_out(data, evaluation)
