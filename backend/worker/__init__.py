"""The worker: it decides labels, schedules trainings and runs jobs."""
