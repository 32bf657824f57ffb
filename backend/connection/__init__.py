"""The connection to a Label Studio project: register the backend, add the panel, push predictions, run the doctor."""
