"""The number of usable cores, and the name of the processor."""

import os

from trainer.runtime import processor


def test_the_cores_are_at_most_those_of_the_affinity(monkeypatch):
    assert 1 <= processor.cores() <= processor.affinity()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert processor.cores() == processor.affinity() == 1


def test_the_processor_has_a_name():
    assert processor.model().strip()
