import os
import signal

import pytest

from steelyard_workflows.interrupts import deferred, restored


def test_ctrl_c_waits_for_a_step_that_must_be_whole() -> None:
    """The step finishes, then the interrupt is raised, and the handler is as before."""
    before, done = signal.getsignal(signal.SIGINT), False
    with pytest.raises(KeyboardInterrupt), deferred():
        os.kill(os.getpid(), signal.SIGINT)
        done = True
    assert done
    assert signal.getsignal(signal.SIGINT) == before


def test_a_handler_that_a_library_left_is_removed() -> None:
    """Ray Train replaces the handler of Ctrl-C."""
    before = signal.getsignal(signal.SIGINT)
    with restored():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGINT) == before
