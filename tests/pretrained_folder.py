"""A tiny pretrained encoder in Hugging Face's format, with random weights."""

import json

import numpy as np

# fmt: off
TOKENS = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "a", "and", "of", "is", "it", "this",
    "film", "movie", "good", "bad", "not", "un", "##believ", "##able", "##ness", "##ly", "cafe",
    "!", "?", ".", ",", "'", "-", "<", ">", "/", "中", "文", "#", "##s", "s",
    *"abcdefghijklmnopqrtuvwxyz"[1:], *(f"##{letter}" for letter in "abcdefghijklmnopqrtuvwxyz"),
]
# fmt: on
HIDDEN, LAYERS, HEADS, INTERMEDIATE, POSITIONS = 8, 2, 2, 16, 64
CONFIG = {
    "bert": {
        "model_type": "bert",
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INTERMEDIATE,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "vocab_size": len(TOKENS),
        "pad_token_id": 0,
    },
    "distilbert": {
        "model_type": "distilbert",
        "dim": HIDDEN,
        "n_layers": LAYERS,
        "n_heads": HEADS,
        "hidden_dim": INTERMEDIATE,
        "activation": "gelu",
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "max_position_embeddings": POSITIONS,
        "vocab_size": len(TOKENS),
        "pad_token_id": 0,
    },
}
_PARTS = {
    "bert": {
        "layer": "encoder.layer.{}.",
        "attention": ("attention.self.query", "attention.self.key", "attention.self.value"),
        "attention_output": "attention.output.dense",
        "norms": ("attention.output.LayerNorm", "output.LayerNorm"),
        "feed_forward": ("intermediate.dense", "output.dense"),
    },
    "distilbert": {
        "layer": "transformer.layer.{}.",
        "attention": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        "attention_output": "attention.out_lin",
        "norms": ("sa_layer_norm", "output_layer_norm"),
        "feed_forward": ("ffn.lin1", "ffn.lin2"),
    },
}


def tensor_shapes(model_type):
    """The shape of each tensor, by its name without a prefix."""
    parts, shapes = _PARTS[model_type], {}
    tables = {"word": len(TOKENS), "position": POSITIONS, "token_type": 2}
    if model_type == "distilbert":
        del tables["token_type"]
    for name, rows in tables.items():
        shapes[f"embeddings.{name}_embeddings.weight"] = (rows, HIDDEN)

    def add(name, outputs, inputs=None):
        shapes[f"{name}.weight"] = (outputs, inputs) if inputs else (outputs,)
        shapes[f"{name}.bias"] = (outputs,)

    add("embeddings.LayerNorm", HIDDEN)
    for number in range(LAYERS):
        prefix = parts["layer"].format(number)
        for name in (*parts["attention"], parts["attention_output"]):
            add(prefix + name, HIDDEN, HIDDEN)
        add(prefix + parts["feed_forward"][0], INTERMEDIATE, HIDDEN)
        add(prefix + parts["feed_forward"][1], HIDDEN, INTERMEDIATE)
        for name in parts["norms"]:
            add(prefix + name, HIDDEN)
    return shapes


def make_tensors(model_type="bert"):
    """Draws the tensors, always the same."""
    random = np.random.default_rng(0)
    return {
        # Layer normalization multiplies by about 1.
        name: random.normal(float("orm.weight" in name), 0.5, shape).astype(np.float32)
        for name, shape in tensor_shapes(model_type).items()
    }


def write_safetensors(path, tensors, types=None):
    """Writes tensors in the format of the library safetensors; `types` has their dtypes."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, tensor in tensors.items():
        end = len(data) + tensor.nbytes
        dtype = (types or {}).get(name, "F32")
        header[name] = {"dtype": dtype, "shape": tensor.shape, "data_offsets": [len(data), end]}
        data += tensor.tobytes()
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data)


def make_folder(folder, kind="bert", **config):
    """Writes the folder of an encoder of this kind, and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {**CONFIG[kind], **config}
    (folder / "config.json").write_text(json.dumps(content))
    (folder / "vocab.txt").write_text("\n".join(TOKENS) + "\n", encoding="utf-8")
    write_safetensors(folder / "model.safetensors", make_tensors(kind))
    return folder
