"""What reaches the log of a process, whatever library wrote it."""

from __future__ import annotations

import subprocess
import sys

import pytest

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


FORGED = "2026-11-27 10:00:00,000 ERROR   taxonomist: forged"
CONTROLS = [
    "\n",
    "\r",
    "\v",
    "\f",
    "\x1c",
    "\x85",
    "\u2028",
    "\u2029",
    "\x1b[2K",
    "\x9b2K",
    "\b",
    "\x00",
    "\u202e",
    "\u2066",
    "\u200f",
]
CONTROLS += ["\ufeff", "\u200b", "\u061c", "\U000e0041", "\ud800"]


@pytest.mark.parametrize(
    "statement",
    [
        "log.warning('%s', TEXT)",
        "log.warning('text', exc_info=OSError(TEXT))",
        "raise OSError(TEXT)",
        "threading.Thread(target=fail, args=(OSError(TEXT),)).start()",
        """
try:
    try:
        fail(ValueError(TEXT))
    except ValueError as error:
        raise KeyError(TEXT) from error
except KeyError:
    try:
        fail(ExceptionGroup(TEXT, [OSError(TEXT), ExceptionGroup("b", [ValueError(TEXT)])]))
    except ExceptionGroup as group:
        group.add_note(TEXT)
        log.exception("text")
""",
        "log.error('text', exc_info=SyntaxError(TEXT, (TEXT, 1, 1, TEXT)))",
        "log.error('text', exc_info=type(TEXT.replace(chr(0), '').replace('\\ud800', ''), (Exception,), {})())",
        "logging.getLogger('gunicorn.error').error(TEXT)",
    ],
)
def test_no_text_from_outside_begins_a_line_or_controls_a_terminal(statement: str) -> None:
    text = "".join(f"{control}{FORGED}" for control in CONTROLS)
    before = f"import threading\nTEXT = {text!r}\ndef fail(error): raise error\n"
    program = PROGRAM.format(statement=f"{before}{statement}")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True)
    shown = done.stderr.decode()
    assert FORGED in shown
    lines = shown.splitlines()  # at all that Python takes for a line break
    assert not [line for line in lines if line.lstrip().startswith(FORGED[:10]) and "forged" in line[:60]]
    assert "".join(lines).isprintable()


def test_a_traceback_stays_readable() -> None:
    statement = """
def inner(): raise ValueError("Größe　XL")
try:
    inner()
except ValueError as error:
    try:
        raise RuntimeError("b") from error
    except RuntimeError:
        log.exception("text")
"""
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(statement=statement)], capture_output=True)
    lines = done.stderr.decode().splitlines()
    assert [line for line in lines if not line.startswith("    ")] == [
        lines[0],
        "Traceback (most recent call last):",
        '  File "<string>", line 9, in <module>',
        '  File "<string>", line 7, in inner',
        "ValueError: Größe　XL",
        "which led to:",
        "Traceback (most recent call last):",
        '  File "<string>", line 12, in <module>',
        "RuntimeError: b",
    ]
