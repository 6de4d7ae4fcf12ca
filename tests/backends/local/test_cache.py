import torch

from retrain_backends.local.cache import GroupCache
from retrain_backends.local.quantization import kv_store


def filled(store, steps=70):
    """A cache of one layer: prompts of three tokens, one row dropped, then a token at a time."""
    generator = torch.Generator().manual_seed(0)

    def states(rows, tokens):
        return torch.randn(2, rows, 2, tokens, 4, generator=generator).unbind()

    cache = GroupCache(store)
    cache.update(*states(2, 3), layer_idx=0)
    cache.select_rows(torch.tensor([0, 0, 1]))
    for _ in range(steps):
        found = cache.update(*states(3, 1), layer_idx=0)
    cache.select_rows(torch.tensor([2, 0]))
    return torch.stack(found), cache


def test_another_format_rounds_and_changes_nothing_else():
    exact, _ = filled(None)
    rounded, cache = filled(kv_store("bf16"))
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, exact.bfloat16().float())
    assert cache.get_seq_length() == 73


def test_rows_are_kept_in_the_other_format():
    _, cache = filled(kv_store("bf16"))
    exact, _ = filled(None)
    keys, _ = cache.update(*torch.zeros(2, 2, 2, 1, 4).unbind(), layer_idx=0)
    assert torch.equal(keys[:, :, :-1], exact[0][[2, 0]].bfloat16().float())
