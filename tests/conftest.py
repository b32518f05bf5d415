"""What every room's tests share: a two-layer encoder, built on disk once per session."""

import gc
import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from zlib import crc32

import datasets  # noqa: F401  # first imported by a module that jaxtyping instruments, it would be compiled anew each time
import lightning.pytorch  # noqa: F401  # as well
import pytest
import torch
from hydra.core.hydra_config import HydraConfig

# Nothing that a test does reads or writes the user's cache, whose folder is fixed by the first import.
_CACHE = TemporaryDirectory()
os.environ["LIGHTNING_EMBED_CACHE"] = _CACHE.name
# Nor does it talk to W&B, which reads this once in a process, at whatever test comes first.
os.environ["WANDB_MODE"] = "offline"
# Nor does it wait for the disk: what a test writes need not survive a power cut.
os.fsync = lambda _: None

from lightning_embed.config import schema  # noqa: E402

schema.register()  # laws run over all registered words

WORDS = [
    "the",
    "a",
    "red",
    "blue",
    "green",
    "small",
    "big",
    "old",
    "cat",
    "dog",
    "bird",
    "house",
    "river",
    "road",
    "city",
    "king",
    "queen",
    "eats",
    "sees",
    "likes",
    "runs",
    "sleeps",
    "in",
    "on",
    "near",
]


_LONG = 6  # cases of one test


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a long list of cases a third runs by default, drawn by name, and the others with the slow tests, as in CI.

    Laws run over all words, so that a new word is tested on the day it appears.
    """
    tests = [(item.path, getattr(item, "originalname", item.name)) for item in items]
    counts = Counter(tests)
    for item, test in zip(items, tests, strict=True):
        if counts[test] > _LONG and "laws" not in item.path.stem and crc32(item.nodeid.encode()) % 3:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _of_no_command_and_no_group() -> Iterator[None]:
    """A command line, or a group of ranks, that a test had in its own process is not that of the tests after it."""
    command, variables = HydraConfig.instance().cfg, ("MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "NODE_RANK")
    before = {name: os.environ.get(name) for name in (*variables, "WORLD_SIZE")}
    yield
    HydraConfig.instance().cfg = command
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(autouse=True)
def _lines_are_logged() -> Iterator[None]:
    """A test that silences the package would fail those after it that read its lines."""
    yield
    logger = logging.getLogger("lightning_embed")
    state = logger.propagate, logger.disabled, logger.level
    assert state == (True, False, 0), "the logger is not as before the test"


def pytest_collection_finish() -> None:
    """Imported modules stay: a garbage collector that walks them again and again takes a quarter of the tests' time."""
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face directory of a random two-layer BERT (dim 32, dropout 0.1) with a word-level tokenizer."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    letters = [f"{prefix}{chr(c)}" for c in range(ord("a"), ord("z") + 1) for prefix in ("", "##")]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters, *map(str, range(10)), *".,:?!"]
    vocabulary_file = folder / "vocab.txt"
    vocabulary_file.write_text("\n".join(dict.fromkeys(vocabulary)))
    tokenizer = BertTokenizer(str(vocabulary_file), model_max_length=64)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_cross_encoder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder of the same size and tokenizer, with random weights and one score, saved by sentence-transformers."""
    from sentence_transformers import CrossEncoder
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    plain, folder = (tmp_path_factory.mktemp("models") / name for name in ("plain", "cross"))
    torch.manual_seed(1)
    config = BertConfig.from_pretrained(tiny_model, num_labels=1, initializer_range=0.2)
    BertForSequenceClassification(config).save_pretrained(plain)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(plain)
    CrossEncoder(str(plain)).save_pretrained(str(folder))
    return folder
