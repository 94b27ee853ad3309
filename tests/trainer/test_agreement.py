"""One worker of a run when another one fails, is stopped, or differs."""

import signal
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.errors import RunError, UserError
from trainer.agreement import check_same_settings
from trainer.runtime.replicas import one_replica
from trainer.runtime.signals import Interrupted


@pytest.fixture
def cluster(monkeypatch):
    """The replicas of worker 0 of three; cluster(1, 2) has the others gather these numbers."""
    replicas = one_replica()
    replicas.is_cluster, replicas._num_workers = True, 3

    def cluster(*others):
        of_each = lambda own: np.stack([own, *(np.broadcast_to(n, len(own)) for n in others)])  # noqa: E731
        monkeypatch.setattr(replicas, "all_gather", of_each)
        return replicas

    return cluster


def test_workers_continue_if_none_fails(cluster):
    with cluster(0, 0).fail_together():
        pass


def test_a_signal_in_another_worker_stops_this_one(cluster):
    with pytest.raises(Interrupted, match="SIGTERM"), cluster(0, signal.SIGTERM).fail_together():
        pass


def test_a_failure_of_another_worker_ends_this_one_and_names_it(cluster):
    with (
        pytest.raises(RunError, match="worker 2 of the run has failed"),
        cluster(0, 1000).fail_together(),
    ):
        pass


@pytest.mark.parametrize(
    "error", [Interrupted(signal.SIGINT), UserError("no file"), ValueError("x")]
)
def test_a_failure_is_raised_after_the_other_workers_are_informed(cluster, error):
    sent = []
    replicas = cluster(1000, signal.SIGTERM)
    gather = replicas.all_gather
    replicas.all_gather = lambda own: sent.append(own) or gather(own)
    with pytest.raises(type(error)) as caught, replicas.fail_together():
        raise error
    assert caught.value is error
    assert sent == [[signal.SIGINT if isinstance(error, Interrupted) else 1000]]


def test_a_lost_worker_does_not_hide_a_failure_of_this_one(cluster):
    replicas = cluster(0, 0)

    def lost(_):
        raise RunError("gone")

    replicas.all_gather = lost
    with pytest.raises(UserError, match="no file"), replicas.fail_together():
        raise UserError("no file")


def test_settings_of_a_machine_are_not_compared(small_config):
    compared = {}
    check_same_settings(SimpleNamespace(check_equal=compared.update), small_config)
    assert "--seed" in compared
    assert not {"--data_dir", "--cache_dir", "--cache_gb", "--distribute"} & set(compared)


def test_only_values_that_differ_are_named(cluster):
    replicas, rows = cluster(), []
    replicas.all_gather = lambda own: rows.append(own) or np.stack([own, own, own])
    replicas.check_equal({"--seed": 1, "--units": 8})
    numbers = np.array(rows[1]).reshape(2, -1)
    assert numbers.max() < 2**16
    other = numbers.copy()
    other[1, -1] ^= 1
    gathered = iter([np.stack([rows[0]] * 3), np.stack([numbers, numbers, other]).reshape(3, -1)])
    replicas.all_gather = lambda _: next(gathered)
    with pytest.raises(UserError, match=r"differ in units: worker 2 and worker 0 .* has '8'"):
        replicas.check_equal({"--seed": 1, "--units": 8})


def test_other_program_versions_are_noticed_before_values_are_compared(cluster):
    with pytest.raises(UserError, match="differ in the version of the program: worker 1, 2 and"):
        cluster(1, 2).check_equal({"--seed": 1})
