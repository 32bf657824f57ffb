"""Pre-training as a job: prepare the images, pre-train, publish the backbone, then adopt it or leave it a candidate.

All of its state is in `pretraining/` of the home folder. Each step can be killed at any moment and resumes at the next
call. Until the last step everything is served as before.
"""
