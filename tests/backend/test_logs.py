"""What reaches the log of a process, whatever library wrote it."""

from __future__ import annotations

import subprocess
import sys

SECRET = "s3cr3t"
PROGRAM = """
import logging
from taxonomist.backend.logs import set_up_logging
set_up_logging("DEBUG")
log = logging.getLogger("urllib3.connectionpool")
{statement}
"""


STATEMENTS = r"""
log.debug('%s://%s:%s "%s %s"', "https", "h.test", 443, "GET", "/a?sig=s3cr3t")
log.warning("retry %r", "https://u:s3cr3t@h.test/a")
log.error("failed", exc_info=OSError("https://h.test/a?sig=s3cr3t"))
try:
    raise ValueError("GET https://u:s3cr3t@h.test") from OSError("/c/a?token=s3cr3t")
except ValueError:
    log.exception("job %d", 5)
log.warning("does not fit %d", "https://h.test/a?sig=s3cr3t")
log.warning({"url": "https://h.test/a?sig=s3cr3t"})
handler = logging.StreamHandler()
handler.setFormatter(logging.Formatter("%(msg)s %(args)s %(message)s"))
log.addHandler(handler)
log.warning("https://h.test/a?%s", "sig=s3cr3t")
"""


def test_no_secret_of_an_address_is_logged() -> None:
    command = [sys.executable, "-c", PROGRAM.format(statement=STATEMENTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.count("WARNING urllib3.connectionpool") == 4
    assert "ValueError: GET https://h.test" in done.stderr
    assert SECRET not in done.stderr


def test_a_message_begins_no_line_of_its_own() -> None:
    statement = r'log.warning("a\n2026-11-27 ERROR forged\r\x1b[31m\u2028%s", "\x85b")'
    command = [sys.executable, "-c", PROGRAM.format(statement=statement)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    [line] = done.stderr.splitlines()
    assert r"a\n2026-11-27 ERROR forged\r\x1b[31m" in line
