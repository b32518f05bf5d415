"""The doctor in a run, on models of a few tensors."""

import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from rich.console import Console

from lightning_embed.config import schema
from lightning_embed.errors import ConfigError
from lightning_embed.merge import Source
from lightning_embed.merge.engine import MergeSpec, merge_models
from lightning_embed.run import doctor
from tests.merge import toy
from tests.merge.toy_probe import QuadraticProbe


def _cfg(*overrides: str) -> DictConfig:
    schema.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(schema.conf_folder())):
        return compose("merge", ["sources=[a,b]", *overrides])


@pytest.fixture
def models(tmp_path: Path) -> tuple[list[Source], Path]:
    base, sources = toy.family(3)
    specs = [Source(toy.write(tmp_path / f"s{i}", tensors), f"s{i}") for i, tensors in enumerate(sources)]
    return specs, toy.write(tmp_path / "base", base)


@dataclass
class _Counting:
    """Makes a probe, and notes for which models."""

    asked: list[Path] = field(default_factory=list)
    rows_hash: str = "the same rows"
    scores_hash: str = ""

    def __call__(self, model: Path) -> QuadraticProbe:
        self.asked.append(model)
        return QuadraticProbe.around(toy.model(0))


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """The terminal."""
    file = io.StringIO()
    monkeypatch.setattr(doctor, "console", Console(file=file, width=200))
    return file


def test_alone_it_examines_once(models: tuple[list[Source], Path], tmp_path: Path) -> None:
    sources, base = models
    target = doctor.examined_alone(tmp_path / "out", sources, base, None)
    assert target is not None
    assert target.name.startswith("none-")
    written = (target / "merge.json").stat().st_mtime_ns
    assert doctor.examined_alone(tmp_path / "out", sources, base, None) == target
    assert (target / "merge.json").stat().st_mtime_ns == written
    weights = sources[0].path / "model.safetensors"
    weights.write_bytes((sources[1].path / "model.safetensors").read_bytes())
    again = doctor.examined_alone(tmp_path / "out", sources, base, None)
    assert again is not None
    assert again != target
    assert (again / "merge.json").exists()


def test_one_source_is_nothing_to_examine(models: tuple[list[Source], Path], tmp_path: Path) -> None:
    sources, base = models
    assert doctor.examined_alone(tmp_path / "out", sources[:1], base, None) is None
    assert not (tmp_path / "out").exists()


def test_without_a_probe_it_tells_and_draws_the_geometry(
    models: tuple[list[Source], Path], tmp_path: Path, printed: io.StringIO
) -> None:
    sources, base = models
    target = doctor.examined_alone(tmp_path, sources, base, None)
    assert target is not None
    make_probe = _Counting()
    doctor.show(_cfg(), tmp_path, target, sources, base, make_probe)
    assert "delta = source - base" in printed.getvalue()
    assert {file.name for file in target.iterdir()} == {"merge.json", "geometry.svg"}
    assert make_probe.asked == []


@pytest.mark.slow
def test_the_landscape_is_measured_once_for_all_merges_of_the_same_sources(
    models: tuple[list[Source], Path], tmp_path: Path, printed: io.StringIO
) -> None:
    sources, base = models
    cfg = _cfg("doctor=landscape", "doctor.points=2", "doctor.grid=4", "doctor.batches=2", "doctor.plane=[s2,s0]")
    make_probe = _Counting()
    for word in ("soup", "slerp"):
        target = tmp_path / "merged" / word
        merge_models(MergeSpec(toy.strategy(word), sources, base), target)
        doctor.show(cfg, tmp_path, target, sources, base, make_probe)
        assert "Between 's0' and 's1' there is no barrier" in printed.getvalue()
        assert {"paths.svg", "plane.svg", "geometry.svg"} <= {file.name for file in target.iterdir()}
        assert word in (target / "plane.svg").read_text()
    assert make_probe.asked == [base]
    (file,) = (tmp_path / "landscapes").glob("*")
    found = json.loads(file.read_text())
    assert found["plane"]["sources"] == ["s2", "s0"]
    assert len(found["walks"]) == 6


@pytest.mark.parametrize(
    ("overrides", "count", "has_base", "message"),
    [
        (["doctor.points=3"], 3, False, r"got 3 sources, no base and data"),
        (["doctor.grid=3"], 1, True, r"got 1 source, a base and data"),
        (["doctor=landscape", "doctor.plane=[s0,s9]"], 3, True, r"doctor.plane: no source 's9'. Known: s0, s1, s2"),
    ],
)
def test_refusals(
    overrides: list[str], count: int, has_base: bool, message: str, models: tuple[list[Source], Path]
) -> None:
    with pytest.raises(ConfigError, match=message):
        doctor.validate_doctor(_cfg(*overrides), models[0][:count], has_base, has_probe=True)
    with pytest.raises(ConfigError, match="no data"):
        doctor.validate_doctor(_cfg("doctor.points=1"), models[0], has_base=True, has_probe=False)


def test_lengths_and_angles_need_nothing(models: tuple[list[Source], Path]) -> None:
    doctor.validate_doctor(_cfg(), models[0][:1], has_base=False, has_probe=False)
