"""The allow-list of files that a merged model has beside its weights."""

import json
from pathlib import Path
from typing import Any

import pytest

from lightning_embed.merge.checkpoint.allowed import allowed_files, allowed_in_module, is_licence, without_origins

KEPT = [
    "config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json", "modules.json",
    "video_preprocessor_config.json", "config_sentence_transformers.json", "sentence_bert_config.json",
    "sentence_xlm-roberta_config.json", "router_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt",
    "vocab.json", "vocab-src.json", "merges.txt", "special_tokens_map.json", "added_tokens.json", "tokenizer.model",
    "spiece.model", "sentencepiece.bpe.model", "spm.model", "source.spm", "tekken.json", "dict.txt", "bpe.codes",
    "vocab.bpe", "prophetnet.tokenizer", "entity_vocab.json", "word_shape.json", "chat_template.jinja",
    "chat_template.json", "prompts.json", "LICENSE", "LICENSE.txt", "LICENCE.md", "LICENSE-APACHE", "NOTICE",
    "Notice.txt", "USE_POLICY.md", "COPYING",
]  # fmt: skip
LEFT = [
    "trainer_state.json", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "data.jsonl",
    "train.csv", "events.out.tfevents.1.host", "log.txt", "all_results.json", "eval_results.json", "README.md", ".env",
    ".gitattributes", "adapter_config.json", "ds_config.json", "training_config.json", "wandb-summary.json", "main.py",
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "model.gguf", "id_rsa", "merge.json",
    "notes.md", "config.json.bak", "config.yaml", "vocab.txt~", "tokenizer_config.json.orig", "credentials.json",
    "run.sh", "my.model", "screenshot.png", "requirements.txt", "similarity_evaluation_results.csv",
]  # fmt: skip


@pytest.mark.parametrize("body", ["", "0_Transformer"])
def test_the_list(body: str, tmp_path: Path) -> None:
    place = tmp_path / body
    place.mkdir(exist_ok=True)
    for name in (*KEPT, *LEFT):
        (place / name).write_text("{}")
    for folder in ("logs", ".git", "runs", "additional_chat_templates"):
        (place / folder).mkdir()
        (place / folder / "tool.jinja").touch()
    assert sorted(allowed_files(tmp_path, body)) == sorted([*KEPT, "additional_chat_templates/tool.jinja"])


def test_all_tokenizers_of_transformers() -> None:
    """Every file name of a vocabulary that transformers has is kept."""
    import re

    import transformers

    sources = Path(transformers.__file__).parent.rglob("tokenization*.py")
    tables = (
        table for file in sources for table in re.findall(r"VOCAB_FILES_NAMES[^=]*=\s*\{([^}]*)\}", file.read_text())
    )
    names = {name for table in tables for name in re.findall(r':\s*"([^"]+)"', table)}
    assert len(names) > 15
    from lightning_embed.merge.checkpoint.allowed import _KEPT

    assert [name for name in names if not _KEPT.fullmatch(name)] == []


def test_the_files_of_a_module(tmp_path: Path) -> None:
    kept = ["config.json", "cnn_config.json", "lstm_config.json", "whitespacetokenizer_config.json", "tokenizer.json"]
    left = ["model.safetensors", "pytorch_model.bin", "data.jsonl", "trainer_state.json", "adapter_config.json", "x.py"]
    for name in (*kept, *left):
        (tmp_path / name).touch()
    assert allowed_in_module(tmp_path) == sorted(kept)
    assert allowed_in_module(tmp_path / "missing") == []


CODE: dict[str, tuple[dict[str, str], set[str]]] = {
    "none": ({"config.json": "{}", "modeling.py": ""}, set()),
    "auto_map": ({"config.json": '{"auto_map": {"AutoModel": "modeling_x.X"}}', "modeling_x.py": "", "train.py": ""}, {"modeling_x.py"}),
    "imports": (
        {"config.json": '{"auto_map": {"AutoModel": "a.X"}}', "a.py": "from .b import c\nfrom . import d\nimport e", "b.py": "from .f.g import h", "d.py": "", "e.py": "", "f.py": ""},
        {"a.py", "b.py", "d.py", "f.py"},
    ),
    "code on the hub": ({"config.json": '{"auto_map": {"AutoModel": "owner/name--modeling.X"}}', "modeling.py": ""}, set()),
    "a tokenizer": ({"tokenizer_config.json": '{"auto_map": {"AutoTokenizer": ["tok.Slow", null]}}', "tok.py": "", "x.py": ""}, {"tok.py"}),
    "a module": ({"modules.json": '[{"type": "custom_st.Transformer", "path": ""}]', "custom_st.py": "", "train.py": ""}, {"custom_st.py"}),
    "not Python": ({"config.json": '{"auto_map": {"AutoModel": "a.X"}}', "a.py": "from . import ("}, {"a.py"}),
    "missing": ({"config.json": '{"auto_map": {"AutoModel": "a.X"}}'}, set()),
    "a circle": ({"config.json": '{"auto_map": {"AutoModel": "a.X"}}', "a.py": "from .b import x", "b.py": "from .a import y"}, {"a.py", "b.py"}),
    "another shape": ({"config.json": '{"auto_map": ["a.X"]}', "a.py": ""}, set()),
    "no JSON": ({"config.json": "{", "a.py": ""}, set()),
}  # fmt: skip


@pytest.mark.parametrize("case", CODE)
def test_code_that_the_configuration_needs(case: str, tmp_path: Path) -> None:
    files, expected = CODE[case]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert {name for name in allowed_files(tmp_path, "") if name.endswith(".py")} == expected


ORIGINS: list[tuple[Any, Any]] = [
    ({"_name_or_path": "/home/me/model", "a": 1}, {"a": 1}),
    ({"_name_or_path": "bert-base-uncased"}, {}),
    ({"name_or_path": "x", "b": {"_name_or_path": "y", "c": 2}}, {"b": {"c": 2}}),
    ({"tokenizer_file": "/home/person/.cache/x.json"}, {}),
    ({"special_tokens_map_file": "/home/patrick/x.json", "vocab_file": "vocab.txt"}, {"vocab_file": "vocab.txt"}),
    ({"cache_dir": "~/cache", "data_path": "C:\\data"}, {}),
    ({"path": "1_Pooling", "file": None, "dir": 3}, {"path": "1_Pooling", "file": None, "dir": 3}),
    ({"prompts": {"query": "/search: "}}, {"prompts": {"query": "/search: "}}),
    ([{"_name_or_path": "x"}, "/home"], [{}, "/home"]),
    ({"sub": [{"output_dir": "/scratch"}]}, {"sub": [{}]}),
    ("text", "text"),
]


@pytest.mark.parametrize(("stored", "expected"), ORIGINS)
def test_origins_are_dropped(stored: Any, expected: Any) -> None:
    assert without_origins(stored) == expected
    assert without_origins(json.loads(json.dumps(expected))) == expected


@pytest.mark.parametrize(("name", "expected"), [("LICENSE", True), ("licenses.txt", True), ("licensed_data.csv", False), ("NOTICE.md", True), ("noticeboard", False)])  # fmt: skip
def test_licences(name: str, expected: bool) -> None:
    assert is_licence(name) == expected
