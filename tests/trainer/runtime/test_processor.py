"""The number of usable cores: affinity and the CPU quotas of control groups."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.runtime import processor


def tree(root, cgroup, files):
    """Makes a /proc and a /sys of a machine."""
    for path, content in {"proc/self/cgroup": cgroup, **files}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    return root


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


V2 = "0::/kubepods/pod1/box\n"
V1 = "4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n0::/system.slice\n"


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        (V2, {}, 16),
        (V2, {"sys/fs/cgroup/kubepods/pod1/box/cpu.max": "200000 100000\n"}, 2),
        (V2, {"sys/fs/cgroup/kubepods/pod1/box/cpu.max": "150000 100000\n"}, 2),
        (V2, {"sys/fs/cgroup/kubepods/pod1/box/cpu.max": "10000 100000\n"}, 1),
        (V2, {"sys/fs/cgroup/kubepods/pod1/box/cpu.max": "6400000 100000\n"}, 16),
        (V2, {"sys/fs/cgroup/kubepods/pod1/box/cpu.max": "max 100000\n"}, 16),
        # Around a group without a quota there is one with it.
        (V2, {"sys/fs/cgroup/kubepods/cpu.max": "300000 100000\n"}, 3),
        # In a container's own namespace its group is the root.
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4),
        ("0::/../host\n", {"sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4),
        (
            V1,
            {
                "sys/fs/cgroup/cpu,cpuacct/docker/a/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/a/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            V1,  # the path is the host's, the files are the container's
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "50000\n",
            },
            2,
        ),
        (
            V1,
            {
                "sys/fs/cgroup/cpu/docker/a/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/docker/a/cpu.cfs_period_us": "100000\n",
            },
            16,
        ),
    ],
)
def test_a_quota_bounds_the_cores(tmp_path, cgroup, files, expected):
    assert processor.cores(tree(tmp_path, cgroup, files)) == expected


def test_without_control_groups_affinity_decides(tmp_path):
    assert processor.cores(tmp_path) == 16


@given(cgroup=st.text(max_size=60), quota=st.text(max_size=20))
def test_any_content_of_cgroup_files_gives_a_core_count(tmp_path_factory, cgroup, quota):
    root = tmp_path_factory.mktemp("root")
    tree(root, "", {"sys/fs/cgroup/cpu.max": ""})
    (root / "proc/self/cgroup").write_bytes(("0::/\n" + cgroup).encode("utf-8", "surrogatepass"))
    (root / "sys/fs/cgroup/cpu.max").write_bytes(quota.encode("utf-8", "surrogatepass"))
    assert 1 <= processor.cores(root) <= 16


def test_the_processor_has_a_name():
    assert processor.model().strip()
