"""What helps a person to label an image: suggestions, and look-alikes in groups; the panel and the Python API show it.

`content` has its types, `assemble` puts it together, and `find` finds it for an image.
"""

from taxonomist.backend.prediction.assistance.content import (
    Assistance,
    LookAlikeGroup,
    Offer,
    Offers,
    OffersKind,
    ShownLookAlike,
)
from taxonomist.backend.prediction.assistance.find import assist, assist_with
from taxonomist.backend.prediction.no_suggestion import Reason

__all__ = [
    "Assistance",
    "LookAlikeGroup",
    "Offer",
    "Offers",
    "OffersKind",
    "Reason",
    "ShownLookAlike",
    "assist",
    "assist_with",
]
