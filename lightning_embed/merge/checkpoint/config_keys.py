"""Comparison of two config.json: a key counts, unless it is known to leave the outputs of an encoder unchanged."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from lightning_embed.merge.checkpoint.difference import Difference, differences

# A key is harmless if it, or a key above it, matches one of these as a whole.
_HARMLESS = re.compile(
    "|".join(
        [
            r"_.*|transformers_version|dtype|torch_dtype|auto_map|tokenizer_class|unsloth.*|sentence_transformers",  # origin
            r".*(dropout|pdrop|layerdrop|drop_path|dropout_prob|dropout_rate).*|initializer_.*|init_std|.*_initializer_.*",
            r"gradient_checkpointing.*|label_smoothing.*|router_aux_loss_coef|mask_time.*|mask_feature.*",  # training
            r"id2label|label2id|num_labels|problem_type|finetuning_task|task_specific_params|classifier_.*|summary_.*",
            r"sparse_pred.*|decoder_bias|tie_word_embeddings|tie_encoder_decoder|scale_decoder_outputs",  # heads
            r"is_encoder_decoder",  # T5EncoderModel writes it for the same encoder
            r"use_cache|output_.*|return_dict.*|torchscript|chunk_size_feed_forward|use_reentrant|use_bfloat16",
            r".*attn_implementation.*|.*flash_attn.*|reference_compile|repad_logits_with_grad|pretraining_tp|fused_.*",
            r"use_xformers|use_memory_efficient_attention|unpad_inputs|onnx_export|legacy",  # how, not what, is computed
            r"vocab_size|pad_vocab_size_multiple|.*_token_id",  # tokens are compared as such; see _COUNTS_PADDING
            # of generation, which an encoder does not do
            r"generation_config|(max|min)_(new_tokens|length)|do_sample|early_stopping|num_beams|num_beam_groups",
            r"num_return_sequences|diversity_penalty|temperature|top_k|top_p|typical_p|repetition_penalty|length_penalty",
            r"(encoder_)?no_repeat_ngram_size|bad_words_ids|remove_invalid_values|exponential_decay_length_penalty",
            r"(begin_)?suppress_tokens|prefix|forced_.*",
            r"matryoshka_.*|max_seq_length|seq_length|model_max_length",  # of the user: where texts or embeddings are cut
        ]
    )
)
_ORIGIN = re.compile(r"_|(transformers_version|dtype|torch_dtype|auto_map|tokenizer_class|architectures|unsloth)")
# Position ids of these families begin after the id of padding (create_position_ids_from_input_ids).
_COUNTS_PADDING = {
    "roberta", "xlm-roberta", "xlm-roberta-xl", "roberta-prelayernorm", "camembert", "mpnet", "longformer", "ibert",
    "luke", "mluke", "data2vec-text", "xmod", "esm", "lilt", "markuplm", "layoutlmv3",
}  # fmt: skip
# Read by classes that do not list them: the value that an absent key has.
_ABSENT = {"is_causal": True, "use_bidirectional_attention": False, "position_embedding_type": "absolute"}
# What a fine-tune may change on purpose (attention to both sides, long texts): a base with other values is its base.
_CHANGED_BY_TRAINING = re.compile(
    r"(.*\.)?(is_causal|is_decoder|use_bidirectional_attention|use_sliding_window|sliding_window|max_window_layers"
    r"|layer_types|rope_.*|max_position_embeddings|local_rope_theta|global_rope_theta)(\..*)?"
)
_HEADS = re.compile(
    r"(For[A-Z]\w*|(With)?LMHeadModel|DoubleHeadsModel|EncoderModel|PreTrainedModel|PreTraining|Model)$"
)


def config_differences(
    first: Mapping[str, Any], other: Mapping[str, Any], fill: Callable[[], tuple[Mapping[str, Any], Mapping[str, Any]]]
) -> list[Difference]:
    """The differences of two configurations.

    Args:
        first: content of a config.json.
        other: content of the other one.
        fill: gives both with the defaults of their classes, so that an absent key has a value, and old spellings
            (`rope_theta`) and new ones (`rope_parameters`) can be compared; called only for functional differences.
    """
    if first == other:
        return []
    found = list(_classified(first, other))
    if all(each.harmless for each in found) and not _functional(first.keys() ^ other.keys()):
        return found
    return list(_classified(*fill()))


def excused_for_base(difference: Difference) -> bool:
    """Whether a base may have a different value than the models that were trained from it."""
    return _CHANGED_BY_TRAINING.fullmatch(difference.key) is not None


def is_origin(key: str) -> bool:
    """Whether a key only says where a file comes from, or how numbers are stored."""
    return _ORIGIN.match(key) is not None


def _functional(keys: set[str]) -> bool:
    return not all(map(_HARMLESS.fullmatch, keys))


def _classified(first: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[Difference]:
    left, right = ({**_ABSENT, **config} if _ABSENT.keys() & {*first, *other} else config for config in (first, other))
    for each in differences(_comparable(left), _comparable(right)):
        yield replace(each, harmless=_is_harmless(each.key, first, other))


def _comparable(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A configuration whose architectures are without their heads."""
    classes = config.get("architectures")
    if not isinstance(classes, list):
        return {key: value for key, value in config.items() if key != "architectures"}
    return {**config, "architectures": sorted({_HEADS.sub("", str(name)) for name in classes})}


def _is_harmless(key: str, first: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if key.rpartition(".")[2] == "pad_token_id":
        return not {str(first.get("model_type")), str(other.get("model_type"))} & _COUNTS_PADDING
    if key.rpartition(".")[2] == "max_position_embeddings":
        return not (_scales_positions(first) or _scales_positions(other))  # a table of positions has it as a shape
    if key.endswith(".model_type"):
        return True  # of a part: versions of transformers name it differently
    return any(map(_HARMLESS.fullmatch, key.split(".")))


def _scales_positions(config: Any) -> bool:
    """Whether rotary positions depend on the longest length: all kinds except for the default one."""
    if not isinstance(config, Mapping):
        return False
    kinds = (config.get(name) for name in ("rope_type", "type"))
    return any(kind not in (None, "default", "linear") for kind in kinds if isinstance(kind, str | None)) or any(
        _scales_positions(value) for key, value in config.items() if key != "model_type"
    )
