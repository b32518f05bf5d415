"""The teacher of a run: computed once, for all runs; what it teaches; what is refused before the training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lightning_embed.config.identity import run_identity
from lightning_embed.data.collator import Asked
from lightning_embed.encoder import Encoder, EncoderOptions, load
from lightning_embed.errors import ConfigError
from lightning_embed.run import build, teacher, train
from lightning_embed.run.prepare import prepare
from tests.run.machines import ROOT, environment, free_port, run, torchrun
from tests.run.test_train import _cfg, _overrides
from tests.toy import write_toy

QUIET = ("experts=joint", "merge=none", "evaluation=none", "logger=none")
TAUGHT = ("loss@retrieval_loss=distill_embeddings", "loss@sts_loss=distill_embeddings", "loss@sts_loss.loss=cosent")
ALONE = ("retrieval_loss.loss_weight=0", "sts_loss.loss_weight=0")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def deeper(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model with layers that change what they get: those of a new model hardly do."""
    encoder = Encoder(EncoderOptions(str(tiny_model), prompts={"query": "the old ", "document": "a "}))
    torch.manual_seed(4)
    with torch.no_grad():
        for weight in encoder.backbone.encoder.parameters():
            weight += 0.5 * torch.randn_like(weight)
    encoder.save(tmp_path / "deeper")
    return tmp_path / "deeper"


def test_its_vectors_are_those_of_its_own_prompts_and_are_computed_once(
    tiny_model: Path, deeper: Path, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher, "CACHE", tmp_path / "cache")
    given = (
        "teacher=model",
        f"teacher.path={deeper}",
        "loss@retrieval_loss=distill_embeddings",
        "teacher.max_length=20",
    )
    cfg = _cfg("train", _overrides(tiny_model, toy, tmp_path / "run", *QUIET, *given))
    data = build.datasets(cfg)
    found = teacher.vectors([cfg], data)
    assert set(found.prompts) == {"facts"}, "the pairs have a loss without a teacher"
    record = data["facts"].train.table[3]
    model = load(deeper)
    for role, text in (("the old ", record["query"]), ("a ", record["negatives"][0])):
        expected = model.encode([text], prompt=role, max_length=20)
        torch.testing.assert_close(found([Asked(role, text, None)]), expected, rtol=0, atol=1e-6)

    def never(*_: object) -> None:
        raise AssertionError("it was there")

    with monkeypatch.context() as patch:
        patch.setattr(teacher, "write_vectors", never)
        again = teacher.vectors([cfg], data)
    assert again.file == found.file
    found.file.write_bytes(found.file.read_bytes()[:-8])  # a broken file is made again
    assert teacher.vectors([cfg], data).file.stat().st_size == np.load(found.file).nbytes + 128
    cfg.teacher.dim = 8
    reduced = teacher.vectors([cfg], data)
    assert (reduced.dim, found.dim) == (8, 32)
    cfg.teacher.prompts = {"query": "the king "}
    assert teacher.vectors([cfg], data).file.stem[:8] != found.file.stem[:8]


@pytest.mark.filterwarnings("ignore")
def test_a_cut_student_comes_nearer_to_the_whole_base_without_labels(deeper: Path, toy: Path, tmp_path: Path) -> None:
    given = ("encoder.num_layers=1", "teacher=base", *TAUGHT, *ALONE, "optimizer.lr=3e-3", "trainer.max_steps=30")
    out = tmp_path / "run"
    train.train(_cfg("train", _overrides(deeper, toy, out, *QUIET, *given, "callback=none")))
    texts = ["the red cat sees the dog in 12", "the old king likes the river in 904"]
    whole, before, after = (
        load(folder).encode(texts, max_length=32) for folder in (deeper, out / "models/base", out / "models/joint")
    )
    near = [float((model * whole).sum(1).mean()) for model in (before, after)]
    assert near[1] > near[0] + 0.3 * (1 - near[0])
    names = set(load_file(out / "models/joint/model.safetensors"))
    assert names == set(load_file(out / "models/base/model.safetensors")), "nothing of the teacher is exported"
    assert "- teacher: " in (out / "models/joint/README.md").read_text()


def test_it_is_part_of_the_identity(tiny_model: Path, deeper: Path, toy: Path, tmp_path: Path) -> None:
    given = _overrides(tiny_model, toy, tmp_path / "run", *QUIET, *TAUGHT)
    none, base, other, longer = (
        run_identity(_cfg("train", [*given, *more]))
        for more in (
            [],
            ["teacher=base"],
            ["teacher=model", f"teacher.path={deeper}"],
            ["teacher=base", "teacher.max_length=30"],
        )
    )
    assert "teacher" not in none.options, "runs without a teacher keep their names"
    assert len({each.hash for each in (none, base, other, longer)}) == 4
    assert other.changed_since(base.content) == ["the teacher (teacher.path)"]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ((*TAUGHT,), r"learns from a teacher's embeddings, and there is no teacher. Give teacher=base"),
        (("teacher=base",), r"teacher.path=.*: expected a loss that learns from a teacher, got none"),
        (("teacher=base", *TAUGHT, "teacher.dim=33"), r"teacher.dim: expected at most the 32 dimensions of .*, got 33"),
        (("teacher=base", *TAUGHT, "teacher.dim=16"), r"the student has 32 dimensions, the teacher 16"),
    ],
)
def test_refusals(more: tuple[str, ...], sentence: str, tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=sentence):
        prepare(_cfg("train", _overrides(tiny_model, toy, tmp_path / "run", *QUIET, *more)))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_ranks_share_the_work(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    """Two ranks write the bytes that one writes."""
    files = []
    for ranks in (1, 2):
        out = tmp_path / str(ranks)
        script = ["-m", "tests.run.ranks_teach", str(tiny_model), str(toy), str(out)]
        command = [*torchrun(f"--nproc_per_node={ranks}", f"--master_port={free_port()}"), *script]
        ((status, _, errors),) = run([command], [environment() | {"LIGHTNING_EMBED_CACHE": str(out)}], ROOT)
        assert status == 0, errors
        files += sorted((out / "teacher").glob("*.npy"))
    one, two = files
    assert one.name == two.name
    assert one.read_bytes() == two.read_bytes()
    assert int((tmp_path / "2" / "ran").read_text()) > 3, "the other rank had its share"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_probe_and_an_inspection_of_distillation_alone(deeper: Path, toy: Path, tmp_path: Path) -> None:
    """Where nothing but the teacher teaches, a merge by gradients needs it as well; an inspection asks nobody."""
    given = ("encoder.num_layers=1", "teacher=base", *TAUGHT, *ALONE, "evaluation=none", "logger=none")
    out = tmp_path / "run"
    overrides = _overrides(deeper, toy, out, *given, "merge=self_positioning", "merge.steps=2", "probe.num_rows=16")
    train.train(_cfg("train", [*overrides, "inspect=true"]))
    assert not out.exists()
    train.train(_cfg("train", overrides))
    assert list(out.glob("merged/self_positioning-*/model/model.safetensors"))
