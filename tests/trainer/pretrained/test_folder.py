"""The folder of a pretrained encoder: what is read, and what is refused by name."""

import json

import pytest

from pipeline.errors import RunError, UserError
from tests.pretrained_folder import TOKENS, make_folder, make_tensors, write_safetensors
from trainer.artifacts.pretrained import PRETRAINED, PretrainedEncoder, read_encoder_folder


def tokenizer_json(**changes):
    """The content of a tokenizer.json, as transformers writes it."""
    content = {
        "added_tokens": [{"content": token} for token in TOKENS[:5]],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {token: number for number, token in enumerate(TOKENS)},
        },
    }
    for part, values in changes.items():
        content[part] = {**content[part], **values} if isinstance(values, dict) else values
    return json.dumps(content)


def test_settings_are_read(tmp_path):
    encoder = read_encoder_folder(
        str(make_folder(tmp_path, hidden_act="relu", layer_norm_eps=1e-5))
    )
    assert (encoder.architecture.activation, encoder.architecture.epsilon) == ("relu", 1e-5)
    assert encoder.tokens == tuple(TOKENS)
    assert encoder.tokenizer.standardization.lower_case
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"do_lower_case": False, "tokenize_chinese_chars": False})
    )
    words = read_encoder_folder(str(tmp_path)).tokenizer.standardization
    assert not any((words.lower_case, words.strip_accents, words.split_ideographs))


def test_tokenizer_json_is_read_in_place_of_vocab_txt(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    changes = {"model": {"max_input_chars_per_word": 7}, "normalizer": {"strip_accents": False}}
    (tmp_path / "tokenizer.json").write_text(tokenizer_json(**changes))
    encoder = read_encoder_folder(str(tmp_path))
    assert encoder.tokens == tuple(TOKENS)
    assert encoder.tokenizer.max_word_length == 7
    assert (
        encoder.tokenizer.standardization.lower_case,
        encoder.tokenizer.standardization.strip_accents,
    ) == (
        True,
        False,
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "roberta"}, "model_type is 'roberta', not one of bert, distilbert"),
        ({"hidden_act": "swish"}, "the activation is 'swish', not one of gelu"),
        ({"position_embedding_type": "relative_key"}, "only 'absolute' is supported"),
        ({"is_decoder": True}, "is_decoder is True; only False is supported"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads"),
        (
            {"num_attention_heads": 3},
            "the hidden size 8 is not a multiple of the 3 attention heads",
        ),
        ({"hidden_size": "8"}, "hidden_size is '8'"),
        ({"hidden_dropout_prob": 1.5}, "dropout is 1.5; it must be a number from 0 to below 1"),
        ({"layer_norm_eps": float("nan")}, "epsilon is nan"),
        ({"num_hidden_layers": True}, "layer_count is True; it must be an integer"),
        ({"max_position_embeddings": 2}, "2 positions are too few"),
        ({"vocab_size": 20}, f"the tokenizer has {len(TOKENS)} tokens, and the encoder only 20"),
    ],
)
def test_what_would_change_the_mathematics_is_refused_by_name(config, message, tmp_path):
    with pytest.raises(UserError, match=message):
        read_encoder_folder(str(make_folder(tmp_path, **config)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"type": "BPE"}}, "the model is 'BPE'; only 'WordPiece' is supported"),
        ({"normalizer": {"type": "NFKC"}}, "the normalizer is 'NFKC'"),
        ({"pre_tokenizer": {"type": "Metaspace"}}, "the pre_tokenizer is 'Metaspace'"),
        ({"model": {"max_input_chars_per_word": "9"}}, "max_input_chars_per_word is '9'"),
        ({"normalizer": {"lowercase": "true"}}, "lower_case is 'true', neither true nor false"),
        ({"normalizer": None}, "cannot be used as a pretrained encoder"),
        ({"added_tokens": [{"content": "<new>"}]}, "the added token '<new>' is not supported"),
        ({"model": {"vocab": {"[PAD]": 0, "a": 2}}}, "not consecutive"),
        ({"model": {"vocab": {"a": 0, "[PAD]": 1}}}, "must start with \\[PAD\\]"),
    ],
)
def test_another_tokenizer_is_refused_by_name(changes, message, tmp_path):
    make_folder(tmp_path)
    content = json.loads(tokenizer_json())
    for part, values in changes.items():
        is_part = isinstance(values, dict)
        content[part] = {**content[part], **values} if is_part else values
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        read_encoder_folder(str(tmp_path))


def test_two_files_that_disagree_are_refused(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text(tokenizer_json())
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    with pytest.raises(UserError, match="lowercase is True, but do_lower_case"):
        read_encoder_folder(str(tmp_path))


def test_pickled_weights_are_refused(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pickled weights such as pytorch_model\.bin can run code"):
        read_encoder_folder(str(tmp_path))


@pytest.mark.parametrize("name", ["config.json", "vocab.txt", "model.safetensors"])
def test_damaged_or_missing_files_are_user_errors(name, tmp_path):
    path = make_folder(tmp_path) / name
    path.write_bytes(b"\xff\x00{")
    with pytest.raises(UserError, match=name):
        read_encoder_folder(str(tmp_path))
    path.unlink()
    with pytest.raises(UserError, match=name):
        read_encoder_folder(str(tmp_path))
    with pytest.raises(UserError, match="is not a folder"):
        read_encoder_folder(str(tmp_path / "other"))


def test_a_run_keeps_what_it_read(tmp_path):
    encoder = read_encoder_folder(str(make_folder(tmp_path / "a", "distilbert")))
    encoder.write(tmp_path)
    kept = PretrainedEncoder.read(tmp_path)
    assert (kept.architecture, kept.tokenizer) == (encoder.architecture, encoder.tokenizer)
    assert (kept.model_type, kept.weights_sha256) == ("distilbert", encoder.weights_sha256)
    (tmp_path / PRETRAINED).write_text('{"model_type": "bert"}')
    with pytest.raises(RunError, match="is missing or damaged"):
        PretrainedEncoder.read(tmp_path)


def test_weights_that_changed_are_refused(tmp_path):
    from tests.model.pretrained.test_scorer import make_model

    model = make_model(tmp_path)
    encoder = read_encoder_folder(str(tmp_path))
    write_safetensors(tmp_path / "model.safetensors", {n: t + 1 for n, t in make_tensors().items()})
    with pytest.raises(UserError, match="has changed since the run was created"):
        encoder.assign_weights(model, str(tmp_path))
