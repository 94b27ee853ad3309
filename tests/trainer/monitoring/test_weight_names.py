"""Names of weights in TensorBoard are short, unique and reproducible."""

from trainer.monitoring.weight_names import short_names


def test_short_names_omit_a_single_scorer_and_cells():
    deep = "sentiment_classifier/neural_scorer"
    assert short_names(
        [
            f"{deep}/embedding/embeddings",
            f"{deep}/stacked_lstm/lstm/lstm_cell/kernel",
            f"{deep}/stacked_lstm/lstm/lstm_cell/recurrent_kernel",
            f"{deep}/stacked_lstm/lstm_1/lstm_cell/kernel",
            f"{deep}/dense/bias",
        ]
    ) == [
        "embedding/embeddings",
        "lstm/kernel",
        "lstm/recurrent_kernel",
        "lstm_2/kernel",
        "dense/bias",
    ]


def test_scorers_are_numbered_from_one_in_each_model():
    second_model = "sentiment_classifier_1"
    assert short_names(
        [
            f"{second_model}/neural_scorer_4/embedding_4/embeddings",
            f"{second_model}/neural_scorer_5/embedding_5/embeddings",
            f"{second_model}/neural_scorer_5/pooled_lstm_2/lstm_7/lstm_cell/kernel",
        ]
    ) == [
        "neural_scorer/embedding/embeddings",
        "neural_scorer_2/embedding/embeddings",
        "neural_scorer_2/lstm/kernel",
    ]


def test_short_names_are_unique():
    """Even for a future encoder with two cells in one layer."""
    paths = ["m/part/rnn/first_cell/kernel", "m/part/rnn/second_cell/kernel"]
    assert short_names(paths) == [path[2:] for path in paths]
    assert short_names(["m/weight"]) == ["weight"]
