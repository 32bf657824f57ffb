"""Label Studio's API, as far as the product needs it: values in, frozen dataclasses out, one kind of error."""

from taxonomist.backend.label_studio.client import LabelStudioClient
from taxonomist.backend.label_studio.records import MlBackend, Prediction, Project, Webhook

__all__ = ["LabelStudioClient", "MlBackend", "Prediction", "Project", "Webhook"]
