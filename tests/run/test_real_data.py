"""The real data sets beside the checkout: read whole, and one step of each."""

from pathlib import Path

import pytest

from lightning_embed import load_datasets
from lightning_embed.config.values import build_options
from lightning_embed.data.options import DataOptions
from lightning_embed.run import train
from lightning_embed.types import RetrievalSet
from tests.run.test_train import _cfg

DATA = Path(__file__).parent.parent.parent.parent / "shared" / "data"
pytestmark = [pytest.mark.data, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module", autouse=True)
def _there() -> None:
    assert DATA.is_dir(), f"these tests need {DATA}; leave them out with -m 'not data'"


def test_sizes() -> None:
    """Train rows, and in or out of domain, as the data's README says."""
    cfg = _cfg("train", ["data=ir_sts", f"data.root={DATA}"])
    data = load_datasets(build_options(DataOptions, cfg.data).datasets)
    train = {
        name: len(d.train) + (len(d.dev) if not (DATA / name / "dev.jsonl").exists() else 0)
        for name, d in data.items()
        if d.train
    }
    assert train == {"squad": 6000, "medquad": 4000, "wikiqa": 873, "argkp": 4018, "snli": 5969, "mrpc": 2295,
                     "stsb": 669, "sickr": 3485, "semrel_eng": 5226}  # fmt: skip
    tests = {s.name: s for d in data.values() for s in d.eval_sets if s.split == "test"}
    assert {name for name, test in tests.items() if test.in_domain} == {
        "squad",
        "wikiqa",
        "stsb",
        "sickr",
        "semrel_eng",
    }
    assert {name for name, test in tests.items() if not test.in_domain} == {
        "cranfield",
        "stackfaq",
        "cosqa",
        "sts13",
        "sts15",
    }
    sizes = {
        n: (len(t.content.corpus), len(t.content.queries))
        for n, t in tests.items()
        if isinstance(t.content, RetrievalSet)
    }
    assert sizes == {
        "squad": (2067, 4452),
        "wikiqa": (11406, 243),
        "cranfield": (1398, 225),
        "stackfaq": (719, 1374),
        "cosqa": (6267, 500),
    }


@pytest.mark.parametrize("word", ["ir_sts", "labels"])
def test_a_few_steps_of_every_dataset(tiny_model: Path, tmp_path: Path, word: str) -> None:
    overrides = [
        f"data={word}", f"data.root={DATA}", f"encoder.path={tiny_model}", "encoder.max_length=32", f"out={tmp_path}",
        "experts=per_dataset", "sampler=round_robin", "merge=soup", "merge.weighting=size", "evaluation=none", "logger=none",
        "trainer.max_steps=2", "trainer.limit_val_batches=1", "trainer.val_check_interval=2", "callback=none",
        "trainer.enable_progress_bar=false", "trainer.accelerator=cpu",
    ]  # fmt: skip
    train.train(_cfg("train", overrides))
    experts = {path.name for path in (tmp_path / "models").iterdir()} - {"base"}
    assert len(experts) == {"ir_sts": 9, "labels": 2}[word]
    assert len(list((tmp_path / "merged").iterdir())) == 1
