"""The home folder as a whole: its version, and the migrations of older homes.

`versions` opens a home; `migrations` lists the steps from each version to the next.
"""
