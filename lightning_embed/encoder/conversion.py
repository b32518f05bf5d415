"""Conversion of models by the libraries that made them: quantised ones to full precision, adapters into their base.

The copies are kept in the cache folder, by content. transformers and peft are imported when there is one to make.
"""

import json
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_embed.errors import CheckpointError
from lightning_embed.storage.cache_dir import CACHE
from lightning_embed.storage.checksum import digest, directory_digest
from lightning_embed.storage.publish import published_folder
from lightning_embed.storage.seal import is_whole_folder, seal_folder

_CLASSES = {  # of peft's task types; the adapter of an embedding model has none, or FEATURE_EXTRACTION
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
}
_RECOMPUTED = ("pissa", "olora")  # changes of the base that are a function of its weights alone
_PLAIN = (True, False, "gaussian", "eva", "orthogonal")  # no changes of the base
_PREFIX = "base_model.model."


class LibraryConverter:
    """Conversion by transformers and peft."""

    def dequantised(self, folder: Path) -> Path:
        """A copy of a quantised model in full precision, of the same class.

        Raises:
            CheckpointError: transformers, with what is installed, cannot dequantise it on this machine.
        """
        remedy = "Dequantise it where it can be loaded (dequantize() and save_pretrained), and merge the result."
        with _converting(f"{folder} is quantised, and transformers cannot dequantise it here", remedy):
            return _kept("dequantised", [folder], lambda target: _dequantise(folder, target))

    def folded(self, adapter: Path, base: Path) -> Path:
        """The base with the adapter folded into its weights by peft, in float32.

        Raises:
            CheckpointError: peft is missing, or this adapter cannot be folded into this base.
        """
        remedy = "Fold it with the code that trained it (merge_and_unload), and merge the result."
        with _converting(f"{adapter} cannot be folded into {base} by peft", remedy):
            return _kept("folded", [adapter, base], lambda target: _fold(adapter, base, target))


CONVERTER = LibraryConverter()


@contextmanager
def _converting(problem: str, remedy: str) -> Iterator[None]:
    from lightning_embed.encoder.backbone import quiet

    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except CheckpointError:
        raise
    except Exception as error:  # transformers and peft raise errors of many types
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise CheckpointError(f"{problem} ({type(error).__name__}: {reason}). {remedy}") from error


def _kept(kind: str, inputs: list[Path], make: Callable[[Path], None]) -> Path:
    target = CACHE / "converted" / f"{kind}-{digest([directory_digest(folder) for folder in inputs])}"
    if not is_whole_folder(target):
        with published_folder(target) as partial:
            make(partial)
            seal_folder(partial)
    return target


def _dequantise(folder: Path, target: Path) -> None:
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder)
    known = transformers.quantizers.auto.AUTO_QUANTIZATION_CONFIG_MAPPING
    if (options := getattr(config, "quantization_config", None)) is None:
        raise ValueError("its config.json has no quantization_config")
    if (method := options.get("quant_method")) not in known:
        raise ValueError(f"unknown method {method!r}")
    auto = getattr(transformers, (getattr(config, "architectures", None) or [""])[0], transformers.AutoModel)
    model, report = auto.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    left = sorted([*report["missing_keys"], *report["unexpected_keys"]])
    if left:
        raise ValueError(f"its tensors are not those of {type(model).__name__}: {', '.join(left[:3])}")
    if getattr(model, "is_quantized", False) or getattr(model, "hf_quantizer", None) is not None:
        model = model.dequantize()
    narrow = [name for name, weight in model.named_parameters() if weight.dtype.itemsize < 2]
    if narrow:
        raise ValueError(f"{narrow[0]} is still quantised")
    _write(model, target, ())


def _fold(adapter: Path, base: Path, target: Path) -> None:
    import transformers
    from safetensors import safe_open

    try:
        from peft import PeftConfig, PeftModel
    except ImportError as error:
        raise CheckpointError(
            f"{adapter} is more than plain LoRA: expected the package peft, got none. "
            "pip install 'lightning-embed[lora]'."
        ) from error

    config: Any = PeftConfig.from_pretrained(str(adapter))
    start = getattr(config, "init_lora_weights", True)
    if start not in (*_PLAIN, *_RECOMPUTED):
        raise ValueError(f"init_lora_weights={start!r} changed the base in a way that the adapter does not record")
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as tensors:
        shapes = {name.removeprefix(_PREFIX): tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    mapping = getattr(config, "auto_mapping", None) or {}
    named = _CLASSES.get(config.task_type) or mapping.get("base_model_class") or "AutoModel"
    auto = getattr(transformers, named, transformers.AutoModel)
    model, report = auto.from_pretrained(base, dtype=torch.float32, output_loading_info=True)
    _grow(model, shapes)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*missing adapter keys")
        adapted: Any = PeftModel.from_pretrained(model, str(adapter))
    random = [name for name in report["missing_keys"] if name not in shapes]
    _write(adapted.merge_and_unload(), target, random)


def _grow(model: Any, shapes: Mapping[str, list[int]]) -> None:
    """Add rows to the embeddings of a model, where the adapter has all rows of a larger vocabulary."""
    table = model.get_input_embeddings()
    name = next((f"{name}.weight" for name, module in model.named_modules() if module is table), "")
    rows = shapes.get(name, [0])[0]
    if rows > table.num_embeddings:
        model.resize_token_embeddings(rows, mean_resizing=False)


def _write(model: nn.Module, folder: Path, left_out: Collection[str]) -> None:
    """Save the weights under the names of the model, each once, and its configuration.

    save_pretrained would quantise them again.
    """
    from safetensors.torch import save_file

    state: dict[str, Tensor] = {}
    places = set()
    for name, tensor in model.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape)
        if name not in left_out and (place not in places or not tensor.numel()):
            places.add(place)
            state[name] = tensor.contiguous()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config: Any = model.config
    config.save_pretrained(folder)
    content = json.loads((folder / "config.json").read_text())
    content.pop("quantization_config", None)
    content |= {"architectures": [type(model).__name__], "dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(content, indent=2) + "\n")
