"""The options of the group `doctor`."""

from dataclasses import dataclass

from lightning_embed.errors import ConfigError


@dataclass(frozen=True)
class DoctorOptions:
    """The measurements of the doctor. Norms and angles are always reported; the rest is measured on the probe.

    Args:
        points: models on each path from the base to a source, and from source to source, without the ends; 0: no paths.
        grid: models along each side of the plane of two sources, usually 10 to 20; 0: no plane.
        batches: of the probe, for each of these models.
        plane: names of the two sources that span the plane; None: the first two.

    Raises:
        ConfigError: a number out of range, or not two different names.
    """

    points: int = 0
    grid: int = 0
    batches: int = 4
    plane: list[str] | None = None

    def __post_init__(self) -> None:
        for name, least in {"points": 0, "grid": 0, "batches": 1}.items():
            if getattr(self, name) < least:
                raise ConfigError(f"doctor.{name}: expected at least {least}, got {getattr(self, name)}. Raise it.")
        if self.grid == 1:
            raise ConfigError("doctor.grid: expected 0 or at least 2, got 1. Give 2 or more, or 0 for none.")
        if self.plane is not None and len(set(self.plane)) != 2:
            raise ConfigError(f"doctor.plane: expected the names of two sources, got {self.plane}.")

    @property
    def needs_probe(self) -> bool:
        """Whether a probe is needed."""
        return self.points > 0 or self.grid > 0
