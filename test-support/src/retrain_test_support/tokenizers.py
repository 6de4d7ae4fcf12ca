"""Small tokenizers of the kinds that models have, saved as transformers saves them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<s>", "<|end|>", "<|user|>", "<|assistant|>", "<|eot|>")
QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level() -> Tokenizer:
    """Byte-level BPE, as of GPT-2 and Llama 3, with a few merges."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "l"), ("e", "t"), ("Ġl", "et"), ("Ġ", "m"), ("Ġm", "e"), ("v", "e"), ("i", "f")]
    vocabulary = {text: i for i, text in enumerate(letters + ["".join(pair) for pair in merges])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def qwen() -> Tokenizer:
    """As `byte_level`, split and normalised as Qwen's tokenizers do."""
    tokenizer = byte_level()
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def sentencepiece() -> Tokenizer:
    """BPE with `▁` before words and bytes for unknown characters, as of Llama 2 and Mistral."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghilmnostu.'"]
    merges = [("▁", "l"), ("e", "t"), ("▁l", "et"), ("▁", "m"), ("▁m", "e")]
    pieces += ["".join(pair) for pair in merges]
    vocabulary = {text: i for i, text in enumerate(pieces)}
    model = models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


def unigram() -> Tokenizer:
    """Pieces with scores, as of T5 and XLM-R."""
    scores = {"<unk>": 0.0, "▁": -2.0, "▁let": -3.0, "▁me": -3.5, "et": -4.0, "▁s": -4.5}
    scores |= dict.fromkeys("abcdefghilmnostuvy.,'?1", -6.0)
    tokenizer = Tokenizer(models.Unigram(list(scores.items()), unk_id=0))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def word_piece() -> Tokenizer:
    """Words in lower case, longer ones in pieces, as of BERT."""
    pieces = ["[UNK]", "let", "me", "see", "##s", "##et", ".", ",", "?", "what", "is"]
    pieces += [*"abcdefghilmnostuvy1", *(f"##{letter}" for letter in "abcdefghilmnotuvy")]
    vocabulary = {text: i for i, text in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def save_tokenizer(
    tokenizer: Tokenizer,
    directory: Path,
    *,
    chat: Any = None,
    eos: str | None = "<|end|>",
    leading: Sequence[str] = ("<s>",),
    trailing: Sequence[str] = (),
) -> str:
    """Save a tokenizer with `SPECIAL` tokens.

    Args:
      tokenizer: to which the special tokens are added.
      directory: to write to.
      chat: the chat template, or several by name.
      eos: the end of text.
      leading: special tokens before each text.
      trailing: special tokens after it.

    Returns:
      The directory, as the name of a model.
    """
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[*leading, "$A", *trailing],
        special_tokens=[(text, tokenizer.token_to_id(text)) for text in SPECIAL],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token=eos, chat_template=chat
    ).save_pretrained(directory)
    return str(directory)
