"""Model directories: reading, name matching, LoRA adapters, tied weights, writing."""
