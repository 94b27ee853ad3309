"""TrainConfig: ranges, differences and messages."""

import dataclasses

import pytest

from model import ENCODERS
from pipeline.errors import UserError
from trainer.config import TrainConfig


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("encoder", "no_such_encoder"),
        ("validation_fraction", 0.0),
        ("validation_fraction", float("nan")),
        ("learning_rate", -1.0),
        ("learning_rate", float("inf")),
        ("batch_size", 0),
        ("vocab_size", 2),
        ("sequence_length", 0),
        ("dropout", 1.0),
        ("epochs", "five"),
        ("seed", -1),
        ("precision", "float8"),
        ("profile_steps", "100"),
        ("profile_steps", "110,100"),
    ],
)
def test_an_out_of_range_error_names_flag_and_value(name, value):
    with pytest.raises(UserError, match=f"{name}={value!r}".replace("'", "'?")):
        TrainConfig(**{name: value})


def test_every_setting_has_help_and_its_default_is_allowed():
    for field in dataclasses.fields(TrainConfig):
        assert field.metadata["help"], field.name
    TrainConfig()


def test_differences_name_only_settings_that_must_not_change():
    there = TrainConfig(epochs=5, seed=1)
    here = TrainConfig(epochs=9, seed=2, checkpoint_every=7)
    assert there.differences(here) == ["seed (1, not 2)"]
    assert there.differences(there) == []


@pytest.mark.parametrize(
    ("before", "after", "is_allowed"),
    [(5, 5, True), (5, 6, True), (5, 0, True), (5, 4, False), (0, 5, False)],
)
def test_max_steps_may_only_be_raised_or_lifted(before, after, is_allowed):
    there, here = TrainConfig(max_steps=before), TrainConfig(max_steps=after)
    assert there.differences(here) == ([] if is_allowed else [f"max_steps ({before}, not {after})"])
    there, here = (dataclasses.replace(each, decay="linear") for each in (there, here))
    assert bool(there.differences(here)) == (before != after)


def test_epochs_cannot_change_with_a_decaying_learning_rate():
    there, here = TrainConfig(epochs=5), TrainConfig(epochs=6)
    assert not here.differences(there)
    there, here = (dataclasses.replace(each, decay="linear") for each in (there, here))
    assert here.differences(there) == ["epochs (6, not 5)"]


@pytest.mark.parametrize("name", ["encoder", "profile_steps", "precision", "encoding", "delimiter"])
def test_messages_shorten_long_values(name):
    with pytest.raises(UserError) as error:
        TrainConfig(**{name: "x" * 10_000})
    assert f"--{name}=" in error.value.message
    assert len(error.value.message) < 300


@pytest.fixture(params=["as they are", "one more", "another one alone"])
def encoders(request, monkeypatch):
    """Replaces the names of the encoders."""
    if request.param == "another one alone":
        for name in list(ENCODERS):
            monkeypatch.delitem(ENCODERS, name)
    if request.param != "as they are":
        monkeypatch.setitem(ENCODERS, "added_encoder", "AddedEncoder")
    return list(ENCODERS)


@pytest.mark.parametrize("form", ["", "{0},", "none,{0}", "{0} {0}", ",{0}", "no_such_encoder,{0}"])
def test_unknown_encoders_are_refused(encoders, form):
    value = form.format(encoders[0])
    with pytest.raises(UserError) as raised:
        TrainConfig(encoder=value)
    message = raised.value.message
    assert message.startswith(f"--encoder={value} is unknown; choose none, or ")
    assert all(name in message for name in encoders)


def test_known_encoders_are_accepted(encoders):
    value = ",".join([*encoders, encoders[-1]])
    assert TrainConfig(encoder=value).encoders == (*encoders, encoders[-1])


def test_text_columns_and_the_label_map_are_parsed():
    config = TrainConfig(text_column="title,body", label_map="1:neg,2:pos")
    assert config.text_columns == ("title", "body")
    assert config.label_mapping == {"1": "neg", "2": "pos"}
    assert TrainConfig().label_mapping == {}


@pytest.mark.parametrize(
    "settings",
    [{"text_column": name} for name in ("", "a,", ",a", "a,a", "a,label", "label")]
    + [{"label_map": text} for text in ("1", "1:", "1:a,1:b")],
)
def test_invalid_text_columns_and_label_maps_are_user_errors(settings):
    (name,) = settings
    with pytest.raises(UserError, match=f"{name}"):
        TrainConfig(**settings)
