import pytest
import torch
from transformers import AutoModelForCausalLM

from retrain_backends.local.head import Head


@pytest.mark.parametrize(
    ("family", "scale", "softcap"),
    [("Llama", 1.0, None), ("Gemma 2", 1.0, 5.0), ("Cohere", 0.3, None), ("Granite", 1 / 3, None)],
)
def test_logits_are_those_of_the_model(family, scale, softcap, tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model(family))
    head = Head.of(model)
    assert (head.scale, head.softcap) == (pytest.approx(scale), softcap)
    tokens = torch.arange(5)[None]
    with torch.no_grad():
        hidden = model.base_model(tokens).last_hidden_state
        torch.testing.assert_close(head.logits(hidden), model(tokens).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.3, None), (1.0, 2.0), (0.3, 2.0)])
def test_the_slope_is_the_derivative(scale, softcap):
    identity = torch.nn.Linear(9, 9, bias=False)
    torch.nn.init.eye_(identity.weight)
    head = Head(identity, scale, softcap)
    raw = torch.linspace(-3, 3, 36).view(4, 9).requires_grad_()
    logits = head.logits(raw)
    logits.sum().backward()
    slope = head.slope(logits.detach())
    expected = torch.ones(4, 9) * (1.0 if slope is None else slope)
    torch.testing.assert_close(raw.grad, expected)
