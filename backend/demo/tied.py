"""Runs a command that must not outlive whoever started it: `python tied.py PROGRAM ARGUMENT...`.

The starter keeps the other end of our standard input open. When it closes, even by `kill -9`, the whole process group
is ended. Imports nothing of ours, so that any python can run it at once.
"""

import os
import signal
import subprocess
import sys
import threading


def _end_with_starter() -> None:
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)  # noqa: S603 - what our starter chose
    signal.signal(signal.SIGTERM, lambda *_: None)  # the group gets it, so the program too: wait for its own end
    threading.Thread(target=_end_with_starter, daemon=True).start()
    status = child.wait()
    sys.exit(status if status >= 0 else 128 - status)
