import pytest

from retrain_backends.planning.sentences import sentence_spans


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Let me see. It is 3.14 at 10:30!", ["Let me see.", "It is 3.14 at 10:30!"]),
        ("First: add.\n\n  Then (so) stop", ["First:", "add.", "Then (so) stop"]),
        ('He said "stop." Then left.', ['He said "stop."', "Then left."]),
        ("Hmm... wait?! No", ["Hmm...", "wait?!", "No"]),
        ("もう一度。答えは７です。", ["もう一度。", "答えは７です。"]),
        ("<think>\nso be it</think>Yes.<|im_end|>", ["so be it", "Yes."]),
        ("if a<b and b>c then", ["if a<b and b>c then"]),
        ("x = 4\n1. Add\n= 12.\n", ["Add"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_sentences(text, sentences):
    assert [text[start:stop] for start, stop in sentence_spans(text)] == sentences
