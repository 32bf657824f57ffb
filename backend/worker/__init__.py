"""The worker process: it decides labels, schedules trainings and runs jobs."""
