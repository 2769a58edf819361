"""Free host memory: limits of control groups and of the process."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cdjax.tiling.free_memory import free_in_cgroups, free_memory

MIB = 2**20


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def test_the_second_version_has_the_limits_of_a_group_and_of_those_around_it(
    tmp_path: Path,
) -> None:
    job = tmp_path / "slice/job"
    group(job, memory__max="max", memory__current=3 * MIB)
    group(
        job.parent,
        memory__max=10 * MIB,
        memory__current=8 * MIB,
        memory__stat=f"anon 5\ninactive_file {MIB}",
    )
    group(tmp_path, memory__max=50 * MIB, memory__current=9 * MIB)
    assert free_in_cgroups(tmp_path, "0::/slice/job\n") == [3 * MIB, 41 * MIB]
    # In a container the path is often that outside, and the root is the group.
    assert free_in_cgroups(tmp_path, "0::/docker/0123\n") == [41 * MIB]
    assert free_in_cgroups(tmp_path, "0::/../other\n") == [41 * MIB]


def test_the_first_version_has_a_hierarchy_for_memory(tmp_path: Path) -> None:
    files = {"memory__limit_in_bytes": 7 * MIB, "memory__usage_in_bytes": 5 * MIB}
    group(tmp_path / "memory/batch", **files, memory__stat=f"total_inactive_file {MIB}")
    group(tmp_path / "memory", memory__limit_in_bytes=2**63 - 4096, memory__usage_in_bytes=0)
    membership = "5:cpu,cpuacct:/batch\n4:hugetlb,memory:/batch\n"
    assert min(free_in_cgroups(tmp_path, membership)) == 3 * MIB
    assert free_in_cgroups(tmp_path, "5:cpu:/batch\n") == []


@pytest.mark.parametrize("text", ["", "0::/", "nonsense", "0::"])
def test_without_groups_there_is_no_limit(text: str, tmp_path: Path) -> None:
    assert free_in_cgroups(tmp_path / "none", text) == []
    (tmp_path / "memory.max").write_bytes(b"\xff")
    assert free_in_cgroups(tmp_path, text) == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")
@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_the_limits_of_the_process_are_seen(limit: str) -> None:
    assert 0 < free_memory() <= psutil.virtual_memory().total
    code = (
        "import resource, psutil; from cdjax.tiling.free_memory import free_memory;"
        "memory = psutil.Process().memory_info();"
        f"used = memory.vms if '{limit}' == 'RLIMIT_AS' else memory.data;"
        f"resource.setrlimit(resource.{limit}, (used + {100 * MIB},) * 2); print(free_memory())"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 90 * MIB < int(ended.stdout) <= 100 * MIB, ended.stderr
