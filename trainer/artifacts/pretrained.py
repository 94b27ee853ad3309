"""Reads the folder of a pretrained encoder in Hugging Face's format, and keeps what a run needs."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from model.classifier import TextClassifier
from model.pretrained.bert import ACTIVATIONS, Architecture
from model.pretrained.scorer import PretrainedScorer
from model.pretrained.weights import MODEL_TYPES, assign_weights, read_tensors
from pipeline.errors import RunError, UserError
from pipeline.files.paths import expand_home
from pipeline.text.bert_standardization import BertStandardization
from pipeline.text.wordpiece import WordPieceSettings
from trainer.runtime.files import read_json, write_json

PRETRAINED = "pretrained.json"  # in the folder of a run
_WEIGHTS = "model.safetensors"
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# The names of sizes in config.json, by model type.
_NAMES = {
    "bert": {
        "hidden_size": "hidden_size",
        "layer_count": "num_hidden_layers",
        "head_count": "num_attention_heads",
        "intermediate_size": "intermediate_size",
        "activation": "hidden_act",
        "dropout": "hidden_dropout_prob",
        "attention_dropout": "attention_probs_dropout_prob",
    },
    "distilbert": {
        "hidden_size": "dim",
        "layer_count": "n_layers",
        "head_count": "n_heads",
        "intermediate_size": "hidden_dim",
        "activation": "activation",
        "dropout": "dropout",
        "attention_dropout": "attention_dropout",
    },
}
# Settings of config.json that this encoder has only with these values, which are the defaults.
_REQUIRED = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
    "pruned_heads": {},
    "pad_token_id": 0,
}


@dataclasses.dataclass(frozen=True)
class PretrainedEncoder:
    """A pretrained encoder, without its weights.

    Attributes:
        model_type: One of MODEL_TYPES.
        architecture: The sizes and constants of the encoder.
        tokenizer: The settings of its tokenizer.
        tokens: The vocabulary; empty if it was read from the folder of a run, where the vocabulary
            is in vocabulary.txt.
        weights_sha256: The SHA-256 of the file of its weights.
    """

    model_type: str
    architecture: Architecture
    tokenizer: WordPieceSettings
    tokens: tuple[str, ...]
    weights_sha256: str

    def write(self, model_dir: Path) -> None:
        """Writes everything but the vocabulary to the folder of a run."""
        content = dataclasses.asdict(self)
        del content["tokens"]
        write_json(content, model_dir / PRETRAINED)

    @classmethod
    def read(cls, model_dir: Path) -> PretrainedEncoder:
        """Reads what `write` wrote.

        Raises:
            RunError: The file is missing or damaged.
        """
        path = model_dir / PRETRAINED
        try:
            content = read_json(path)
            tokenizer = dict(content["tokenizer"])
            tokenizer["standardization"] = BertStandardization(**tokenizer["standardization"])
            return cls(
                content["model_type"],
                Architecture(**content["architecture"]),
                WordPieceSettings(**tokenizer),
                (),
                content["weights_sha256"],
            )
        except (OSError, KeyError, TypeError) as error:
            raise RunError(f"{path} is missing or damaged ({error!r:.80}); restore it") from error

    def assign_weights(self, model: TextClassifier, folder: str) -> None:
        """Assigns the weights in a folder to the scorers of a built model that are pretrained.

        Raises:
            UserError: The weights are not those of this encoder.
        """
        path = expand_home(folder) / _WEIGHTS
        with _translate_errors(path):
            if _sha256(path) != self.weights_sha256:
                raise ValueError("it has changed since the run was created; restore it")
            tensors = read_tensors(path)
            for scorer in model.neural_scorers:
                if isinstance(scorer, PretrainedScorer):
                    assign_weights(scorer.bert, tensors, self.model_type)


def read_encoder_folder(folder: str) -> PretrainedEncoder:
    """Reads the folder of an encoder, except its weights, which it only checks.

    Raises:
        UserError: The folder has no encoder, or one that is not supported.
    """
    path = expand_home(folder)
    if not path.is_dir():
        raise UserError(
            f"--pretrained={folder} is not a folder; download the encoder first, see "
            "docs/pretrained.md"
        )
    if not (path / _WEIGHTS).is_file():
        raise UserError(
            f"--pretrained={folder} has no {_WEIGHTS}; pickled weights such as pytorch_model.bin "
            "can run code and are not read: convert them with save_pretrained of transformers"
        )
    content = _read_object(path / "config.json")
    with _translate_errors(path / "config.json"):
        model_type, architecture = _read_architecture(content)
    tokenizer, tokens = _read_tokenizer(path)
    if len(tokens) > architecture.vocabulary_size:
        raise UserError(
            f"--pretrained={folder}: the tokenizer has {len(tokens)} tokens, and the encoder only "
            f"{architecture.vocabulary_size}; these files do not belong together"
        )
    with _translate_errors(path / _WEIGHTS):
        read_tensors(path / _WEIGHTS)
        sha256 = _sha256(path / _WEIGHTS)
    return PretrainedEncoder(model_type, architecture, tokenizer, tokens, sha256)


def _read_architecture(content: Mapping[str, Any]) -> tuple[str, Architecture]:
    """Reads the model type and the sizes from config.json; raises a ValueError."""
    model_type = content.get("model_type")
    if model_type not in MODEL_TYPES:
        raise ValueError(f"model_type is {model_type!r}, not one of {', '.join(MODEL_TYPES)}")
    for name, value in _REQUIRED.items():
        if content.get(name, value) not in (value, None):
            raise ValueError(f"{name} is {content[name]!r}; only {value!r} is supported")
    sizes = {name: content[source] for name, source in _NAMES[model_type].items()}
    is_bert = model_type == "bert"
    architecture = Architecture(
        vocabulary_size=content["vocab_size"],
        position_count=content["max_position_embeddings"],
        type_count=content.get("type_vocab_size", 2) if is_bert else 0,
        epsilon=content.get("layer_norm_eps", 1e-12) if is_bert else 1e-12,
        **sizes,
    )
    for field in dataclasses.fields(architecture):
        value = getattr(architecture, field.name)
        if field.type == "int" and not (type(value) is int and 0 <= value < 2**31):
            raise ValueError(f"{field.name} is {value!r}; it must be an integer from 0 on")
        if field.type == "float" and not (type(value) in (int, float) and 0 <= value < 1):
            raise ValueError(f"{field.name} is {value!r}; it must be a number from 0 to below 1")
    if architecture.position_count < 3:
        raise ValueError(f"{architecture.position_count} positions are too few; 3 are needed")
    if architecture.activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ValueError(f"the activation is {architecture.activation!r}, not one of {known}")
    if not architecture.head_count or architecture.hidden_size % architecture.head_count:
        raise ValueError(
            f"the hidden size {architecture.hidden_size} is not a multiple of the "
            f"{architecture.head_count} attention heads"
        )
    return model_type, architecture


def _read_tokenizer(folder: Path) -> tuple[WordPieceSettings, tuple[str, ...]]:
    """Reads the settings and the vocabulary of a tokenizer."""
    config = folder / "tokenizer_config.json"
    settings = _read_object(config) if config.is_file() else {}
    path = folder / "tokenizer.json"
    if path.is_file():
        content = _read_object(path)
        with _translate_errors(path):
            tokenizer, tokens = _read_tokenizer_json(content, settings)
    else:
        path = folder / "vocab.txt"
        with _translate_errors(path):
            tokens = _read_vocabulary(path)
            tokenizer = WordPieceSettings(_make_standardization(settings))
    with _translate_errors(path):
        for name, value in dataclasses.asdict(tokenizer.standardization).items():
            if type(value) is not bool:
                raise ValueError(f"{name} is {value!r}, neither true nor false")
        if type(tokenizer.max_word_length) is not int:
            raise ValueError(f"max_input_chars_per_word is {tokenizer.max_word_length!r}")
        if len(set(tokens)) < len(tokens):
            raise ValueError("its vocabulary has a token twice")
        missing = [token for token in _SPECIAL[:4] if token not in tokens]
        if missing or tokens[0] != _SPECIAL[0]:
            needed = ", ".join(_SPECIAL[1:4])
            raise ValueError(f"its vocabulary must start with [PAD] and contain {needed}")
    return tokenizer, tokens


def _make_standardization(settings: Mapping[str, Any]) -> BertStandardization:
    """Returns the basic tokenization for settings of tokenizer_config.json."""
    lower_case, strip_accents = settings.get("do_lower_case", True), settings.get("strip_accents")
    return BertStandardization(
        lower_case=lower_case,
        strip_accents=lower_case if strip_accents is None else strip_accents,
        split_ideographs=settings.get("tokenize_chinese_chars", True),
    )


def _read_vocabulary(path: Path) -> tuple[str, ...]:
    text = path.read_bytes().decode().removesuffix("\n")
    return tuple(line.removesuffix("\r") for line in text.split("\n"))


def _read_tokenizer_json(
    content: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[WordPieceSettings, tuple[str, ...]]:
    """Reads the settings and the vocabulary of tokenizer.json; raises a ValueError."""
    model, normalizer = content["model"], content["normalizer"]
    found = {
        "the model": (model.get("type", "WordPiece"), "WordPiece"),
        "the prefix of continuations": (model.get("continuing_subword_prefix", "##"), "##"),
        "the normalizer": (normalizer["type"], "BertNormalizer"),
        "clean_text": (normalizer["clean_text"], True),
        "the pre_tokenizer": (content["pre_tokenizer"]["type"], "BertPreTokenizer"),
        "the token of unknown words": (model.get("unk_token", "[UNK]"), "[UNK]"),
    }
    for name, (value, supported) in found.items():
        if value != supported:
            raise ValueError(f"{name} is {value!r}; only {supported!r} is supported")
    standardization = _make_standardization(
        {
            "do_lower_case": normalizer["lowercase"],
            "strip_accents": normalizer["strip_accents"],
            "tokenize_chinese_chars": normalizer["handle_chinese_chars"],
        }
    )
    if "do_lower_case" in settings and settings["do_lower_case"] != standardization.lower_case:
        raise ValueError(
            f"lowercase is {standardization.lower_case}, but do_lower_case in "
            f"tokenizer_config.json is {settings['do_lower_case']}; make them equal"
        )
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    if [model["vocab"][token] for token in tokens] != list(range(len(tokens))):
        raise ValueError("the ids of its vocabulary are not consecutive")
    for added in content.get("added_tokens", ()):
        if added["content"] not in _SPECIAL:
            raise ValueError(f"the added token {added['content']!r} is not supported")
    length = model.get("max_input_chars_per_word", 100)
    return WordPieceSettings(standardization, max_word_length=length), tuple(tokens)


def _read_object(path: Path) -> dict[str, Any]:
    with _translate_errors(path):
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is not a JSON object")
        return content


@contextlib.contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    """Translates errors of a file of an encoder's folder into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path} cannot be used as a pretrained encoder: {reason}") from error


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
