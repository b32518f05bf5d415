"""Frozen weights in fewer bytes: bfloat16, int8 or nf4 in memory, made dense while their layer computes.

        float32     4 bytes a weight
        bfloat16    2         rounded to 8 significant bits
        int8        1         round(127 w / m), m: the largest |w| of the row           (Dettmers et al., 2208.07339)
        nf4         0.56      one of 16 levels of w / m, m: the largest |w| of 64       (Dettmers et al., 2305.14314)

The dtype of computation stays that of `encoder.dtype`, as with float32 weights: a layer widens its weights, computes
y = x W^T and forgets them, and its backward pass widens them again. So a model computes exactly with the weights that
`save` writes in float32. Where we differ from LLM.int8: the inputs of a layer are never rounded.
"""

import threading
from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding, linear

from lightning_embed.encoder.options import Weights
from lightning_embed.errors import ConfigError

_BLOCK = 64  # weights with one scale in nf4
_INT8 = 127


class StoredLinear(nn.Linear):
    """A frozen linear layer.

    Args:
        stored: the weights, in bfloat16 or int8, or two to a byte in nf4.
        scales: largest absolute values, of the rows in int8, of the blocks in nf4.
        shape: (out_features, in_features).
        bias: in float32.
    """

    scales: Tensor | None

    def __init__(self, stored: Tensor, scales: Tensor | None, shape: tuple[int, int], bias: Tensor | None) -> None:
        nn.Module.__init__(self)  # of a Linear it would make a dense weight
        self.out_features, self.in_features = shape
        self.stored = nn.Parameter(stored, requires_grad=False)
        self.register_buffer("scales", scales)
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias, requires_grad=False))

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # computed, so that peft and transformers may read it
        """The dense weights in float32."""
        return self.dense(torch.float32)

    def dense(self, dtype: torch.dtype, into: Tensor | None = None) -> Float[Tensor, "out in"]:
        """The dense weights; `into`: a tensor to write them to, which nf4 does not use."""
        stored = self.stored.detach()
        shape = (self.out_features, self.in_features)
        if stored.dtype is torch.uint8:
            assert self.scales is not None
            return _from_nf4(stored, self.scales, shape, dtype)
        dense = torch.empty(shape, dtype=dtype, device=stored.device) if into is None else into
        if self.scales is None:
            return dense.copy_(stored)
        return torch.mul(stored, (self.scales / _INT8)[:, None], out=dense)

    def forward(self, input: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:  # noqa: A002  as in nn.Linear
        """The product with the weights, and the bias, in the dtype of autocast, else of the input."""
        device = input.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else input.dtype
        if self.stored.dtype is dtype:
            return linear(input.to(dtype), self.stored, None if self.bias is None else self.bias.to(dtype))
        with torch.autocast(device, enabled=False):
            output: Tensor = _product(input.to(dtype), self)
            return output if self.bias is None else output + self.bias.to(dtype)


class StoredEmbedding(nn.Embedding):
    """A frozen table of embeddings in bfloat16, whose rows are given in float32."""

    def __init__(self, stored: Tensor, padding: int | None) -> None:
        nn.Module.__init__(self)
        self.num_embeddings, self.embedding_dim = stored.shape
        self.padding_idx, self.max_norm, self.norm_type = padding, None, 2.0
        self.scale_grad_by_freq = self.sparse = False
        self.stored = nn.Parameter(stored, requires_grad=False)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The table in float32."""
        return self.dense(torch.float32)

    def dense(self, dtype: torch.dtype) -> Float[Tensor, "rows dim"]:
        """The table."""
        return self.stored.detach().to(dtype)

    def forward(self, input: Int[Tensor, "..."]) -> Float[Tensor, "... dim"]:  # noqa: A002  as in nn.Embedding
        """The rows of ids."""
        return embedding(input, self.stored, self.padding_idx).float()


def load_arguments(weights: Weights) -> dict[str, Any]:
    """Arguments of from_pretrained with which tensors are narrowed one by one as they are read.

    Raises:
        ConfigError: bitsandbytes is not installed, or does not run here.
    """
    if weights is Weights.float32:
        return {"dtype": torch.float32}
    if weights is Weights.bfloat16:
        return {"dtype": torch.bfloat16}
    try:
        import bitsandbytes  # noqa: F401
    except Exception as error:  # of any class: it looks for the libraries of a GPU
        found = "none" if isinstance(error, ImportError) else _sentence(error)
        raise ConfigError(
            f"encoder.weights={weights}: expected the package bitsandbytes, got {found}. "
            "pip install 'lightning-embed[quantized]', or set encoder.weights=bfloat16."
        ) from error
    from transformers import BitsAndBytesConfig

    make: Any = BitsAndBytesConfig
    eight_bits = weights is Weights.int8
    options = make(load_in_8bit=True) if eight_bits else make(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    # On the CPU, as every model is opened; the trainer moves it.
    return {"dtype": torch.bfloat16, "quantization_config": options, "device_map": {"": "cpu"}}


def store(backbone: Any, weights: Weights) -> None:
    """Put the layers of this module into a backbone that was loaded with `load_arguments`.

    Linear layers and embeddings stay narrow; all else, which is small, is widened to float32.
    """
    if weights is Weights.float32:
        return
    twins: dict[int, nn.Module | None] = {}  # by module and, for tied ones, by weight
    for parent in list(backbone.modules()):
        for name, child in list(parent.named_children()):
            if id(child) not in twins:
                twins[id(child)] = _twin(child)
            if (twin := twins[id(child)]) is not None:
                setattr(parent, name, twin)
    for tensor in (*backbone.parameters(), *backbone.buffers()):
        tensor.requires_grad_(False)
    for module in backbone.modules():
        if not is_stored(module):
            _widen(module)
    _forget_quantiser(backbone)


def is_stored(module: nn.Module) -> bool:
    """Whether a module has its weights in fewer bytes."""
    return isinstance(module, (StoredLinear, StoredEmbedding))


def dense_copy(module: nn.Module) -> nn.Module:
    """A copy of a module without inner ones, in float32 and on its device; a stored one becomes an ordinary one."""
    if not is_stored(module):
        return deepcopy(module).float()
    copy: nn.Linear | nn.Embedding
    if isinstance(module, StoredLinear):
        copy = nn.Linear(module.in_features, module.out_features, module.bias is not None, device="meta")
        if module.bias is not None:
            copy.bias = nn.Parameter(module.bias.detach().clone())
    else:
        assert isinstance(module, StoredEmbedding)
        rows, dim = module.num_embeddings, module.embedding_dim
        copy = nn.Embedding(rows, dim, module.padding_idx, device="meta")
    copy.weight = nn.Parameter(module.dense(torch.float32).clone())
    return copy.train(module.training)


def _twin(module: nn.Module) -> nn.Module | None:
    """The stored form of a layer; None: of this class there is none."""
    # bitsandbytes' layers are Linears of a class of their own
    quantised = type(module).__module__.startswith("bitsandbytes.")
    if type(module) is nn.Embedding and module.max_norm is None:
        return StoredEmbedding(module.weight.detach(), module.padding_idx)
    if not isinstance(module, nn.Linear) or not (quantised or type(module) is nn.Linear):
        return None
    shape = (module.out_features, module.in_features)
    bias = None if module.bias is None else module.bias.detach().float()
    weight: Any = module.weight
    if not quantised:
        return StoredLinear(weight.detach(), None, shape, bias)
    scales = weight.SCB if weight.dtype is torch.int8 else weight.quant_state.absmax
    return StoredLinear(weight.data, scales.detach().clone(), shape, bias)


def _widen(module: nn.Module) -> None:
    """The parameters and buffers of a module itself, in float32."""
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.is_floating_point():
            setattr(module, name, nn.Parameter(parameter.detach().float(), requires_grad=False))
    for name, buffer in module.named_buffers(recurse=False):
        if buffer.is_floating_point():
            setattr(module, name, buffer.float())


def _forget_quantiser(backbone: Any) -> None:
    """Make a backbone with stored layers an ordinary one for transformers, which would not move or save it."""
    names = ("is_quantized", "quantization_method", "hf_quantizer", "is_loaded_in_4bit", "is_loaded_in_8bit")
    for name in (*names, "hf_device_map"):
        backbone.__dict__.pop(name, None)
    for name in ("quantization_config", "_is_quantized"):
        backbone.config.__dict__.pop(name, None)


_rooms = threading.local()


def _room(layer: StoredLinear, dtype: torch.dtype) -> Tensor | None:
    """Memory for the dense weights of a layer on a CPU, the same for all layers: None elsewhere.

    malloc would put the small outputs into the place of the last weights, and take new memory for the next ones: all
    weights together. The allocators of GPUs do not.
    """
    if layer.stored.device.type != "cpu":
        return None
    size = layer.out_features * layer.in_features
    known: Tensor | None = getattr(_rooms, str(dtype), None)
    if known is None or known.numel() < size:
        with torch.inference_mode(False):
            known = torch.empty(size, dtype=dtype)
        setattr(_rooms, str(dtype), known)
    return known[:size].view(layer.out_features, layer.in_features)


class _Product(torch.autograd.Function):
    """x W^T of a stored layer, whose dense weights are not kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: StoredLinear) -> Tensor:
        ctx.layer = layer
        return linear(x, layer.dense(x.dtype, _room(layer, x.dtype)))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad @ ctx.layer.dense(grad.dtype, _room(ctx.layer, grad.dtype)), None


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _product(x: Float[Tensor, "... in"], layer: StoredLinear) -> Float[Tensor, "... out"]:
    product: Tensor = _Product.apply(x, layer)  # type: ignore[no-untyped-call]
    return product


def _from_nf4(stored: Tensor, scales: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Float[Tensor, "out in"]:
    from bitsandbytes.functional import QuantState, dequantize_4bit

    state: Any = QuantState
    try:
        dense: Tensor = dequantize_4bit(stored, state(scales, torch.Size(shape), None, _BLOCK, "nf4", dtype))
        return dense
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # NotImplementedError included
        raise ConfigError(
            f"encoder.weights=nf4: bitsandbytes cannot widen it on {stored.device.type} ({_sentence(error)}). Set "
            "encoder.weights=bfloat16, or trainer.accelerator=cpu."
        ) from error


def _sentence(error: Exception) -> str:
    """The first sentence of an error, on one line."""
    return " ".join(str(error).split()).partition(". ")[0].rstrip(".") or type(error).__name__
