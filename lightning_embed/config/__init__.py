"""The config of a run: its schemas, its checks, and what it says of the folders of a run."""
