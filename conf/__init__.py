"""The configuration that Hydra composes: one folder per group; `train.yaml` and `merge.yaml` are the roots."""
