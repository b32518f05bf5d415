"""Models whose classes are Python code in their directory: run only when asked for."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer

from lightning_embed import load
from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.errors import CheckpointError

CODE = """
from transformers import BertConfig, BertModel
from pathlib import Path
Path(__file__).parents[0].joinpath("ran").touch()

class MineConfig(BertConfig):
    model_type = "mine"

class MineModel(BertModel):
    config_class = MineConfig
"""
TEXTS = ["the red bird", "a cat"]


@pytest.fixture
def coded(build: Callable[..., Path]) -> Path:
    folder = build("bert")
    (folder / "modeling_mine.py").write_text(CODE)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "mine",
        "architectures": ["MineModel"],
        "auto_map": {"AutoConfig": "modeling_mine.MineConfig", "AutoModel": "modeling_mine.MineModel"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_it_is_refused_in_one_sentence_and_without_a_question(coded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda _: pytest.fail("a question"))
    with pytest.raises(
        CheckpointError, match=r"Python code in its directory, which is not run. .*trust_remote_code=true"
    ):
        load(coded)


def test_it_runs_when_asked_for_and_is_saved_with_its_code(coded: Path, tmp_path: Path) -> None:
    encoder = Encoder(EncoderOptions(str(coded), trust_remote_code=True))
    encoder.save(tmp_path / "saved")
    assert (tmp_path / "saved/modeling_mine.py").exists()
    with pytest.raises(CheckpointError, match="which is not run"):
        load(tmp_path / "saved")
    theirs = SentenceTransformer(str(tmp_path / "saved"), device="cpu", trust_remote_code=True)
    found = load(tmp_path / "saved", trust_remote_code=True).encode(TEXTS)
    torch.testing.assert_close(found, encoder.encode(TEXTS))
    torch.testing.assert_close(found, theirs.encode(TEXTS, convert_to_tensor=True), atol=1e-5, rtol=0)
