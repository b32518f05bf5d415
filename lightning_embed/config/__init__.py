"""The config of a run: its schemas, its checks, its hashes, and `run.yaml`."""
