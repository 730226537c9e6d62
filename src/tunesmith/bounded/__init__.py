"""Work on what came from outside, in a process that can be killed.

A template, a file or a pattern of a stranger may ask for any amount of time and memory, often deep in code
that no Python can interrupt. What nothing else bounds is done by a ``Worker``: a small process with limits
that the kernel keeps, which knows nothing of the caller's environment.
"""

from tunesmith.bounded.worker import StoppedError, Worker

__all__ = ["StoppedError", "Worker"]
