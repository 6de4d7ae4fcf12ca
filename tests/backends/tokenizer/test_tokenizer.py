import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrain_backends.errors import ModelError, RetrainError
from retrain_backends.tokenizer import load_tokenizer, resolve_model
from retrain_test_support.tokenizers import SPECIAL, byte_level, save_tokenizer, sentencepiece

CHAT = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEMPLATE = "{question} Use \\boxed{}."


@pytest.fixture(scope="session", params=[byte_level, sentencepiece], ids=lambda make: make.__name__)
def plain(request, tmp_path_factory):
    """A tokenizer without a chat template."""
    return load_tokenizer(save_tokenizer(request.param(), tmp_path_factory.mktemp("plain")))


@pytest.fixture
def chat(tmp_path):
    """A tokenizer with a chat template, which writes the beginning of text itself."""
    return load_tokenizer(save_tokenizer(byte_level(), tmp_path, chat=CHAT))


def test_the_prompt_is_a_users_message_where_the_model_chats(chat):
    text = chat.render("What is {x}?", TEMPLATE)
    assert text == "<s><|user|>What is {x}? Use \\boxed{}.<|end|><|assistant|>"


def test_variables_of_the_chat_template(tmp_path):
    template = CHAT + "{% if enable_thinking is false %}<think></think>{% endif %}"
    path = save_tokenizer(byte_level(), tmp_path, chat=template)
    text = load_tokenizer(path, {"enable_thinking": False}).render("1?", "{question}")
    assert text == load_tokenizer(path).render("1?", "{question}") + "<think></think>"


@pytest.mark.parametrize(
    ("template", "given", "problem"),
    [
        (
            CHAT + "{{ enable_thinking }}{{ effort }}",
            {"enable_thinkng": False},
            "model.chat_template_kwargs: `enable_thinkng` is not a variable of the chat template of"
            " `PATH`, which has `effort`, `enable_thinking`; did you mean"
            " `enable_thinking`?",
        ),
        (
            "{{ messages }}",
            {"messages": []},
            "model.chat_template_kwargs: `messages` is not a variable of the chat template of"
            " `PATH`, which has none",
        ),
        (
            None,
            {"a": 1},
            "model.chat_template_kwargs: `PATH` has no chat template; leave it empty",
        ),
        ("{% if %}", {"a": 1}, "model.model: the chat template of `PATH` fails: Temp"),
    ],
)
def test_a_variable_that_the_chat_template_does_not_have(tmp_path, template, given, problem):
    path = save_tokenizer(byte_level(), tmp_path, chat=template)
    with pytest.raises(RetrainError) as caught:
        load_tokenizer(path, given)
    assert str(caught.value).startswith(problem.replace("PATH", path))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_the_prompt_is_plain_text_where_it_does_not(plain):
    assert plain.render("What is {x}?", TEMPLATE) == "What is {x}? Use \\boxed{}."


def test_the_beginning_of_text_comes_once(chat, plain):
    for tokenizer in (chat, plain):
        ids = tokenizer.encode(tokenizer.render("let me", "{question}"))
        assert ids.dtype == np.int64
        texts = tokenizer.token_texts(ids)
        assert texts[0] == "<s>"
        assert texts.count("<s>") == 1


def test_no_token_that_ends_a_text_is_added(tmp_path):
    path = save_tokenizer(
        byte_level(), tmp_path, leading=("<s>", "<|user|>"), trailing=("<|end|>",)
    )
    tokenizer = load_tokenizer(path)
    assert tokenizer.token_texts(tokenizer.encode("let")) == ["<s>", "<|user|>", "l", "et"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet="let me verify.'\n 1é∑"))
def test_decoding_gives_the_text_back(plain, text):
    assert plain.decode(plain.encode(text)) == text


@given(text=st.text(alphabet="let me verify.'\n "))
def test_the_texts_of_the_tokens_joined_are_the_text(plain, text):
    joined = "".join(plain.token_texts(plain.encode(text))).removeprefix("<s>")
    # SentencePiece puts a space before a text, which decoding the whole takes away.
    assert joined in (text, f" {text}")


def test_tokens_have_their_spaces_and_newlines(plain):
    texts = plain.token_texts(plain.encode("so let me\nsee"))
    assert "".join(texts).removeprefix("<s>").strip() == "so let me\nsee"
    assert {" let", " me", "\n"} <= set(texts)


def test_token_texts_of_odd_ids(plain):
    cut = plain.token_texts(plain.encode("é"))[-1]
    assert cut == "\N{REPLACEMENT CHARACTER}"
    assert plain.token_texts([10**9]) == [""]
    assert plain.token_texts(np.array([], dtype=np.int64)) == []
    assert plain.decode([]) == ""


@given(text=st.text(alphabet="let me verify.'\n 1é∑"))
def test_the_exact_text_of_a_prompt(plain, text):
    assert plain.exact_text(plain.encode(text)) == text


def test_the_exact_text_of_a_conversation_lacks_what_encoding_adds(chat):
    ids = chat.encode(chat.render("let me", "{question}"))
    assert chat.exact_text(ids) == "<|user|>let me<|end|><|assistant|>"


def test_tokens_that_their_text_does_not_have(plain):
    spelled = [plain.encode(letter)[-1] for letter in " let"]
    assert plain.exact_text([*plain.encode(""), *spelled]) is None
    assert plain.exact_text(plain.encode(" let")[1:]) is None  # encoding would add the first


def test_tokens_by_their_texts(plain):
    ids = plain.encode(" let me")[-2:].tolist()
    assert plain.exact_ids(plain.token_texts(ids)) == ids


@pytest.mark.parametrize(
    ("text", "known"), [("�", "several tokens"), ("let me", "no single token")]
)
def test_texts_that_are_not_those_of_one_token(plain, text, known):
    with pytest.raises(ValueError, match=f"the text '{text}' is that of {known} of `"):
        plain.exact_ids([text])


def test_a_text_that_one_token_has_alone_and_another_inside_a_longer_text(tmp_path):
    tokenizer = load_tokenizer(save_tokenizer(sentencepiece(), tmp_path))
    with pytest.raises(ValueError, match="the text 't' is that of several tokens"):
        tokenizer.exact_ids(["t"])


@given(text=st.text(alphabet="let me 1é∑🤔"))
def test_pieces_joined_are_the_text(plain, text):
    ids = plain.encode(text)[1:]
    pieces = plain.pieces(ids)
    assert "".join(pieces.texts) in (text, f" {text}")
    assert sum(pieces.sizes) == len(ids)


def test_pieces_are_whole_characters(plain):
    ids = plain.encode("1é🤔1")
    texts, sizes = plain.pieces(ids)
    assert texts[-4:] == ["1", "é", "🤔", "1"]
    assert sizes[-4:] == [1, 2, 4, 1]
    texts, sizes = plain.pieces([*ids[:-2], 10**9])  # an incomplete character
    assert texts[-4:] == [*["\N{REPLACEMENT CHARACTER}"] * 3, ""]
    assert sizes[-4:] == [1, 1, 1, 1]


def test_special_tokens_are_not_decoded(chat):
    assert chat.decode(chat.encode(chat.render("1 + 1?", "{question}"))) == "1 + 1?"


@pytest.mark.parametrize("listed", [None, "<|eot|>", ["<|eot|>", "<|end|>"]])
def test_stop_tokens_are_those_of_tokenizer_and_generation(tmp_path, listed):
    path = save_tokenizer(byte_level(), tmp_path)
    ids = dict(
        zip(SPECIAL, load_tokenizer(path).encode("".join(SPECIAL))[1:].tolist(), strict=True)
    )
    wanted = {ids["<|end|>"]}
    if listed:
        several = [ids[text] for text in listed] if isinstance(listed, list) else ids[listed]
        (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": several}))
        wanted.add(ids["<|eot|>"])
    assert load_tokenizer(path).stop_token_ids == tuple(sorted(wanted))


def test_a_model_that_never_stops_is_refused(tmp_path):
    with pytest.raises(ModelError, match="has no end-of-text token"):
        load_tokenizer(save_tokenizer(byte_level(), tmp_path, eos=None))


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('only systems may speak') }}", "TemplateError: only systems may"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ range(10 ** 9) | list }}", "OverflowError"),
        ("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", "RecursionError"),
    ],
)
def test_a_chat_template_that_fails(tmp_path, template, reason):
    tokenizer = load_tokenizer(save_tokenizer(byte_level(), tmp_path, chat=template))
    with pytest.raises(ModelError, match=r"^model.model: the chat template of ") as caught:
        tokenizer.render("1?", "{question}")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_names_are_left_as_they_are():
    assert resolve_model("Qwen/Qwen3-4B-Instruct-2507") == "Qwen/Qwen3-4B-Instruct-2507"


def test_built_in_models_are_listed():
    with pytest.raises(ModelError, match=r"^model.model: there is no `builtin:tiny`; built in: "):
        resolve_model("builtin:tiny")


@pytest.mark.parametrize("name", ["./nothing", "/no/such/model", "~/nothing", "a/b/c"])
def test_a_directory_that_is_not_there(name):
    with pytest.raises(ModelError, match=f"^model.model: there is no directory `{name}`$"):
        load_tokenizer(name)


def test_a_directory_without_a_tokenizer(tmp_path):
    with pytest.raises(ModelError, match="has no tokenizer that can be loaded: ") as caught:
        load_tokenizer(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["x" * 5000, "/" + "x" * 5000, "a/" + "x" * 5000, "/a" * 2500])
def test_a_name_that_is_too_long(name):
    with pytest.raises(ModelError, match=r"^model.model: .* characters\)") as caught:
        load_tokenizer(name)
    assert len(str(caught.value)) < 200


def test_an_unknown_user():
    with pytest.raises(ModelError, match="`~nobody-of-this-name/a` begins with an unknown user"):
        load_tokenizer("~nobody-of-this-name/a")


@pytest.mark.parametrize(
    ("file", "contents"),
    [
        *(("config.json", text) for text in ("", "{", "[]", "null", "[" * 10**5, "\udcff")),
        ("tokenizer_config.json", "{"),
        ("tokenizer_config.json", "3"),
        ("special_tokens_map.json", "[]"),
        ("generation_config.json", '"x"'),
        *(
            ("generation_config.json", f'{{"eos_token_id": {value}}}')
            for value in ('"a"', "[[1]]", '{"a": 1}', '[1, "a"]', "1.5", "-5", "true")
        ),
    ],
)
def test_a_damaged_file_is_named(tmp_path, file, contents):
    path = save_tokenizer(byte_level(), tmp_path)
    (tmp_path / file).write_text(contents, errors="surrogateescape")
    with pytest.raises(ModelError, match=rf"^model.model: .*`{tmp_path / file}` ") as caught:
        load_tokenizer(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("contents", ["", "{", "{}", "[]", "null", '{"version": "1.0", "tru'])
def test_a_damaged_tokenizer(tmp_path, contents):
    path = save_tokenizer(byte_level(), tmp_path)
    (tmp_path / "tokenizer.json").write_text(contents)
    with pytest.raises(ModelError, match="has no tokenizer that can be loaded: ") as caught:
        load_tokenizer(path)
    assert "\n" not in str(caught.value)


def test_a_model_without_the_files_of_its_tokenizer(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(ModelError, match=r"has no tokens for any text: tokenizer\.json or "):
        load_tokenizer(str(tmp_path))


# In a process of its own, because the hub's address and cache are read from the environment when
# huggingface_hub is imported.
SCRIPT = """
import sys
from retrain_backends.errors import ModelError, RetrainError
from retrain_backends.tokenizer import load_tokenizer

for name in sys.argv[1:]:
    try:
        print(load_tokenizer(name).decode([0]))
    except ModelError as error:
        print(error)
"""


@pytest.mark.slow
def test_models_of_the_hub_without_a_network(tmp_path):
    cached = tmp_path / "hub" / "models--some--model"
    save_tokenizer(byte_level(), cached / "snapshots" / "0")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "some/model", "other/model", "-bad-name-"],
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    good, absent, bad = done.stdout.splitlines()
    assert good == "!"
    assert absent.startswith("model.model: `other/model` is not in the local cache, and https://")
    assert bad.startswith("model.model: `-bad-name-` is neither a directory nor a visible model")
