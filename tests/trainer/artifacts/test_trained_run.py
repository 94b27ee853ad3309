"""TrainedRun, the Python API of a trained model."""

import pytest
import tensorflow as tf

from trainer.artifacts.trained_run import load


def test_explained_words_match_the_token_ids(trained):
    run = load(trained)
    text = b"The <b>BEST</b> film xyzzyq, ever: it's GOOD! " * 20
    token_ids, words = (
        run.tokenizer(tf.constant([text]))[0].numpy(),
        run.tokenizer.words_of(text)[0],
    )
    assert len(words) == len(token_ids) == run.config.sequence_length
    for word, token_id in zip(words, token_ids, strict=True):
        assert word == run.tokenizer.token_names[token_id] or (word == "xyzzyq" and token_id == 1)
    assert run.tokenizer.words_of(b"<br>")[0] == [""]


# Python


def test_predicting_a_single_string_is_a_type_error(trained):
    run = load(str(trained))
    for text in ("one text", b"one text"):
        with pytest.raises(
            TypeError, match=r"the texts are one string; give a list, such as \[text\]"
        ):
            run.predict(text)
    with pytest.raises(TypeError, match="not int"):
        run.predict([3])
    with pytest.raises(TypeError, match="not list"):
        run.explain(["one text"])
    assert (run.predict(["a fine film"]) == run.predict([b"a fine film"])).all()
