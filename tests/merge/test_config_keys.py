"""Keys of real configurations: which of them count, and that two versions of transformers write the same model."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import CONFIG_MAPPING

from lightning_embed.encoder.opening import TransformersOpener
from lightning_embed.merge.checkpoint.config_keys import config_differences, excused_for_base, is_origin
from lightning_embed.merge.checkpoint.difference import Difference

OLD = json.loads((Path(__file__).parent / "configs_4_46.json").read_text())
"""What transformers 4.46.3 writes for the default configuration of 32 families."""


def _differences(first: dict[str, Any], other: dict[str, Any], folder: Path) -> list[Difference]:
    """With the defaults of the classes."""
    opener = TransformersOpener()
    for name, config in (("first", first), ("other", other)):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
    return config_differences(first, other, lambda: (opener.config(folder / "first"), opener.config(folder / "other")))


def _functional(first: dict[str, Any], other: dict[str, Any], folder: Path) -> list[str]:
    return [each.key for each in _differences(first, other, folder) if not each.harmless]


def _written_now(old: dict[str, Any], folder: Path) -> dict[str, Any]:
    CONFIG_MAPPING[old["model_type"]].from_dict(dict(old)).save_pretrained(folder / "now")
    written: dict[str, Any] = json.loads((folder / "now/config.json").read_text())
    return written


@pytest.mark.parametrize("family", OLD)
def test_what_an_earlier_version_wrote_is_the_same_model(family: str, tmp_path: Path) -> None:
    now = _written_now(OLD[family], tmp_path)
    assert _functional(OLD[family], now, tmp_path) == []
    without_opener = config_differences(now, OLD[family], lambda: (now, OLD[family]))
    assert [each.key for each in without_opener if not each.harmless] == []


ROPE = ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi3", "olmo2", "starcoder2", "granite", "cohere"]


@pytest.mark.parametrize("family", [family for family in ROPE if family in OLD])
def test_rope_theta_in_both_spellings(family: str, tmp_path: Path) -> None:
    now = _written_now(OLD[family] | {"rope_theta": 77_000.0}, tmp_path)
    assert "rope_theta" not in now, "the old spelling"
    found = _functional(OLD[family], now, tmp_path)
    assert found == ["rope_parameters.rope_theta"]


BERT = {"model_type": "bert"}
CHANGES: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("bert", {"num_attention_heads": 12}, {"num_attention_heads": 6}, "num_attention_heads"),
    ("bert", {}, {"num_attention_heads": 6}, "num_attention_heads"),  # the default of the class is 12
    ("bert", {"hidden_act": "gelu"}, {"hidden_act": "gelu_new"}, "hidden_act"),
    ("bert", {}, {"hidden_act": "relu"}, "hidden_act"),
    ("bert", {"layer_norm_eps": 1e-12}, {"layer_norm_eps": 1e-5}, "layer_norm_eps"),
    ("bert", {}, {"layer_norm_eps": 1e-5}, "layer_norm_eps"),
    ("bert", {"position_embedding_type": "absolute"}, {"position_embedding_type": "relative_key"}, "position_embedding_type"),
    ("bert", {}, {"position_embedding_type": "relative_key"}, "position_embedding_type"),
    ("bert", {}, {"is_decoder": True}, "is_decoder"),
    ("roberta", {"pad_token_id": 1}, {"pad_token_id": 0}, "pad_token_id"),  # positions begin behind it
    ("distilbert", {"n_heads": 12}, {"n_heads": 6}, "n_heads"),
    ("distilbert", {"activation": "gelu"}, {"activation": "relu"}, "activation"),
    ("mpnet", {"relative_attention_num_buckets": 32}, {"relative_attention_num_buckets": 16}, "relative_attention_num_buckets"),
    ("deberta-v2", {"position_buckets": 256}, {"position_buckets": 128}, "position_buckets"),
    ("deberta-v2", {"pos_att_type": ["p2c", "c2p"]}, {"pos_att_type": ["p2c"]}, "pos_att_type"),
    ("modernbert", {"local_attention": 128}, {"local_attention": 64}, "local_attention"),
    ("modernbert", {"norm_eps": 1e-5}, {"norm_eps": 1e-6}, "norm_eps"),
    ("modernbert", {"global_rope_theta": 160000.0}, {"global_rope_theta": 10000.0}, "rope_parameters.full_attention.rope_theta"),
    ("modernbert", {}, {"hidden_activation": "relu"}, "hidden_activation"),
    ("qwen2", {}, {"is_causal": False}, "is_causal"),
    ("qwen2", {"num_key_value_heads": 32}, {"num_key_value_heads": 8}, "num_key_value_heads"),
    ("qwen2", {"rms_norm_eps": 1e-6}, {"rms_norm_eps": 1e-5}, "rms_norm_eps"),
    ("llama", {}, {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "rope_parameters.rope_type"),
    ("gemma2", {"query_pre_attn_scalar": 256}, {"query_pre_attn_scalar": 128}, "query_pre_attn_scalar"),
    ("gemma2", {"attn_logit_softcapping": 50.0}, {"attn_logit_softcapping": 30.0}, "attn_logit_softcapping"),
    ("mistral", {"sliding_window": 4096}, {"sliding_window": 128}, "sliding_window"),
    ("t5", {"feed_forward_proj": "relu"}, {"feed_forward_proj": "gated-gelu"}, "feed_forward_proj"),
    ("t5", {"relative_attention_max_distance": 128}, {"relative_attention_max_distance": 64}, "relative_attention_max_distance"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": False}, {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
    ("albert", {"inner_group_num": 1}, {"inner_group_num": 2}, "inner_group_num"),
    ("electra", {"hidden_act": "gelu"}, {"hidden_act": "silu"}, "hidden_act"),
    ("qwen2", {"architectures": ["Qwen2ForCausalLM"]}, {"architectures": ["Qwen2BidirectionalModel"]}, "architectures.0"),
    ("new-impl", {"rope_theta": 10000}, {"rope_theta": 500000}, "rope_theta"),  # unknown to the library: as it is written
    ("new-impl", {"alibi": True}, {"alibi": False}, "alibi"),
]  # fmt: skip


@pytest.mark.parametrize(("family", "one", "two", "key"), CHANGES)
def test_functional(family: str, one: dict[str, Any], two: dict[str, Any], key: str, tmp_path: Path) -> None:
    kind = {"model_type": family}
    for name, (first, other) in {"forth": (one, two), "back": (two, one)}.items():
        (tmp_path / name).mkdir()
        assert key in _functional(kind | first, kind | other, tmp_path / name)


HARMLESS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"_name_or_path": "a"}, {"_name_or_path": "/home/me/b"}), ({"transformers_version": "4"}, {"transformers_version": "5"}),
    ({"torch_dtype": "float16"}, {"dtype": "float32"}), ({"torch_dtype": "float16"}, {"torch_dtype": "float32"}),
    ({"use_cache": True}, {"use_cache": False}), ({"hidden_dropout_prob": 0.1}, {"hidden_dropout_prob": 0.0}),
    ({"attention_probs_dropout_prob": 0.1}, {}), ({"classifier_dropout": None}, {"classifier_dropout": 0.3}),
    ({"initializer_range": 0.02}, {"initializer_range": 0.01}), ({"gradient_checkpointing": False}, {}),
    ({"id2label": {"0": "no"}}, {"id2label": {"0": "yes", "1": "no"}}), ({"num_labels": 2}, {"num_labels": 7}),
    ({"label2id": {"no": 0}}, {"label2id": {"no": 1}}), ({"problem_type": None}, {"problem_type": "regression"}),
    ({"architectures": ["BertForMaskedLM"]}, {"architectures": ["BertModel"]}),
    ({"architectures": ["BertForPreTraining"]}, {"architectures": ["BertForSequenceClassification"]}),
    ({"architectures": ["BertModel"]}, {}), ({"output_hidden_states": True}, {"output_hidden_states": False}),
    ({"tie_word_embeddings": True}, {"tie_word_embeddings": False}), ({"finetuning_task": "mnli"}, {}),
    ({"pad_token_id": 0}, {"pad_token_id": 3}), ({"eos_token_id": 1}, {"eos_token_id": [1, 2]}),
    ({"position_embedding_type": "absolute"}, {}), ({"vocab_size": 30522}, {"vocab_size": 30000}),
    ({"max_position_embeddings": 512}, {"max_position_embeddings": 128}), ({"temperature": 1.0}, {"temperature": 0.7}),
    ({"auto_map": {"AutoModel": "a--b.C"}}, {"auto_map": {"AutoModel": "b.C"}}), ({"is_causal": True}, {}),
    ({"output_past": True}, {}), ({"pruned_heads": {}}, {}), ({"attn_implementation": "eager"}, {"attn_implementation": "sdpa"}),
    ({"task_specific_params": {"a": {"b": 1}}}, {"task_specific_params": {"a": {"b": 2}}}),
]  # fmt: skip


@pytest.mark.parametrize(("one", "two"), HARMLESS)
def test_harmless(one: dict[str, Any], two: dict[str, Any], tmp_path: Path) -> None:
    for name, (first, other) in {"forth": (one, two), "back": (two, one)}.items():
        (tmp_path / name).mkdir()
        assert _functional(BERT | first, BERT | other, tmp_path / name) == []


@pytest.mark.parametrize(
    ("scaling", "functional"),
    [(None, False), ({"rope_type": "default"}, False), ({"rope_type": "yarn", "factor": 2.0}, True), ({"type": "dynamic"}, True)],
)  # fmt: skip
def test_the_longest_length_counts_where_positions_are_scaled_by_it(scaling: Any, functional: bool) -> None:
    one, two = ({"model_type": "x", "max_position_embeddings": n, "rope_scaling": scaling} for n in (2048, 8192))
    found = config_differences(one, two, lambda: (one, two))
    assert [each.harmless for each in found] == [not functional]


def test_equal_ones_and_harmless_ones_are_not_filled() -> None:
    """A merge of models that one program wrote imports no transformers."""

    def fill() -> Any:
        raise AssertionError("filled")

    assert config_differences(BERT, dict(BERT), fill) == []
    assert config_differences(BERT | {"use_cache": True}, BERT | {"use_cache": False, "dtype": "float32"}, fill)


@pytest.mark.parametrize(
    "key", ["is_causal", "rope_parameters.rope_theta", "sliding_window", "layer_types.3", "rope_scaling"]
)
def test_what_a_fine_tune_may_change(key: str) -> None:
    assert excused_for_base(Difference(key, "1", "2"))


@pytest.mark.parametrize("key", ["num_attention_heads", "hidden_act", "layer_norm_eps", "model_type", "tokens"])
def test_what_it_may_not(key: str) -> None:
    assert not excused_for_base(Difference(key, "1", "2"))


@pytest.mark.parametrize(("key", "origin"), [("_name_or_path", True), ("dtype", True), ("use_cache", False)])
def test_origins_are_not_listed(key: str, origin: bool) -> None:
    assert is_origin(key) is origin
