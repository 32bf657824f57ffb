"""Label Studio: its API as a client with frozen dataclasses and one kind of error, and the bodies that it sends."""

from taxonomist.backend.label_studio.client import LabelStudioClient
from taxonomist.backend.label_studio.records import MlBackend, Prediction, Project, Webhook

__all__ = ["LabelStudioClient", "MlBackend", "Prediction", "Project", "Webhook"]
