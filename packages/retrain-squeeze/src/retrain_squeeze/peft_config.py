"""`adapter_config.json`: what PEFT is told of a LoRA adapter's ranks and scales."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from retrain_squeeze.errors import AdapterError

_Rank = Annotated[int, Field(strict=True, ge=1)]
_MOST = 1e18  # squared, and times the square of any float32, it is still a number
_Alpha = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-_MOST, le=_MOST)]
# What PEFT's initialisations do to the base model's weights depends on the rank, or is lost.
_CHANGES_BASE = re.compile(r"pissa.*|olora|corda|loftq|lora_ga")


class PeftConfig(BaseModel):
    """The keys that say which update an adapter makes; all others are carried along."""

    model_config = ConfigDict(frozen=True)

    peft_type: Literal["LORA"]
    r: _Rank
    lora_alpha: _Alpha
    use_rslora: bool = False
    rank_pattern: dict[str, _Rank] | None = None
    alpha_pattern: dict[str, _Alpha] | None = None
    init_lora_weights: bool | str | None = True
    use_dora: bool = False
    use_bdlora: Any = None
    target_parameters: list[str] | None = None

    def rank(self, module: str) -> int:
        """The rank of a module, by its name in the base model."""
        return _by_pattern(self.rank_pattern or {}, module, self.r)

    def alpha(self, module: str) -> float:
        """The alpha of a module, by its name in the base model."""
        return _by_pattern(self.alpha_pattern or {}, module, self.lora_alpha)

    def scale(self, module: str) -> float:
        """What the module's `BA` is multiplied with: alpha / r, for rsLoRA alpha / sqrt(r)."""
        return self.alpha(module) / _divisor(self.rank(module), self.use_rslora)

    def alpha_at(self, module: str, rank: int) -> float:
        """The alpha that leaves a module its scale at another rank: alpha k / r.

        For rsLoRA, which divides by the root of the rank, that is alpha sqrt(k / r).
        """
        divisors = (_divisor(r, self.use_rslora) for r in (rank, self.rank(module)))
        return self.alpha(module) * next(divisors) / next(divisors)


def _divisor(rank: int, use_rslora: bool) -> float:
    return math.sqrt(rank) if use_rslora else rank


def _by_pattern(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    """The value of the first pattern that is the module's name or a dotted end of it.

    Patterns are regular expressions. Source: `get_pattern_key` of PEFT.
    """
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


@dataclass(frozen=True)
class ConfigFile:
    """A configuration as it was read, with keys that nobody here knows."""

    peft: PeftConfig
    raw: Mapping[str, Any]

    def at_ranks(self, ranks: Mapping[str, int]) -> dict[str, Any]:
        """The configuration of the same adapter at other ranks.

        `r` is the highest rank, which is what programs that serve adapters make room for. Modules
        of other ranks or alphas have patterns that match their names and no others.

        Args:
          ranks: rank of every module, by its name in the base model.
        """
        alphas = {name: _number(self.peft.alpha_at(name, rank)) for name, rank in ranks.items()}
        highest = max(ranks, key=lambda name: ranks[name])
        rank, alpha = ranks[highest], alphas[highest]
        changed = {
            "r": rank,
            "lora_alpha": alpha,
            "rank_pattern": {_exactly(m): r for m, r in ranks.items() if r != rank},
            "alpha_pattern": {_exactly(m): a for m, a in alphas.items() if a != alpha},
        }
        if isinstance(self.peft.init_lora_weights, str):  # some demand an even rank
            changed["init_lora_weights"] = True
        return {**self.raw, **changed}


def _number(value: float) -> float:
    """`value`, as an integer where it is one: as PEFT writes it."""
    return int(value) if value == int(value) else value


def _exactly(module: str) -> str:
    return f"^{re.escape(module)}"


def read_config(path: Path) -> ConfigFile:
    """Read an `adapter_config.json`.

    Raises:
      AdapterError: it is missing, no configuration of a LoRA adapter, or of a kind of LoRA whose
        update is not `BA` alone.
    """
    try:
        raw = json.loads(path.read_text("utf-8"))
        peft = PeftConfig.model_validate(raw)
    except FileNotFoundError:
        raise AdapterError(f"{path}: no such file; save the adapter with PEFT again") from None
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValidationError as error:
        raise AdapterError(f"{path}: {_line(error.errors(include_url=False)[0])}") from error
    except (ValueError, RecursionError) as error:  # neither UTF-8 nor JSON, or nested too deeply
        raise AdapterError(f"{path}: is not JSON ({error}); copy or save it again") from error
    _refuse(path, peft)
    return ConfigFile(peft, raw)


def _line(problem: ErrorDetails) -> str:
    if not problem["loc"]:
        return "is not a JSON object; save the adapter with PEFT again"
    key = ".".join(map(str, problem["loc"]))
    if problem["type"] == "missing":
        return f"`{key}` is missing; save the adapter with PEFT again"
    said = problem["msg"].removeprefix("Input ")
    return f"`{key}` is `{problem['input']}`; it {said}"


def _refuse(path: Path, peft: PeftConfig) -> None:
    for pattern in [*(peft.rank_pattern or {}), *(peft.alpha_pattern or {})]:
        try:
            re.compile(pattern)
        except re.error as error:
            raise AdapterError(
                f"{path}: the pattern `{pattern}` is no regular expression ({error})"
            ) from error
    if peft.use_dora:
        raise AdapterError(
            f"{path}: `use_dora` is true; what DoRA changes depends on the base model's weights, "
            "so the rank it needs cannot be read off the adapter; only plain LoRA can be squeezed"
        )
    if peft.use_bdlora:
        raise AdapterError(
            f"{path}: `use_bdlora` is set; a block-diagonal factor would not stay one; "
            "only plain LoRA can be squeezed"
        )
    if peft.target_parameters:
        raise AdapterError(
            f"{path}: `target_parameters` names {', '.join(peft.target_parameters)}; factors that "
            "experts share cannot be squeezed, only those of modules"
        )
    init = peft.init_lora_weights
    if isinstance(init, str) and _CHANGES_BASE.fullmatch(init.lower()):
        raise AdapterError(
            f"{path}: `init_lora_weights` is `{init}`, which changes the base model's weights too; "
            "convert it to plain LoRA with PEFT: "
            "save_pretrained(..., path_initial_model_for_weight_conversion=...)"
        )
