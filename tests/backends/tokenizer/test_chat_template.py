from datetime import datetime

import pytest
from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from retrain_backends.tokenizer.chat_template import (
    compile_chat_template,
    render_chat,
    variables_of,
)

MESSAGES = [{"role": "user", "content": "1 < 2 & é?"}, {"role": "assistant", "content": "yes"}]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def render(source, **variables):
    return render_chat(compile_chat_template(source), MESSAGES, {**TOKENS, **variables})


def render_with_transformers(source, **variables):
    texts, _ = render_jinja_template(
        [MESSAGES], chat_template=source, add_generation_prompt=True, **TOKENS, **variables
    )
    return texts[0]


@pytest.mark.parametrize(
    "source",
    [
        "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m['content'] }}\n{% endfor %}",
        "{% for m in messages %}\n    {% if loop.first %}\nfirst\n  {% endif %}\n{% endfor %}\n",
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
        "{%- set n = 0 %}{% generation %}{% set n = 1 %}{{ n }}{% endgeneration %}{{ n }}",
        "{{ messages | tojson }} {{ messages[0] | tojson(indent=2, sort_keys=True) }}",
        "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}x{% endfor %}",
        "{% for m in messages %}{{ m.content }}{% break %}{% endfor %}",
        "{% set ns = namespace(self='x', n=1) %}{% set ns.n = 2 %}{{ ns.n }}{{ ns.self }}",
        "{{ dict(a=1) | tojson }}{{ dict.fromkeys('ab', 0) | tojson }}{{ dict.get }}",
        "{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}{{ missing }}",
        "{% if not add_generation_prompt is defined %}no{% endif %}{{ eos_token }}\n",
    ],
)
def test_text_is_that_of_transformers(source):
    assert render(source) == render_with_transformers(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('only systems may speak') }}",
        "{% for m in messages %}",
        "{{ missing.attribute }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}",
        "{% set ns = namespace(_hidden=1) %}",
        "{% set ns = namespace() %}{% set ns._hidden = 1 %}",
    ],
)
def test_what_fails_in_transformers_fails(source):
    with pytest.raises(TemplateError):
        render_with_transformers(source)
    with pytest.raises(TemplateError):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{% if thinking is defined and thinking is false %}<think></think>{% endif %}",
        "{% if thinking is not defined %}{% set thinking = true %}{% endif %}{{ thinking }}",
        "{% set thinking = thinking | default(true) %}{{ thinking }}",
        "{% macro turn() %}{{ thinking }}{% endmacro %}{{ turn() }}",
        "{% generation %}{{ thinking }}{% endgeneration %}",
        "{% set ns = namespace(thinking=thinking) %}{{ ns.thinking }}{{ raise_exception is none }}",
    ],
)
def test_a_variable_of_the_template(source):
    assert variables_of(source) == {"thinking"}
    for thinking in (False, "low", ["a"], {"b": 1}):
        expected = render_with_transformers(source, thinking=thinking)
        assert render(source, thinking=thinking) == expected


def test_what_rendering_supplies_is_no_variable():
    source = "{{ messages }}{{ tools }}{{ documents }}{{ add_generation_prompt }}{{ bos_token }}"
    assert variables_of(source + "{{ range(2) }}") == set()


def test_the_date():
    before = datetime.now().strftime("%d %b %Y")
    shown = render("{{ strftime_now('%d %b %Y') }}")
    assert shown in (before, datetime.now().strftime("%d %b %Y"))  # midnight may lie between
