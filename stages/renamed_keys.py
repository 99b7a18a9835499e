"""Keys of a recipe that have another name now. An old name is refused, and the message says the new one."""

RENAMED_KEYS: dict[str, str] = {
    "annotation.judges": "annotation.annotators",
    "consistency.num_held_out": "consistency.num_heldout",
    "helpfulness.beta1": "helpfulness.adam_beta1",
    "helpfulness.beta2": "helpfulness.adam_beta2",
    "helpfulness.epsilon": "helpfulness.adam_epsilon",
    "lora.targets": "lora.target_modules",
    "safety.beta1": "safety.adam_beta1",
    "safety.beta2": "safety.adam_beta2",
    "safety.epsilon": "safety.adam_epsilon",
}
"""The last two parts of an old key -> those of the new one; ``lora`` is a section within several."""
