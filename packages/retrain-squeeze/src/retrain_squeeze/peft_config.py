"""Read `adapter_config.json`: the ranks and scales of a LoRA adapter."""

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
_MOST = 1e18  # its square times the square of any float32 is finite in float64
_Alpha = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-_MOST, le=_MOST)]
# Initialisations that change the base model's weights, depending on the rank.
_CHANGES_BASE = re.compile(r"pissa.*|olora|corda|loftq|lora_ga")


class PeftConfig(BaseModel):
    """The keys that determine the update of an adapter."""

    model_config = ConfigDict(frozen=True)

    peft_type: Literal["LORA"]
    r: _Rank
    lora_alpha: _Alpha
    use_rslora: bool = False
    rank_pattern: dict[str, _Rank] | None = None
    alpha_pattern: dict[str, _Alpha] | None = None
    init_lora_weights: bool | str | None = True
    target_modules: str | list[str] | None = None
    use_dora: bool = False
    use_bdlora: Any = None
    target_parameters: list[str] | None = None

    def rank(self, module: str) -> int:
        """The rank of a module, by its name in the base model."""
        return _by_pattern(self.rank_pattern or {}, module, self.r)

    def alpha(self, module: str) -> float:
        """The alpha of a module, by its name in the base model."""
        return _by_pattern(self.alpha_pattern or {}, module, self.lora_alpha)

    def targets(self, module: str) -> bool:
        """Whether PEFT adapts a module, by its name in the base model.

        A string is a regular expression, a list has names or dotted suffixes of names.
        """
        if isinstance(self.target_modules, str):
            return re.fullmatch(self.target_modules, module) is not None
        return any(f".{module}".endswith(f".{target}") for target in self.target_modules or ())

    def scale(self, module: str) -> float:
        """The factor of the module's `BA`: alpha / r, for rsLoRA alpha / sqrt(r)."""
        return self.alpha(module) / _divisor(self.rank(module), self.use_rslora)

    def alpha_at(self, module: str, rank: int) -> float:
        """The alpha that keeps the scale of a module at another rank: alpha k / r.

        For rsLoRA, which divides by the square root of the rank, it is alpha sqrt(k / r).
        """
        divisors = (_divisor(r, self.use_rslora) for r in (rank, self.rank(module)))
        return self.alpha(module) * next(divisors) / next(divisors)


def _divisor(rank: int, use_rslora: bool) -> float:
    return math.sqrt(rank) if use_rslora else rank


def _by_pattern(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    """The value of the first pattern that matches the module's name or a dotted suffix of it.

    Patterns are regular expressions. Source: `get_pattern_key` of PEFT.
    """
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


@dataclass(frozen=True)
class ConfigFile:
    """A configuration file: the known keys in `peft`, all keys in `raw`."""

    peft: PeftConfig
    raw: Mapping[str, Any]

    def at_ranks(self, ranks: Mapping[str, int]) -> dict[str, Any]:
        """The configuration of the same adapter at other ranks.

        `r` is the highest rank, for which programs that serve adapters allocate memory. Modules
        with another rank or alpha have a pattern that matches only their name. `target_modules`
        names every module: PEFT skips the tensors of all others without an error.

        Args:
          ranks: rank of every module, by name in the base model.
        """
        alphas = {name: _number(self.peft.alpha_at(name, rank)) for name, rank in ranks.items()}
        highest = max(ranks, key=lambda name: ranks[name])
        rank, alpha = ranks[highest], alphas[highest]
        changed: dict[str, Any] = {
            "r": rank,
            "lora_alpha": alpha,
            "rank_pattern": {_exactly(m): r for m, r in ranks.items() if r != rank},
            "alpha_pattern": {_exactly(m): a for m, a in alphas.items() if a != alpha},
        }
        if not all(map(self.peft.targets, ranks)):
            changed["target_modules"] = list(ranks)
        if isinstance(self.peft.init_lora_weights, str):  # some of these need an even rank
            changed["init_lora_weights"] = True
        return {**self.raw, **changed}


def _number(value: float) -> float:
    """`value` as PEFT writes it: as an integer if it is whole."""
    return int(value) if value == int(value) else value


def _exactly(module: str) -> str:
    return f"^{re.escape(module)}"


def read_config(path: Path) -> ConfigFile:
    """Read an `adapter_config.json`.

    Raises:
      AdapterError: the file is missing, is not a configuration of a LoRA adapter, or describes a
        variant of LoRA whose update is more than `BA`.
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
    reason = problem["msg"].removeprefix("Input ")
    return f"`{key}` is `{problem['input']}`; it {reason}"


def _refuse(path: Path, peft: PeftConfig) -> None:
    targets = [peft.target_modules] if isinstance(peft.target_modules, str) else []
    for pattern in [*(peft.rank_pattern or {}), *(peft.alpha_pattern or {}), *targets]:
        try:
            re.compile(pattern)
        except re.error as error:
            raise AdapterError(
                f"{path}: the pattern `{pattern}` is not a regular expression ({error})"
            ) from error
    if peft.use_dora:
        raise AdapterError(
            f"{path}: `use_dora` is true; the update of DoRA depends on the base model's weights, "
            "so the adapter alone does not determine its rank; only plain LoRA can be squeezed"
        )
    if peft.use_bdlora:
        raise AdapterError(
            f"{path}: `use_bdlora` is set; a factor would not remain block-diagonal; "
            "only plain LoRA can be squeezed"
        )
    if peft.target_parameters:
        raise AdapterError(
            f"{path}: `target_parameters` names {', '.join(peft.target_parameters)}; factors that "
            "experts share cannot be squeezed, only those of single modules"
        )
    init = peft.init_lora_weights
    if isinstance(init, str) and _CHANGES_BASE.fullmatch(init.lower()):
        raise AdapterError(
            f"{path}: `init_lora_weights` is `{init}`, which changes the base model's weights too; "
            "convert it to plain LoRA with PEFT: "
            "save_pretrained(..., path_initial_model_for_weight_conversion=...)"
        )
