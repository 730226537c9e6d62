from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith.files import locked
from tunesmith.types import InputError

HOLD = """
import sys, time
from pathlib import Path
from tunesmith.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_and_a_killed_one_leaves_nothing_locked(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=f"in use by process {holder.pid} on ") as caught, locked(folder):
            pytest.fail("the lock was given twice")
        assert "since 20" in str(caught.value)
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    assert (folder / ".lock-holder.json").exists(), "the killed holder cleaned up, so that nothing was tested"
    with locked(folder):
        assert str(os.getpid()) in (folder / ".lock-holder.json").read_text()
    assert not (folder / ".lock-holder.json").exists()


def test_one_process_cannot_take_it_twice_but_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        with pytest.raises(InputError, match="in use"), locked(tmp_path):
            pytest.fail("the lock was given twice")
        raise ZeroDivisionError
    with locked(tmp_path):
        (tmp_path / ".lock-holder.json").write_text("rubbish")
        with pytest.raises(InputError, match="another process"), locked(tmp_path):
            pytest.fail("the lock was given twice")
