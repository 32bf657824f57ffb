"""The data pipeline of the thesis (chapters 4.3 and 5.1) as stages: query, split, fetch.

Each reads the files of the one before and writes its own, whole, into a folder: so it can be run, repeated and looked
at alone, on this machine or as a step of Azure ML.
"""
