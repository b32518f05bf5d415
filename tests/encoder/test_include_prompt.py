"""`encoder.include_prompt`: the prompt's tokens in the pooling or not, in training as in encode and in sentence-transformers."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer

from lightning_embed.data import DatasetOptions
from lightning_embed.data.collator import Collator, Planned, RowPrompts
from lightning_embed.data.row_groups import Group, Rows
from lightning_embed.encoder import Encoder, EncoderOptions, load
from lightning_embed.sampler import BatchPlan
from lightning_embed.types import Task

TEXTS = ["the red bird", "a cat", "the big dog runs in the old house near the river"]
PROMPT = "the small river "


def _encoder(path: Path, include_prompt: bool | None) -> Encoder:
    return Encoder(EncoderOptions(str(path), include_prompt=include_prompt)).eval()


@pytest.mark.parametrize("from_manifest", [False, True])
def test_the_option_is_saved_and_sentence_transformers_follows_it(
    tiny_model: Path, tmp_path: Path, from_manifest: bool
) -> None:
    start = tiny_model
    if from_manifest:  # a directory with a Pooling of its own
        start = tmp_path / "start"
        _encoder(tiny_model, None).save(start)
    without = _encoder(start, False)
    without.save(tmp_path / "saved")
    theirs = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    found = without.encode(TEXTS, prompt=PROMPT)
    torch.testing.assert_close(found, torch.tensor(theirs.encode(TEXTS, prompt=PROMPT)), atol=1e-5, rtol=0)
    assert (found - _encoder(start, None).encode(TEXTS, prompt=PROMPT)).norm(dim=1).min() > 1e-2
    assert torch.equal(without.encode(TEXTS), _encoder(start, None).encode(TEXTS)), "no prompt: nothing is left out"


def test_null_keeps_what_the_directory_says(tiny_model: Path, tmp_path: Path) -> None:
    _encoder(tiny_model, False).save(tmp_path)
    assert torch.equal(
        load(tmp_path).encode(TEXTS, prompt=PROMPT), _encoder(tiny_model, False).encode(TEXTS, prompt=PROMPT)
    )
    whole = _encoder(tmp_path, True).encode(TEXTS, prompt=PROMPT)
    assert torch.equal(whole, _encoder(tiny_model, None).encode(TEXTS, prompt=PROMPT))


@pytest.mark.parametrize("include_prompt", [False, True])
def test_training_pools_what_encode_pools(tiny_model: Path, include_prompt: bool) -> None:
    encoder = _encoder(tiny_model, include_prompt)
    rows = Rows("d", DatasetOptions(Task.retrieval, path="."), Dataset.from_dict({"query": ["a"]}))
    collate = Collator({"d": rows}, encoder.tokenizer, {"d": RowPrompts(query=PROMPT)})
    (batch,) = collate([Planned(BatchPlan("d", torch.arange(1)), [Group(TEXTS[0], [TEXTS[1]], [])])])
    with torch.no_grad():
        found = encoder(batch.tokens).final
    torch.testing.assert_close(found[batch.query], encoder.encode(TEXTS[:1], prompt=PROMPT), atol=1e-6, rtol=0)
    torch.testing.assert_close(found[batch.positives[0]], encoder.encode(TEXTS[1:2]), atol=1e-6, rtol=0)
