import shutil

import pytest

from retrain_backends.errors import ConfigError, DataError
from retrain_backends.train.prompts import load_task


def texts_of(config):
    task = load_task(config.model, config.data, config.training, config.eval)
    return [prompt.text for prompt in (*task.prompts.batch(0, 4), *(p for _, p in task.held_out))]


def test_variables_of_the_chat_template_reach_every_prompt(make_config, chat_model_dir, tmp_path):
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text('{"question": "5", "answer": "5"}\n')
    settings = {"model.model": chat_model_dir, "eval.every": 1, "eval.path": str(held_out)}
    low = texts_of(make_config({**settings, "model.chat_template_kwargs": {"mood": "low"}}))
    plain = texts_of(make_config(settings))
    assert low == [f"{text[:-1]}9" for text in plain]
    assert len(low) == 5


def test_a_variable_that_nothing_reads_is_refused(make_config, chat_model_dir):
    settings = {"model.model": chat_model_dir, "model.chat_template_kwargs": {"mod": "low"}}
    with pytest.raises(ConfigError, match=r"`mod` is not a variable .* did you mean `mood`\?"):
        texts_of(make_config(settings))


def test_a_prompt_without_tokens_is_refused(make_config, chat_model_dir, tmp_path):
    directory = tmp_path / "silent"
    shutil.copytree(chat_model_dir, directory)
    (directory / "chat_template.jinja").write_text("{# nothing #}")
    with pytest.raises(DataError, match=r"^data: the prompt of the question `\d` has no tokens"):
        texts_of(make_config({"model.model": str(directory)}))
