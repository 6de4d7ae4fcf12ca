"""Names of settings in TRL, verl, OpenRLHF, prime-rl and the Trainer of transformers.

Hints for unknown keys and flags translate these names into ours, or explain why there is no such
setting.
"""

import re
from collections.abc import Iterable, Mapping

# Our key -> its names in other tools, in lower case with `_` for `-`. A name with a dot is the end
# of a dotted path, as in Hydra, and takes precedence over one without.
KEYS: Mapping[str, str] = {
    "model.model": """
        model_name_or_path model_name model_path model.path pretrain hf_model base_model
        pretrained_model_name_or_path actor_model model_id
    """,
    "model.lora_rank": "lora_r lora.r lora.rank lora_dim peft_lora_r",
    "model.chat_template_kwargs": "chat_template_args apply_chat_template_kwargs template_kwargs",
    "lora.alpha": "peft_lora_alpha",
    "lora.dropout": "peft_lora_dropout",
    "backend.devices": """
        device gpus num_gpus n_gpus n_gpus_per_node num_gpus_per_node actor_num_gpus_per_node
        nproc_per_node cuda_visible_devices
    """,
    "algorithm.advantage_mode": """
        advantage_estimator adv_estimator algorithm.type algo algorithm advantage_type estimator
    """,
    "algorithm.importance_cap": """
        vllm_importance_sampling_cap tis_imp_ratio_cap rollout_is_threshold importance_sampling_cap
    """,
    "training.seed": "random_seed data_seed manual_seed",
    "training.max_steps": """
        total_training_steps num_train_steps max_train_steps total_steps n_steps num_steps
        train_steps training_steps max_iterations
    """,
    "training.batch_size": """
        per_device_train_batch_size train_batch_size rollout_batch_size gen_batch_size
        global_batch_size prompts_per_step num_prompts_per_step num_prompts
    """,
    "training.group_size": """
        num_generations n_samples_per_prompt rollout.n num_return_sequences rollouts_per_example
        rollouts_per_prompt samples_per_prompt num_samples_per_prompt num_completions num_rollouts
        n_samples rollout_n num_generations_per_prompt
    """,
    "training.max_tokens": """
        max_completion_length max_new_tokens max_response_length generate_max_len response_length
        max_completion_tokens max_gen_len max_generation_length max_length completion_length
    """,
    "training.temperature": "sampling_temperature temp rollout_temperature",
    "training.lr": "learning_rate optim.lr actor_learning_rate actor_lr optimizer.lr lr_actor",
    "training.weight_decay": "l2 wd adam_weight_decay",
    "training.max_examples": "max_samples max_train_samples train_max_samples limit num_examples",
    "training.save_every": """
        save_steps save_freq save_interval ckpt_interval ckpt.interval checkpoint_interval
        checkpoint_every
    """,
    "training.keep_last": """
        save_total_limit max_ckpt_num max_actor_ckpt_to_keep ckpt.keep_last keep_checkpoints
    """,
    "optimizer.beta1": "adam_beta1 beta_1",
    "optimizer.beta2": "adam_beta2 beta_2",
    "optimizer.eps": "adam_epsilon adam_eps adamw_epsilon",
    "data.path": "train_files train_file prompt_data dataset_path train_data train_path data_files",
    "data.split": "dataset_train_split prompt_split dataset_split train_split",
    "data.question_field": "input_key prompt_key prompt_column problem_key question_key",
    "data.answer_field": "label_key answer_key label_column answer_column solution_key",
    "data.prompt_template": "input_template prompt_format template system_prompt",
    "data.shuffle": "shuffle_dataset shuffle_data",
    "inference.engine": "rollout.name vllm_mode rollout_engine ",
    "inference.url": "vllm_server_base_url vllm_server_host vllm_url",
    "reward.type": "reward_manager",
    "reward.custom_module": """
        reward_funcs reward_func reward_function reward_fn custom_reward_function.path reward_model
        reward_pretrain
    """,
    "reward.custom_function": "custom_reward_function.name reward_function_name",
    "reward.judge_url": "remote_rm_url",
    "eval.every": """
        eval_steps test_freq eval_interval eval_freq val_freq val_interval eval.interval
    """,
    "eval.path": "val_files eval_file eval_dataset_path",
    "eval.max_examples": "max_eval_samples eval_max_samples val_max_samples",
    "logging.log_dir": """
        output_dir logging_dir save_path save_dir out_dir run_dir ckpt_path default_local_dir
        checkpoint_dir work_dir
    """,
    "logging.wandb_project": "project_name project wandb.project",
    "logging.wandb_run_name": "run_name experiment_name exp_name wandb_name wandb.name",
    "logging.wandb_entity": "wandb_org wandb_team entity",
    "resume.from": """
        resume_from_checkpoint resume_from_path load_checkpoint resume_path resume_dir
        ckpt.resume_step load_path
    """,
}

# The meaning of our key, where it differs from that of other tools.
_NOTES: Mapping[str, str] = {
    "training.batch_size": "prompts per step, each with --group-size completions",
    "backend.devices": "such as cpu, gpu:0 or gpu:0,gpu:1",
    "reward.custom_module": "and --reward-type custom; your own module with a function score",
}

# Names of other tools that have no key here, with the reason.
ABSENT: tuple[tuple[str, str], ...] = (
    (
        "there is no KL term and no reference model in this version",
        """
        kl_coef init_kl_coef kl_beta beta kl_loss_coef use_kl_loss use_kl_in_reward kl_penalty
        kl_target kl_estimator kl_ctrl kl_tau ref_model ref_pretrain reference_model sync_ref_model
        ref_model_sync_steps ref_model_mixup_alpha disable_ref_model kl_loss_type
        """,
    ),
    (
        "there is no critic and no value function; advantages come from the rewards of a group",
        """
        critic_learning_rate critic_model critic_pretrain vf_coef value_clip gae_lambda lambd gamma
        lam cliprange_value critic_lr
        """,
    ),
    (
        "a run is counted in steps of --batch-size prompts, not in epochs: `--max-steps N`",
        "num_train_epochs total_epochs max_epochs num_epochs epochs num_episodes total_episodes",
    ),
    (
        "every batch is trained on once",
        """
        num_iterations ppo_epochs num_ppo_epochs num_minibatches mini_batch_size ppo_mini_batch_size
        num_mini_batches steps_per_generation
        """,
    ),
    (
        "a batch is split by tokens, which does not change the gradient: `--backend-options "
        "'{\"microbatch_tokens\": 4096}'`",
        """
        gradient_accumulation_steps micro_train_batch_size micro_rollout_batch_size micro_batch_size
        ppo_micro_batch_size_per_gpu accumulation_steps ppo_micro_batch_size grad_accum_steps
        """,
    ),
    (
        "write `--backend-options '{\"gradient_checkpointing\": true}'`",
        "gradient_checkpointing enable_gradient_checkpointing activation_checkpointing",
    ),
    (
        "write `--chat-template-kwargs '{\"enable_thinking\": false}'`; the names are those of the "
        "model's chat template",
        "enable_thinking thinking reasoning_effort thinking_budget",
    ),
    (
        'write `--params \'{"clip_eps": 0.2, "clip_eps_high": 0.28}\'`',
        """
        epsilon epsilon_high eps_clip eps_clip_high clip_ratio clip_ratio_low clip_ratio_high
        cliprange clip_range eps_clip_low_high clip_eps clip_eps_high
        """,
    ),
    (
        "the learning rate is constant in this version",
        """
        lr_scheduler_type lr_scheduler warmup_steps warmup_ratio lr_warmup_steps lr_warmup_ratio
        num_warmup_steps scheduler min_lr decay_steps
        """,
    ),
    (
        "gradients are not clipped in this version",
        "max_grad_norm max_norm grad_clip clip_grad gradient_clipping grad_norm_clip",
    ),
    (
        "completions are sampled from the whole distribution, by --temperature alone",
        "top_p top_k min_p repetition_penalty",
    ),
    (
        "prompts are not truncated",
        "max_prompt_length prompt_max_len max_prompt_len max_prompt_tokens",
    ),
    (
        "the device decides: float32 on a CPU, bfloat16 on a GPU",
        "bf16 fp16 tf32 torch_dtype param_dtype precision mixed_precision",
    ),
    (
        "one adapter is trained by one process; --devices names a device to sample and one to "
        "train",
        """
        deepspeed zero_stage fsdp fsdp_config tensor_parallel_size tensor_model_parallel_size
        vllm_tensor_parallel_size nnodes num_nodes actor_num_nodes colocate_all_models
        """,
    ),
    (
        "write `--wandb-project NAME` for Weights & Biases; the logs in --log-dir are always "
        "written",
        "report_to logger log_with use_tensorboard trainer.logger use_wandb",
    ),
    (
        "every step is logged",
        "logging_steps log_interval log_freq log_every logging_first_step",
    ),
    (
        "write `--data-source hf --data-path ID` for a data set of the Hugging Face hub",
        "dataset_name dataset dataset_id train_dataset env_id",
    ),
    (
        "all linear layers get an adapter",
        "lora_target_modules target_modules lora_modules",
    ),
    (
        "a run always trains a LoRA adapter",
        "use_peft use_lora lora full_finetune",
    ),
    (
        "nothing is uploaded; `peft` pushes the adapter in final/",
        "push_to_hub hub_model_id hub_token",
    ),
    (
        "write `--eval-every N` for an evaluation every N steps",
        "eval_strategy evaluation_strategy do_eval",
    ),
    (
        "`--engine vllm --url http://localhost:8000` samples on a vLLM server",
        "use_vllm vllm_gpu_memory_utilization gpu_memory_utilization",
    ),
)


def _by_word(rows: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {word: value for value, words in rows for word in words.split()}


_KEY_OF, _REASON_OF = _by_word(KEYS.items()), _by_word(ABSENT)


def known_key(word: str) -> str | None:
    """Our `section.key` for the name in another tool, if there is one."""
    return next((_KEY_OF[form] for form in _forms(word) if form in _KEY_OF), None)


def note_on(path: str) -> str:
    """A note on a key whose meaning differs from that of other tools, prefixed with `: `."""
    return f": {_NOTES[path]}" if path in _NOTES else ""


def why_absent(word: str) -> str | None:
    """Why the name in another tool has no key here, or what to use instead."""
    return next((_REASON_OF[form] for form in _forms(word) if form in _REASON_OF), None)


def _forms(word: str) -> Iterable[str]:
    """The word in the form of the tables, then the ends of a dotted path, longest first."""
    parts = re.sub(r"^[-+~]+", "", word).lower().replace("-", "_").split(".")
    return (".".join(parts[start:]) for start in range(len(parts)))
