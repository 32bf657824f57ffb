"""How a version did on its test images, from which it has not learned: as numbers, each with the images behind it.

Nothing is predicted again: a version keeps what it predicted for each of them.
"""
