"""Run a command that must end with the process that started it: `python end_with_parent.py PROGRAM ARGUMENT...`.

That process keeps the other end of our standard input open. When it closes, even by `kill -9`, the whole process group
is killed. The file imports nothing of the project, so that any python can run it.
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
    signal.signal(signal.SIGTERM, lambda *_: None)  # the whole group gets it, also the program: wait for its end
    threading.Thread(target=_end_with_starter, daemon=True).start()
    status = child.wait()
    sys.exit(status if status >= 0 else 128 - status)
