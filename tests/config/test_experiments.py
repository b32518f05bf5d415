"""conf/experiment/: the papers' values as papers.md has them, and a short run of every experiment."""

import json
import shlex
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from lightning_embed.config import schema
from lightning_embed.config.compose import check_command
from lightning_embed.config.values import plain
from lightning_embed.evaluation.benchmark import check_tasks
from lightning_embed.run import train
from tests.toy import write_toy

ADAMW = {"optimizer.betas": [0.9, 0.999], "optimizer.eps": 1e-8, "optimizer.weight_decay": 0.0}
LINEAR = {"scheduler._target_": "lightning_embed.training.lr_schedule.linear"}
ALL_TEMPERATURES = {f"{loss}.temperature": 0.02 for loss in ("retrieval_loss", "sts_loss", "label_loss")}

# papers.md 1.2
SELF_POSITIONING = LINEAR | {
    "encoder.path": "google-bert/bert-base-uncased",
    "trainer.max_epochs": 3,
    "trainer.max_steps": -1,
    "optimizer.lr": 1e-5,
    "scheduler.warmup_share": 0.1,
    "sampler.name": "batch_shuffle",
    "retrieval_loss.name": "infonce",
    "sts_loss.name": "infonce",
    "retrieval_loss.temperature": 0.02,
    "sts_loss.temperature": 0.02,
    "merge.name": "self_positioning",
    "merge.learning_rate": 5e-3,
    "merge.steps": 1000,
    "merge.mu": 0.05,
    "merge.balance": False,
    "merge.granularity": "model",
    "probe.num_rows": 32_000,
    "probe.batch_size": 32,
    "probe.task_shares": {"retrieval": 0.5, "sts": 0.5},
}
# papers.md 2.1.5, 2.2
BOOM = (
    LINEAR
    | ADAMW
    | ALL_TEMPERATURES
    | {
        "encoder.path": "Qwen/Qwen3-0.6B",
        "encoder.pooling": "last_token",
        "encoder.max_length": 512,
        "encoder.lora_rank": 0,
        "trainer.max_epochs": 1,
        "trainer.max_steps": -1,
        "optimizer.lr": 5e-5,
        "scheduler.warmup_share": 0.1,
        "sampler.name": "batch_shuffle",
        "retrieval_loss.name": "infonce",
        "sts_loss.name": "infonce",
        "label_loss.in_batch": False,
        **{f"{loss}.mask_equal": False for loss in ("retrieval_loss", "sts_loss", "label_loss")},
        "merge.name": "multislerp",
        "merge.of": "weights",
        "merge.granularity": "tensor",
        "merge.weighting": "equal",
        "evaluation.benchmark": ["MTEB(eng, v2)", "MTEB(Code, v1)", "RTEB(beta)"],
    }
)
# papers.md 3.1.3, 3.2
CODIEMB = (
    LINEAR
    | ADAMW
    | {
        "seed": 49,
        "encoder.path": "BAAI/bge-large-zh-v1.5",
        "encoder.pooling": "cls",
        "encoder.max_length": 512,
        "encoder.dtype": "float32",
        "encoder.attention": "eager",
        "encoder.gradient_checkpointing": True,
        "trainer.max_epochs": 5,
        "trainer.max_steps": -1,
        "optimizer.lr": 5e-5,
        "scheduler.warmup_share": 0.03,
        "sampler.name": "batch_shuffle",
        "sampler.accumulate": 1,
        "experts.name": "joint",
        "experts.snapshots": 5,
        "retrieval_loss.name": "infonce",
        "retrieval_loss.temperature": 0.02,
        "retrieval_loss.cross_device": True,
        "retrieval_loss.mask_equal": False,
        "sts_loss.name": "codiemb",
        "sts_loss.cross_device": False,
        "sts_loss.mid_nce_weight": 1.0,
        "sts_loss.pearson_weight": 2.0,
        "sts_loss.pro_weight": 0.5,
        "sts_loss.rank_kl_weight": 5.0,
        "sts_loss.mid_nce_temperature": 0.02,
        "sts_loss.pro_temperature": 0.05,
        "sts_loss.rank_kl_temperature": 0.05,
        "sts_loss.min_score": 1.0,
        "merge.name": "delta_guided",
    }
)
CODIEMB_E5 = CODIEMB | {
    "encoder.path": "intfloat/multilingual-e5-large-instruct",
    "encoder.pooling": "mean",
    "encoder.include_prompt": False,
    "encoder.prompts": {
        "query": "Instruction: 为通用领域问题生成表示，用于匹配相关文本 Query: ",  # noqa: RUF001
        "document": "",
        "sts": "Instruction: 为通用领域句子生成表示 Query: ",
    },
}
INSTRUCTOR = LINEAR | {  # papers.md 1.2, 1.3; lr, epochs, temperature and warm-up are of Instructor's README
    "encoder.path": "sentence-transformers/gtr-t5-large",
    "encoder.include_prompt": False,
    "encoder.max_length": 512,
    "trainer.max_epochs": 10,
    "trainer.max_steps": -1,
    "optimizer.lr": 2e-5,
    "scheduler.warmup_share": 0.1,
    "retrieval_loss.name": "infonce",
    "retrieval_loss.temperature": 0.01,
    "retrieval_loss.symmetric": True,
    "merge.name": "self_positioning",
    "merge.learning_rate": 5e-3,
    "merge.steps": 1000,
    "merge.balance": False,
    "probe.batch_size": 16,
}
CLASSIFICATION = ["amazon_reviews", "amazon_counterfactual", "banking77", "emotion", "imdb", "mtop_intent",
                  "toxic_conversations", "tweet_sentiment_extraction"]  # fmt: skip
PAPERS: dict[str, dict[str, Any]] = {
    "self_positioning_paper": SELF_POSITIONING | {"experts.name": "per_task"},
    "self_positioning_iterative_paper": SELF_POSITIONING | {"experts.name": "iterative", "experts.by": "task"},
    "self_positioning_zh_paper": SELF_POSITIONING
    | {"encoder.path": "google-bert/bert-base-chinese", "experts.name": "per_task", "merge.mu": 0.0},
    "self_positioning_instructor_paper": INSTRUCTOR
    | {
        "experts.name": "per_cluster",
        "experts.num_clusters": 3,
        "experts.by": "embedding",
        "probe.task_shares": {},
    },
    "self_positioning_instructor_iterative_paper": INSTRUCTOR
    | {
        "experts.name": "update",
        "experts.start": "existing",
        "experts.history_share": 0.0,
        "experts.new": CLASSIFICATION,
        "probe.task_shares": {"retrieval": 2, "classification": 1},
    },
    "boom_paper": BOOM | {"experts.name": "bagging", "experts.bag_shares": [0.2, 0.4, 0.6, 0.8, 1.0], "experts.nested": False},
    "boom_paper_4b": BOOM
    | {
        "encoder.path": "Qwen/Qwen3-4B",
        "encoder.lora_rank": 32,
        "encoder.lora_alpha": 32.0,
        "encoder.lora_dropout": 0.1,
        "encoder.lora_targets": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "down_proj", "up_proj"],
    },
    "boom_update_paper": BOOM | {"experts.name": "update", "experts.history_share": 0.4},
    "codiemb_paper": CODIEMB | {
        "encoder.include_prompt": None,
        "encoder.prompts": CODIEMB_E5["encoder.prompts"] | {"document": "Passage: "},
    },
    "codiemb_paper encoder=multilingual_e5_large_instruct": CODIEMB_E5,
    "codiemb_paper_minicpm": CODIEMB_E5
    | {
        "encoder.path": "openbmb/MiniCPM-Embedding",
        "encoder.max_length": 1024,
        "encoder.dtype": "bfloat16",
        "encoder.attention": "sdpa",
        "trainer.max_epochs": 4,
        "optimizer.lr": 4e-5,
        "experts.snapshots": 4,
    },
}  # fmt: skip
# of every dataset of a task (or of a group): papers.md 1.2, 2.1.6 and 2.2, 3.2
BATCHES: dict[str, dict[str, dict[str, Any]]] = {
    "self_positioning_paper": {"retrieval": {"batch_size": 256}, "sts": {"batch_size": 256}},
    "self_positioning_zh_paper": {"retrieval": {"batch_size": 256}, "sts": {"batch_size": 256}},
    "self_positioning_instructor_iterative_paper": {"retrieval": {}, "classification": {"max_rows": 25_000}},
    "boom_paper": {
        "retrieval": {"batch_size": 256, "num_positives": 1, "num_negatives": 7, "pad": "repeat"},
        "reranking": {"batch_size": 256, "num_positives": 1, "num_negatives": 7, "pad": "repeat"},
        "sts": {"batch_size": 128, "num_positives": 1, "num_negatives": 7, "pad": "repeat"},
        "classification": {"batch_size": 256, "num_negatives": 7},
        "clustering": {"batch_size": 128, "num_negatives": 7},
    },
    "boom_paper_4b": {
        "retrieval": {"batch_size": 128, "num_negatives": 7},
        "reranking": {"batch_size": 128, "num_negatives": 7},
        "sts": {"batch_size": 64, "num_negatives": 7},
        "classification": {"batch_size": 128, "num_negatives": 7},
        "clustering": {"batch_size": 64, "num_negatives": 7},
    },
    "codiemb_paper": {
        "retrieval": {"batch_size": 64, "num_positives": 2, "num_negatives": 4, "pad": "repeat"},
        "sts": {"batch_size": 32},
    },
    "codiemb_paper_minicpm": {
        "retrieval": {"batch_size": 28, "num_positives": 2, "num_negatives": 4},
        "sts": {"batch_size": 32},
    },
}
_UPDATE = ["experts.existing={existing}", "experts.new=[phrases]"]
MORE = {
    "boom_update": _UPDATE,
    "distill": ["encoder.num_layers=1", "merge=soup"],  # of two layers; alone it has nothing to merge
    "self_positioning_instructor": ["experts.num_clusters=2"],
    "self_positioning_instructor_iterative": [*_UPDATE, "~probe.task_shares.classification"],
}
GRID = sorted(file.stem for file in (schema.conf_folder() / "experiment" / "grid").glob("*.yaml"))
SWEEPERS = sorted(file.stem for file in (schema.conf_folder() / "hydra" / "sweeper").glob("grid_*.yaml"))
EXPERIMENTS = [word for word in schema.words("experiment") if word != "none"]


@cache
def _composed(word: str, *more: str) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(schema.conf_folder())):
        return compose("train", [f"experiment={word}", *more])


def _value(cfg: DictConfig, key: str) -> Any:
    value = plain(OmegaConf.select(cfg, key), as_words=True)
    return str(value) if isinstance(value, str) else value


def _cases(words: Iterable[str]) -> list[Any]:
    """The cases of a test; 330 datasets take ten seconds to compose."""
    return [pytest.param(word, marks=[pytest.mark.slow] * ("instructor_" in word)) for word in words]


@pytest.mark.parametrize("word", _cases(PAPERS))
def test_the_composed_config_equals_the_papers_table(word: str) -> None:
    experiment, *overrides = word.split()
    cfg = _composed(experiment, "data.root=somewhere", *overrides)
    assert {key: _value(cfg, key) for key in PAPERS[word]} == PAPERS[word]


@pytest.mark.parametrize("word", _cases(BATCHES))
def test_batches_and_groups_equal_the_papers_table(word: str) -> None:
    for options in _composed(word, "data.root=somewhere").data.datasets.values():
        expected = BATCHES[word][options.group or str(options.task)]
        assert {key: _value(options, key) for key in expected} == expected


def test_sts_is_tested_behind_the_instruction_that_it_was_trained_behind() -> None:
    cfg = _composed("boom_paper", "data.root=somewhere")
    assert cfg.data.datasets.sts.query_prompt == cfg.data.datasets.sts.document_prompt == cfg.encoder.prompts.sts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "count"),
    [
        ("self_positioning_paper", 25),
        ("self_positioning_zh_paper", 15),
        ("self_positioning_instructor_iterative_paper", 56),
        ("boom_paper", 69),
        ("codiemb_paper", 15),
    ],
)
def test_the_papers_tests_are_known_to_mteb(word: str, count: int) -> None:
    evaluation = _composed(word, "data.root=somewhere").evaluation
    known = check_tasks(list(evaluation.tasks), plain(evaluation.benchmark))
    assert len(known) == count
    assert set(evaluation.in_domain) < set(known)


@pytest.mark.parametrize("word", _cases(EXPERIMENTS))
def test_the_second_line_is_the_command(word: str) -> None:
    text = (schema.conf_folder() / "experiment" / f"{word}.yaml").read_text().splitlines()
    assert text[0] == "# @package _global_"  # Hydra reads it nowhere else
    assert text[1].startswith(f"# python train.py experiment={word} ")
    given = shlex.split(text[1].partition("train.py ")[2].partition("        ")[0])
    check_command("train", [o.replace("data=mine", "data.root=mine").replace("=...", "=somewhere") for o in given])


@pytest.mark.parametrize(
    "words",
    [
        ["experiment=self_positioning", "merge=ties"],
        ["experiment=self_positioning", "loss@sts_loss=cosent"],
        ["experiment=self_positioning_paper", "data.root=somewhere", "merge=fisher"],
        ["experiment=boom", "experts=joint", "sampler=sequential"],
        ["experiment=boom", "merge=model_stock", "evaluation=none"],
        ["experiment=codiemb", "loss@sts_loss=pearson", "experts=per_dataset"],
        ["experiment=codiemb_paper", "data.root=somewhere", "evaluation=none", "merge=soup"],
        ["experiment=codiemb_paper", "data.root=somewhere", "encoder=minilm"],
        ["experiment=self_positioning_zh_paper", "data.root=somewhere", "experts=iterative"],
    ],
)
def test_any_word_of_an_experiment_can_be_another(words: list[str]) -> None:
    """Every combination between the papers is a run: nothing in an experiment's file holds on to one word."""
    check_command("train", words)


@pytest.mark.slow
@pytest.mark.parametrize("sweeper", SWEEPERS)
def test_every_cell_of_a_grid_composes(sweeper: str) -> None:
    """Each value of each parameter once; every row of the grid is in it."""
    params = OmegaConf.load(schema.conf_folder() / "hydra" / "sweeper" / f"{sweeper}.yaml").params
    assert sorted(params.experiment.replace("grid/", "").split(",")) == GRID
    assert params["evaluation.splits"] == "[dev]", "tests are read when a recipe is chosen"
    given = [f"{key}={value}" for key, value in params.items()]
    check_command("train", [*given, "data=ir_sts_small", "data.root=somewhere"], multirun=True)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"))


SHORT = ("boom", "codiemb", "self_positioning")  # the papers; all others are slow


@pytest.mark.filterwarnings("ignore")  # Lightning and Hydra warn of themselves in a whole run
@pytest.mark.parametrize("word", [pytest.param(w, marks=[pytest.mark.slow] * (w not in SHORT)) for w in EXPERIMENTS])
def test_a_step_of_each_expert_and_the_merge(word: str, tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    family = word.removesuffix("_4b").removesuffix("_paper")
    given = [
        f"encoder.path={tiny_model}", "encoder.max_length=32", f"out={tmp_path}", "data=sample", f"data.root={toy}", "evaluation=none",
        "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "logger=none", "trainer.max_epochs=-1",
        *(f"data.datasets.{name}.{key}" for name, path in (("facts", "pairs"), ("phrases", "scores"))
          for key in (f"path={toy}/{path}", "batch_size=8")),
        "data.datasets.phrases.score_range=[0,1]", *(text.format(existing=tiny_model) for text in MORE.get(family, [])),
    ]  # fmt: skip
    given += ["encoder.lora_targets=[query,value]"] * word.endswith("4b")
    given += ["merge.steps=1"] * family.startswith("self_positioning")
    paper = _composed(word, "data.root=somewhere")
    given += ["sts_loss.min_score=0.5"] * ("infonce" in paper.sts_loss.name)  # the toy's scores are below 1
    steps = paper.experts.snapshots
    cfg = _composed(word, *given, f"trainer.max_steps={steps}")
    assert train.train(cfg) is None, "nothing is measured"
    (record,) = (json.loads(file.read_text()) for file in tmp_path.glob("merged/*/merge.json"))
    assert record["strategy"] == cfg.merge.name
    planned = {"boom": 2, "boom_paper": 5, "boom_update": 2}
    planned |= {experiment.removesuffix("_paper"): 2 for experiment in EXPERIMENTS if "self_positioning" in experiment}
    assert len(record["sources"]) == planned.get(word.removesuffix("_4b"), planned.get(family, steps))
