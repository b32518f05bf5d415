"""The options of a probe, the data of merge strategies."""

from dataclasses import dataclass, field

from lightning_embed.errors import ConfigError


@dataclass(frozen=True)
class ProbeOptions:
    """The training rows of a probe, the data of merge strategies, in batches of one dataset each.

    Args:
        datasets: names of the datasets to use; None: all that have train rows.
        num_rows: maximum number of rows; 32,000 in Self Positioning (2024, arXiv 2410.15035). After the last row, the
            rows are used again.
        task_shares: task (or group of datasets) -> its share of the rows, for example {sts: 0.75, retrieval: 0.25};
            empty: equal shares. Within a task the share of a dataset is proportional to its size.
        batch_size: rows of a batch, usually 16 to 64.

    Raises:
        ConfigError: a number out of range.
    """

    datasets: list[str] | None = None
    num_rows: int = 32_000
    task_shares: dict[str, float] = field(default_factory=dict)
    batch_size: int = 32

    def __post_init__(self) -> None:
        for name, least in {"num_rows": 2, "batch_size": 2}.items():
            if getattr(self, name) < least:
                raise ConfigError(f"probe.{name}: expected at least {least}, got {getattr(self, name)}. Raise it.")
        for task, share in self.task_shares.items():
            if not share > 0:
                raise ConfigError(
                    f"probe.task_shares.{task}: expected a positive number, got {share}. Leave the task out instead."
                )
