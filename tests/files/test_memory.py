"""The limits of a process: what they leave of memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith.files.memory import own_limits

READ = """
import resource
from pathlib import Path
from tunesmith.files.memory import free_memory, own_limits
status = Path("/proc/self/status")
resource.setrlimit(getattr(resource, "{name}"), (2**40, 2**40))
(loose,) = own_limits(status)
assert 2**39 < loose < 2**40, loose
resource.setrlimit(getattr(resource, "{name}"), (2**29, 2**29))
(left,) = own_limits(status)
assert 0 < left < 2**29, left
assert 0 < free_memory() <= 2**29
print("right")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="they are read from /proc")
@pytest.mark.parametrize("name", ["RLIMIT_DATA", "RLIMIT_AS"])
def test_limits_of_a_process_count_as_the_memory_that_there_is(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", READ.format(name=name)], capture_output=True, text=True, check=False)
    assert done.stdout == "right\n", done.stderr


def test_where_nothing_is_told_nothing_is_known(tmp_path: Path) -> None:
    assert own_limits(tmp_path / "status") == []
    (tmp_path / "status").write_text("Name:\tsomething\n\nVmData:\n", encoding="utf-8")
    assert own_limits(tmp_path / "status") == []
