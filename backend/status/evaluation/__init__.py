"""How a version did on the test images, which no version has learned from: as numbers, each with the images behind it.

Nothing is predicted again: a version keeps what it predicted for each of them.
"""
