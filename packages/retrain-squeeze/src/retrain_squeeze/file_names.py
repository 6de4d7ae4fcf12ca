"""The names of the files in an adapter's directory."""

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PICKLE_FILE = "adapter_model.bin"
# Copied with the adapter, because programs that serve adapters look for a tokenizer beside them.
TOKENIZER_FILES = (
    "added_tokens.json",
    "chat_template.*",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer*",
    "vocab.*",
)
