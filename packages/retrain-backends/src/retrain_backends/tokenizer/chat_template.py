"""Chat templates: Jinja templates of a model that turn a conversation into one text.

They are rendered as in transformers, where their authors test them.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import Environment, Template, TemplateError, meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace


class _GenerationBlock(Extension):
    """`{% generation %}...{% endgeneration %}` marks text of the model; rendered unchanged."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller: Callable[[], str]) -> str:
        return caller()


class _TemplateNamespace(Namespace):
    """`namespace(...)`, without attributes that begin with an underscore."""

    def __init__(*args: Any, **values: Any) -> None:  # no `self`: a value may have that name
        self, *given = args
        attributes = dict(*given, **values)
        for name in attributes:
            _refuse_underscore(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_underscore(name)
        super().__setitem__(name, value)


class _TemplateDict:
    """`dict(...)` and `dict.fromkeys(...)`, with none of the type's other attributes."""

    def __call__(self, *args: Any, **values: Any) -> dict[Any, Any]:
        return dict(*args, **values)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


# Variables that `render_chat` supplies, besides the special tokens, which end in `_token`.
_SUPPLIED = frozenset({"messages", "tools", "documents", "add_generation_prompt"})


def compile_chat_template(source: str) -> Template:
    """Compile a template in a sandbox, since it comes from the publisher of the model.

    Raises:
      TemplateError: the template is not valid Jinja.
    """
    return _environment().from_string(source)


def variables_of(source: str) -> frozenset[str]:
    """The variables of a template that a user may set, such as `enable_thinking`.

    Raises:
      TemplateError: the template is not valid Jinja.
    """
    environment = _environment()
    read = meta.find_undeclared_variables(environment.parse(source))
    others = read - _SUPPLIED - environment.globals.keys()
    return frozenset(name for name in others if not name.endswith("_token"))


def render_chat(
    template: Template, messages: list[dict[str, str]], variables: Mapping[str, Any]
) -> str:
    """The text of a conversation, up to the start of the answer.

    Args:
      template: of the model.
      messages: with `role` and `content`.
      variables: the special tokens, such as `bos_token`, and the variables that the user sets.

    Raises:
      TemplateError, or another exception that the template causes.
    """
    return template.render(
        messages=messages,
        tools=None,
        documents=None,
        add_generation_prompt=True,
        **variables,
    )


def _environment() -> Environment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    environment.globals["dict"] = _TemplateDict()
    environment.globals["namespace"] = _TemplateNamespace
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's built-in filter escapes HTML characters.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _refuse_underscore(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(
            f"a namespace cannot have the attribute `{name}`, which begins with an underscore"
        )
