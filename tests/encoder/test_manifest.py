"""Valid JSON of a wrong shape in a model directory: one sentence that names the file, never a traceback."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightning_embed import load
from lightning_embed.encoder.manifest import read_manifest
from lightning_embed.errors import CheckpointError

WRONG: list[tuple[str, Any]] = [
    ("modules.json", {}),
    ("modules.json", None),
    ("modules.json", [1, 2]),
    ("modules.json", [{"type": "sentence_transformers.models.Transformer"}]),
    ("modules.json", [{"type": 3, "path": ""}]),
    ("modules.json", [{"type": "a.Transformer", "path": None}]),
    ("modules.json", "Transformer"),
    ("1_Pooling/config.json", []),
    ("1_Pooling/config.json", {"pooling_mode": 5}),
    ("1_Pooling/config.json", {"pooling_mode": {"mean": True}}),
    ("1_Pooling/config.json", {"pooling_mode": [1]}),
    ("1_Pooling/config.json", {"include_prompt": "no"}),
    ("sentence_bert_config.json", []),
    ("sentence_bert_config.json", {"max_seq_length": "many"}),
    ("sentence_bert_config.json", {"max_seq_length": [64]}),
    ("sentence_bert_config.json", {"do_lower_case": "maybe"}),
    ("config_sentence_transformers.json", ["query"]),
    ("config_sentence_transformers.json", {"prompts": ["query: "]}),
    ("config_sentence_transformers.json", {"prompts": {"query": 1}}),
    ("config_sentence_transformers.json", {"prompts": {"query": None}}),
    ("config_sentence_transformers.json", {"default_prompt_name": {"query": 1}}),
    ("config_sentence_transformers.json", 3),
]
# read by transformers, whose errors name no file
WRONG_ELSEWHERE: list[tuple[str, Any]] = [
    ("config.json", []),
    ("config.json", None),
    ("config.json", "bert"),
    ("config.json", 1),
    ("tokenizer_config.json", []),
    ("tokenizer_config.json", 3),
    ("tokenizer.json", []),
    ("tokenizer.json", "words"),
]
WRONG_VALUES: list[dict[str, Any]] = [
    {"hidden_size": "wide"}, {"hidden_size": None}, {"num_hidden_layers": [2]}, {"vocab_size": -1}, {"model_type": 7},
    {"model_type": "nothing"}, {"num_attention_heads": 0}, {"max_position_embeddings": "many"}, {"hidden_act": 3},
]  # fmt: skip


@pytest.fixture(scope="module")
def saved(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    load(tiny_model).save(folder)
    return folder


@pytest.fixture
def changed(saved: Path, tmp_path: Path) -> Callable[[str, str], Path]:
    """A copy of a model directory with another text in one file."""

    def change(name: str, text: str) -> Path:
        shutil.copytree(saved, tmp_path / "model")
        (tmp_path / "model" / name).write_text(text)
        return tmp_path / "model"

    return change


@pytest.mark.parametrize(("name", "content"), WRONG)
def test_a_file_of_sentence_transformers(name: str, content: Any, changed: Callable[[str, str], Path]) -> None:
    folder = changed(name, json.dumps(content))
    with pytest.raises(CheckpointError, match=rf"model/{name}: .*\. Copy or download it again\.$") as refused:
        read_manifest(str(folder))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "[", "\0", "[" * 10**5])
@pytest.mark.parametrize("name", ["modules.json", "1_Pooling/config.json", "config_sentence_transformers.json"])
def test_a_file_that_is_no_json(name: str, text: str, changed: Callable[[str, str], Path]) -> None:
    with pytest.raises(CheckpointError, match=rf"model/{name}: expected JSON, "):
        read_manifest(str(changed(name, text)))


def test_a_folder_in_its_place(changed: Callable[[str, str], Path]) -> None:
    folder = changed("modules.json", "")
    (folder / "modules.json").unlink()
    (folder / "modules.json").mkdir()
    with pytest.raises(CheckpointError, match=r"model/modules.json: expected a JSON file, found a folder"):
        read_manifest(str(folder))


@pytest.mark.parametrize(("name", "content"), WRONG_ELSEWHERE)
def test_a_file_of_transformers(name: str, content: Any, changed: Callable[[str, str], Path]) -> None:
    folder = changed(name, json.dumps(content))
    with pytest.raises(CheckpointError, match=rf"model/{name}: expected an object, found .*Copy or download it again"):
        load(folder)


@pytest.mark.parametrize("values", WRONG_VALUES, ids=str)
def test_values_of_a_wrong_type(values: dict[str, Any], saved: Path, changed: Callable[[str, str], Path]) -> None:
    config = json.loads((saved / "config.json").read_text())
    folder = changed("config.json", json.dumps({**config, **values}))
    with pytest.raises(CheckpointError) as refused:
        load(folder)
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_saved_files_have_the_mode_of_the_umask(umask: int, tiny_model: Path, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        load(tiny_model).save(tmp_path / "saved")
        load(tiny_model).export(tmp_path / "models" / "exported")
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~umask}
    for path in (tmp_path / "saved").rglob("*.*"):
        assert (tmp_path / "models/exported" / path.relative_to(tmp_path / "saved")).read_bytes() == path.read_bytes()
