"""Pre-training as a job: prepare the pictures, pre-train, publish the backbone, adopt it or leave it a candidate.

All that it keeps is in `pretraining/` of the home folder. Each step can be killed at any moment and goes on at the next
call; until the last one everything is served as before.
"""
