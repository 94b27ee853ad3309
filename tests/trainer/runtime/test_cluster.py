"""TF_CONFIG, and the wait for the other workers."""

import contextlib
import json
import logging
import signal
import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RunError, UserError
from trainer.runtime import cluster as clusters
from trainer.runtime.cluster import Cluster, read_cluster
from trainer.runtime.replicas import open_replicas
from trainer.runtime.signals import Interrupted, StopSignals, use_stop

TWO = ["host1:2222", "host2:2222"]
WORKER_0 = {"type": "worker", "index": 0}


def configure(monkeypatch, content):
    monkeypatch.setenv("TF_CONFIG", content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize(
    ("jobs", "task", "number"),
    [
        ({"worker": TWO}, ("worker", 0), 0),
        ({"worker": TWO}, ("worker", "1"), 1),
        ({"worker": TWO, "chief": ["[::1]:9"]}, ("worker", 1), 2),
        ({"worker": TWO, "chief": ["a-b.c_d.svc:65535"]}, ("chief", 0), 0),
    ],
)
def test_the_chief_is_the_first_of_all_workers(monkeypatch, jobs, task, number):
    configure(
        monkeypatch, {"cluster": jobs, "task": dict(zip(("type", "index"), task, strict=True))}
    )
    addresses = (*jobs.get("chief", ()), *TWO)
    assert read_cluster() == Cluster(addresses, number)


JOBS_ONLY = "cluster is not an object with the jobs chief and worker only: "
NO_TASK = "task is not the type and the index of a worker in cluster: "
TASKS = [
    *(None, 1, {"type": "worker"}, {"type": "chief", "index": 0}, {"type": [], "index": 0}),
    *({"type": "worker", "index": index} for index in (2, -1, True, 0.5, "one", None)),
]
WRONG = [
    ("5", "it is not an object: 5"),
    ("[]", "it is not an object"),
    ("{cluster", "it is not JSON"),
    ("[" * 100_000, "it is not JSON"),
    ({"cluster": 5}, f"{JOBS_ONLY}5"),
    ({"cluster": {}}, f"{JOBS_ONLY}{{}}"),
    ({"cluster": {"worker": TWO, "ps": ["a:1"]}, "task": WORKER_0}, JOBS_ONLY),
    ({"cluster": {"worker": TWO}}, f"{NO_TASK}null"),
    *[({"cluster": {"worker": TWO}, "task": task}, NO_TASK + json.dumps(task)) for task in TASKS],
    ({"cluster": {"worker": TWO, "chief": TWO}, "task": WORKER_0}, "several chiefs"),
    ({"cluster": {"worker": ["a:1", "a:1"]}, "task": WORKER_0}, "address more than once"),
    ({"cluster": {"worker": ["a:1", "a"]}, "task": WORKER_0}, "not a list of addresses"),
    ({"cluster": {"worker": ["a:99999"]}, "task": WORKER_0}, "not a list of addresses"),
    ({"cluster": {"worker": [7]}, "task": WORKER_0}, "not a list of addresses"),
    ({"cluster": {"worker": "a:1"}, "task": WORKER_0}, "not a list of addresses"),
]


@pytest.mark.parametrize(("content", "problem"), WRONG)
def test_an_invalid_tf_config_is_explained_in_one_line(monkeypatch, content, problem):
    """In each function that reads it."""
    configure(monkeypatch, content)
    for distribute in ("auto", "multi_worker"):
        with pytest.raises(UserError) as caught:
            open_replicas(distribute)
        message = str(caught.value)
        assert problem in message
        assert "for example" in message
        assert "\n" not in message
        assert len(message) < 450


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
ADDRESSES = st.lists(st.sampled_from(["a:1", "b:2", "[::1]:3", "", "a:b", ":1"]) | JSON)
JOBS = st.dictionaries(st.sampled_from(["worker", "chief", "ps"]), ADDRESSES) | JSON
TASK = st.fixed_dictionaries({"type": st.sampled_from(["worker", "chief"]) | JSON, "index": JSON})


@given(st.fixed_dictionaries({"cluster": JOBS, "task": TASK | JSON}) | JSON)
def test_any_json_is_a_cluster_or_a_user_error(content):
    with pytest.MonkeyPatch.context() as patch:
        configure(patch, json.dumps(content))
        with contextlib.suppress(UserError):
            cluster = read_cluster()
            assert 0 <= cluster.index < len(set(cluster.addresses)) == len(cluster.addresses)


@pytest.fixture
def addresses():
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    names = tuple(f"127.0.0.1:{one.getsockname()[1]}" for one in sockets)
    for one in sockets:
        one.close()
    return names


def test_workers_that_start_at_different_times_find_each_other(addresses):
    found = []

    def start(number):
        Cluster(addresses, number).wait()
        # TensorFlow then opens the same port.
        server = socket.create_server(("", int(addresses[number].rpartition(":")[2])))
        found.append(number)
        while len(found) < len(addresses):
            time.sleep(0.01)
        server.close()

    threads = [threading.Thread(target=start, args=[n], daemon=True) for n in range(3)]
    for thread in threads:
        assert not found
        thread.start()
        time.sleep(0.3)
    for thread in threads:
        thread.join(timeout=20)
    assert sorted(found) == [0, 1, 2]


def test_the_wait_for_a_worker_that_does_not_start_ends_and_names_it(
    addresses, monkeypatch, caplog
):
    monkeypatch.setattr(clusters, "_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(clusters, "_SECONDS_BETWEEN_LOGS", 0.1)
    caplog.set_level(logging.INFO)
    with pytest.raises(RunError, match=f"worker 0 at {addresses[0]} .* and 1 more could not be"):
        Cluster(addresses, 2).wait()
    lines = [record.message for record in caplog.records]
    assert len(lines) >= 2
    assert lines[0].startswith(f"waiting for worker 0 at {addresses[0]} (Connection refused)")


def test_a_name_that_is_not_known_yet_is_waited_for(monkeypatch):
    monkeypatch.setattr(clusters, "_TIMEOUT_SECONDS", 0.0)
    with pytest.raises(RunError, match=r"worker 1 at no\.such\.host\.invalid:9 "):
        Cluster(("127.0.0.1:0", "no.such.host.invalid:9"), 0).wait()


def test_a_signal_ends_the_wait(addresses):
    stop = StopSignals()
    timer = threading.Timer(0.3, lambda: setattr(stop, "received", signal.SIGTERM))
    timer.start()
    with use_stop(stop), pytest.raises(Interrupted, match="SIGTERM"):
        Cluster(addresses, 0).wait()


def test_a_port_in_use_is_named(addresses):
    port = int(addresses[0].rpartition(":")[2])
    with socket.create_server(("", port)), pytest.raises(UserError, match=f"^port {port} of this "):
        Cluster(addresses, 0).wait()
