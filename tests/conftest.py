"""What holds for all tests."""

from __future__ import annotations

import signal

# A shell starts what runs in its background with SIGINT ignored, and children inherit that: tests that
# interrupt a process would wait for ever. A handler of Python's is the default again in every child.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
