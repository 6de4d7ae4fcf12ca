import pytest
import torch

from retrain_backends.errors import ConfigError
from retrain_backends.local.base_model import BaseModel
from retrain_backends.local.checkpointing import checkpoint_blocks


@pytest.mark.parametrize("model", ["qwen3", "opt"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_gradient_is_that_without_checkpointing(
    model, dropout, policy, trainer, random_batch, request
):
    path = request.getfixturevalue(model)
    plain, saving = policy(path, dropout=dropout), policy(path, dropout=dropout)
    trainer(plain).train(random_batch)
    trainer(saving, gradient_checkpointing=True).train(random_batch)
    torch.testing.assert_close(
        saving.adapter.gradient, plain.adapter.gradient, atol=1e-7, rtol=1e-5
    )


class Measured(BaseModel):
    """A model that notes how many bytes autograd keeps."""

    kept = 0

    def hidden(self, tokens, positions, layout, cache=None):
        def pack(tensor):
            self.kept += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            return super().hidden(tokens, positions, layout, cache)


def test_less_is_kept_for_the_backward_pass(qwen3, policy, trainer, random_batch):
    plain, saving = policy(qwen3, model=Measured), policy(qwen3, model=Measured)
    trainer(plain).train(random_batch)
    trainer(saving, gradient_checkpointing=True).train(random_batch)
    assert 0 < saving.base.kept < plain.base.kept / 4


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ConfigError, match=r"gradient_checkpointing: the architecture of `m` does"):
        checkpoint_blocks(torch.nn.Linear(2, 2), "m")
