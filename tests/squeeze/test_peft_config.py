import json
import math

import pytest

from retrain_squeeze.errors import AdapterError
from retrain_squeeze.peft_config import ConfigFile, PeftConfig, read_config

Q0, Q1, O0 = (
    f"model.layers.{name}" for name in ("0.attn.q_proj", "1.attn.q_proj", "0.attn.o_proj")
)
DEEP = "tower.model.layers.0.attn.q_proj"


def peft(**keys):
    return PeftConfig.model_validate({"peft_type": "LORA", "r": 8, "lora_alpha": 16, **keys})


def test_a_pattern_is_a_name_or_the_end_of_one():
    config = peft(rank_pattern={"layers.0.attn.q_proj": 3, "proj": 4})
    assert [config.rank(module) for module in (Q0, Q1, O0, DEEP)] == [3, 8, 8, 3]


@pytest.mark.parametrize(("rslora", "divisor"), [(False, 8), (True, math.sqrt(8))])
def test_the_scale_stays_at_every_rank(rslora, divisor):
    config = peft(use_rslora=rslora)
    assert config.scale(Q0) == 16 / divisor
    for rank in range(1, 9):
        at = peft(use_rslora=rslora, r=rank, lora_alpha=config.alpha_at(Q0, rank))
        assert at.scale(Q0) == pytest.approx(config.scale(Q0), rel=1e-15)


@pytest.mark.parametrize(("rank", "alpha"), [(8, 16), (4, 8), (3, 6), (1, 2)])
def test_one_rank_for_all_needs_no_patterns(rank, alpha):
    raw = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "bias": "none", "future": [1]}
    raw["target_modules"] = [Q0, Q1]
    written = ConfigFile(peft(target_modules=[Q0, Q1]), raw).at_ranks({Q0: rank, Q1: rank})
    changed = {"r": rank, "lora_alpha": alpha, "rank_pattern": {}, "alpha_pattern": {}}
    assert written == {**raw, **changed}


def test_alpha_is_a_real_number():
    written = ConfigFile(peft(lora_alpha=1, r=16), {}).at_ranks({Q0: 3})
    assert written["lora_alpha"] == 0.1875


RANKS = {Q0: 2, DEEP: 3, Q1: 4, "m.h.1.1": 1, "m.h.101": 4, "x.m.h.1.1": 2}


@pytest.mark.parametrize(
    "source",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"h.1.1": 5, "^m.h.101": 0.3}},
    ],
)
def test_patterns_written_are_read_as_the_same_ranks_and_scales(source):
    before = peft(**source)
    written = ConfigFile(before, {"peft_type": "LORA"}).at_ranks(RANKS)
    after = PeftConfig.model_validate({**source, **json.loads(json.dumps(written))})
    assert {module: after.rank(module) for module in RANKS} == RANKS
    assert written["r"] == 4
    for module in RANKS:
        assert after.scale(module) == pytest.approx(before.scale(module), rel=1e-15)


@pytest.mark.parametrize("named", [None, [], "all-linear", [Q0], "no_such", ["q_proj"], ".*"])
def test_every_module_is_a_target(named):
    modules = {Q0: 4, Q1: 4, "lm_head": 4}
    raw = {"peft_type": "LORA", "target_modules": named}
    written = ConfigFile(peft(target_modules=named), raw).at_ranks(modules)["target_modules"]
    assert written == (".*" if named == ".*" else list(modules))
    assert all(peft(target_modules=written).targets(module) for module in modules)


def test_an_initialisation_with_demands_on_the_rank_is_not_carried_over():
    written = ConfigFile(peft(init_lora_weights="orthogonal"), {}).at_ranks({Q0: 3})
    assert written["init_lora_weights"] is True


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"r": 0}, "`r` is `0`"),
        ({"r": "8"}, "`r` is `8`"),
        ({"r": True}, "`r` is `True`"),
        ({"lora_alpha": None}, "`lora_alpha` is `None`"),
        ({"lora_alpha": float("nan")}, "`lora_alpha` is `nan`"),
        ({"lora_alpha": 1e155}, "`lora_alpha` is `1e+155`; it should be less than or equal to"),
        ({"alpha_pattern": {"q": -1e200}}, "`alpha_pattern.q` is `-1e+200`"),
        ({"peft_type": "LOHA"}, "`peft_type` is `LOHA`"),
        ({"rank_pattern": {"q_proj": 0.5}}, "`rank_pattern.q_proj` is `0.5`"),
        ({"rank_pattern": {"q_(proj": 4}}, "pattern `q_(proj` is not a regular expression"),
        ({"use_dora": True}, "`use_dora` is true"),
        ({"use_bdlora": {"nblocks": 2}}, "`use_bdlora` is set"),
        ({"target_parameters": ["experts.up"]}, "`target_parameters` names experts.up"),
        ({"init_lora_weights": "pissa_niter_4"}, "`init_lora_weights` is `pissa_niter_4`"),
        ({"init_lora_weights": "olora"}, "plain LoRA with PEFT"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, keys, said):
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 16, **keys}))
    with pytest.raises(AdapterError) as caught:
        read_config(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert said in line
    assert "\n" not in line
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such file"),
        ("", "is not JSON"),
        ("[]", "is not a JSON object"),
        ('{"r": 8', "is not JSON"),
        ("\udcff", "is not JSON"),
        ("[" * 100_000, "is not JSON (maximum recursion depth"),
        ('{"peft_type": "LORA", "r": 8}', "`lora_alpha` is missing"),
    ],
)
def test_a_configuration_that_is_none_is_said_in_one_line(tmp_path, text, said):
    path = tmp_path / "adapter_config.json"
    if text is not None:
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(AdapterError) as caught:
        read_config(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
