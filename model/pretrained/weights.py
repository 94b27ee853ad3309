"""Reads weights in Hugging Face's format, and assigns them to `model.pretrained.bert.Bert`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from model.pretrained.bert import Bert, Block

_MAX_HEADER = 100_000_000  # bytes, as in the library safetensors
_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}

# What follows a prefix such as `bert.`: the names of each layer's parts, for each model type.
_LAYERS = {
    "bert": {
        "layer": "encoder.layer.{}.",
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attention_output": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "intermediate": "intermediate.dense",
        "output_dense": "output.dense",
        "output_norm": "output.LayerNorm",
    },
    "distilbert": {
        "layer": "transformer.layer.{}.",
        "query": "attention.q_lin",
        "key": "attention.k_lin",
        "value": "attention.v_lin",
        "attention_output": "attention.out_lin",
        "attention_norm": "sa_layer_norm",
        "intermediate": "ffn.lin1",
        "output_dense": "ffn.lin2",
        "output_norm": "output_layer_norm",
    },
}
MODEL_TYPES = tuple(_LAYERS)
# Tensors that this encoder does not use: heads for other tasks, and numbers of positions.
_UNUSED = re.compile(
    r"(pooler|cls|vocab_\w+|pre_classifier|classifier|qa_outputs)\..*|.*position_ids"
)


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a safetensors file, without a prefix such as `bert.`.

    The format: 8 bytes with the length of the header, the header as JSON, and the data
    (https://huggingface.co/docs/safetensors). The data stays on disk until it is used; bfloat16
    numbers are their bits as uint16.

    Raises:
        ValueError: The file is damaged, or has numbers that are not float32, float16 or bfloat16.
        KeyError, TypeError, AttributeError: Its header is malformed.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= min(_MAX_HEADER, path.stat().st_size - 8):
            raise ValueError("its header is cut off")
        header = json.loads(file.read(length))
    data = np.memmap(path, np.uint8, "r", offset=8 + length)
    tensors = {}
    for full_name, entry in header.items():
        name = re.sub(r"^(bert|distilbert)\.", "", full_name)
        if name != "__metadata__" and not _UNUSED.fullmatch(name):
            name = name.replace("LayerNorm.gamma", "LayerNorm.weight")  # of early files
            name = name.replace("LayerNorm.beta", "LayerNorm.bias")
            tensors[name] = _view_tensor(data, name, entry)
    return tensors


def _view_tensor(data: np.ndarray, name: str, entry: Mapping[str, Any]) -> np.ndarray:
    """Returns the tensor that an entry of the header describes."""
    dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in _DTYPES:
        raise ValueError(f"{name} has the type {dtype}, not one of {', '.join(_DTYPES)}")
    size = math.prod(shape) * _DTYPES[dtype].itemsize
    if not 0 <= start <= end <= len(data) or end - start != size:
        raise ValueError(
            f"{name} has {end - start} bytes at {start} of {len(data)}, but its shape needs {size}"
        )
    return data[start:end].view(_DTYPES[dtype]).reshape(shape)


def assign_weights(bert: Bert, tensors: Mapping[str, np.ndarray], model_type: str) -> None:
    """Assigns tensors to the weights of a built encoder.

    Args:
        bert: The encoder.
        tensors: From `read_tensors`.
        model_type: One of MODEL_TYPES.

    Raises:
        ValueError: A tensor is missing or unknown, or has another shape.
    """
    needed = dict(_sources(bert, model_type))
    missing = sorted({name for _, names in needed.values() for name in names} - set(tensors))
    unknown = sorted(set(tensors) - {name for _, names in needed.values() for name in names})
    if missing or unknown:
        reason = f"{missing[0]} is missing" if missing else f"{unknown[0]} is unknown"
        raise ValueError(reason)
    for variable, names in needed.values():
        parts = [_to_float32(tensors[name]) for name in names]
        # Hugging Face's kernels are [outputs, inputs].
        value = np.concatenate(parts) if len(parts) > 1 else parts[0]
        value = value.T if variable.name == "kernel" else value
        if value.shape != tuple(variable.shape):
            raise ValueError(
                f"{names[0]} has the shape {parts[0].shape}; {variable.path} is {variable.shape}"
            )
        variable.assign(value)


def _to_float32(tensor: np.ndarray) -> np.ndarray:
    if tensor.dtype == np.uint16:  # bfloat16: the upper half of a float32
        return (tensor.astype(np.uint32) << 16).view(np.float32)
    return tensor.astype(np.float32)


_Source = tuple[keras.Variable, list[str]]  # a weight and the tensors that it consists of


def _sources(bert: Bert, model_type: str) -> Iterator[tuple[str, _Source]]:
    """Yields each weight with the names of its tensors."""
    tables = bert.embeddings
    pairs = {"word": tables.words, "position": tables.positions, "token_type": tables.types}
    for name, variable in pairs.items():
        if variable is not None:
            full_name = f"embeddings.{name}_embeddings.weight"
            yield full_name, (variable, [full_name])
    yield from _layer_sources(tables.norm, ["embeddings.LayerNorm"])
    for number, block in enumerate(bert.blocks):
        yield from _block_sources(block, number, model_type)


def _block_sources(block: Block, number: int, model_type: str) -> Iterator[tuple[str, _Source]]:
    parts = dict(_LAYERS[model_type])
    prefix = parts.pop("layer").format(number)
    joined = [prefix + parts.pop(name) for name in ("query", "key", "value")]
    yield from _layer_sources(block.queries_keys_values, joined)
    for attribute, name in parts.items():
        yield from _layer_sources(getattr(block, attribute), [prefix + name])


def _layer_sources(layer: keras.layers.Layer, names: list[str]) -> Iterator[tuple[str, _Source]]:
    """Yields the weight and the bias of a dense layer or a layer normalization."""
    is_dense = isinstance(layer, keras.layers.Dense)
    weight, bias = (layer.kernel, layer.bias) if is_dense else (layer.gamma, layer.beta)
    for variable, kind in ((weight, "weight"), (bias, "bias")):
        sources = [f"{name}.{kind}" for name in names]
        yield sources[0], (variable, sources)
