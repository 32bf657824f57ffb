"""The data pipeline of the thesis (chapters 4.3 and 5.1) in stages: query, split, fetch.

Each stage reads the files of the former one and writes its own files, whole, into a folder. So each stage can be run,
repeated and checked alone, on this machine or as a step of Azure ML.
"""
