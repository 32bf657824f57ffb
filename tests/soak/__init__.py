"""The soak: everything is killed, slow, full or gone for minutes, and at the end nothing that was answered is lost.

`python -m tests.soak --minutes 10` runs it by hand, `make soak` too; `test_soak` is a short one.
"""
