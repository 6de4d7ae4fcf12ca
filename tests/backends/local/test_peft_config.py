from peft import LoraConfig

from retrain_backends.local.peft_config import write_peft_config


def test_the_file_is_the_one_that_peft_writes(tmp_path):
    config = LoraConfig(
        r=8,
        lora_alpha=16,
        lora_dropout=0.05,
        bias="none",
        task_type="CAUSAL_LM",
        base_model_name_or_path="é/model",
        inference_mode=True,
    )
    config.target_modules = ["k_proj", "q_proj"]  # not a set, whose order is not fixed
    config.save_pretrained(str(tmp_path / "peft"))
    layers = ["k_proj", "q_proj"]
    write_peft_config(tmp_path, "é/model", layers, rank=8, alpha=16, dropout=0.05)
    name = "adapter_config.json"
    assert (tmp_path / name).read_bytes() == (tmp_path / "peft" / name).read_bytes()
