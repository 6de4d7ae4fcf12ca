"""A model with LoRA adapters, through transformers and peft: an implementation that is not ours."""

from dataclasses import dataclass
from hashlib import sha256

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

BASE = ""


@dataclass(frozen=True)
class Sampled:
    """One completion; `raw` and `tempered` are its log-probs at temperature 1 and at its own."""

    tokens: list[int]
    raw: list[float]
    tempered: list[float]
    finished: str


class ReferenceModel:
    """Samples with the plain forward pass of transformers, and adapters that peft loads."""

    def __init__(self, directory: str) -> None:
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
        self._model = model.eval()
        self._tokenizer = AutoTokenizer.from_pretrained(directory)
        self.context: int = self._model.config.max_position_embeddings

    @torch.inference_mode()
    def sample(
        self,
        prompt: list[int],
        count: int,
        *,
        adapter: str,
        max_tokens: int,
        temperature: float,
        stop: list[int],
        seed: int,
    ) -> list[Sampled]:
        """Completions of a prompt with an adapter, or `BASE`."""
        generator = torch.Generator().manual_seed(seed)
        rows = torch.tensor([prompt] * count)
        steps: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        cache, new = None, rows
        for _ in range(max_tokens):
            output = self._forward(new, cache, adapter)
            cache, logits = output.past_key_values, output.logits[:, -1].double()
            raw = logits.log_softmax(-1)
            tempered = (logits / (temperature or 1.0)).log_softmax(-1)
            if temperature:
                new = torch.multinomial(tempered.exp(), 1, generator=generator)
            else:
                new = logits.argmax(-1, keepdim=True)
            steps.append((new[:, 0], raw.gather(1, new)[:, 0], tempered.gather(1, new)[:, 0]))
            if all(bool(set(row) & set(stop)) for row in self._tokens(steps)):
                break
        tokens = self._tokens(steps)
        columns = [torch.stack([step[part] for step in steps], 1).tolist() for part in (1, 2)]
        return [_cut(*row, stop) for row in zip(tokens, columns[0], columns[1], strict=True)]

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, with the special ones that the tokenizer adds."""
        return self._tokenizer.encode(text)

    def text(self, token: int) -> str:
        """The text of a token alone."""
        return self._tokenizer.decode([token])

    def checksums(self) -> dict[str, str]:
        """The digest of each tensor of the model without adapters."""
        state = {
            name.removeprefix("base_model.model.").replace(".base_layer", ""): tensor
            for name, tensor in self._model.state_dict().items()
            if "lora_" not in name
        }
        return {
            name: sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
            for name, tensor in state.items()
        }

    def load(self, name: str, directory: str) -> None:
        """Load an adapter; raises what peft raises."""
        if isinstance(self._model, PeftModel):
            self._model.load_adapter(directory, name)
        else:
            self._model = PeftModel.from_pretrained(self._model, directory, name).eval()

    def unload(self, name: str) -> None:
        """Forget an adapter."""
        if len(self._model.peft_config) > 1:  # peft keeps one
            self._model.delete_adapter(name)

    def _forward(self, new: torch.Tensor, cache: object, adapter: str):
        if adapter == BASE and isinstance(self._model, PeftModel):
            with self._model.disable_adapter():
                return self._model(new, past_key_values=cache, use_cache=True)
        if adapter != BASE:
            self._model.set_adapter(adapter)
        return self._model(new, past_key_values=cache, use_cache=True)

    def _tokens(self, steps: list[tuple[torch.Tensor, ...]]) -> list[list[int]]:
        return torch.stack([step[0] for step in steps], 1).tolist()


def _cut(tokens: list[int], raw: list[float], tempered: list[float], stop: list[int]) -> Sampled:
    """End a completion after its first stop token."""
    ends = [index + 1 for index, token in enumerate(tokens) if token in stop]
    end = ends[0] if ends else len(tokens)
    return Sampled(tokens[:end], raw[:end], tempered[:end], "stop" if ends else "length")
