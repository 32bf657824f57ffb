"""Fuzzing of the server over HTTP, with recorded requests of Label Studio as seeds.

`python -m tests.fuzz --requests 100000` runs it by hand, `make fuzz` too; `test_fuzz` is a short one.
"""
