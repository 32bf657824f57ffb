"""What several annotators agree on: `accepted_labels` decides, by counting them or by weighing them with `dawid_skene`.

`reliability` and `guessing` measure and decide nothing.
"""

from taxonomist.taxonomy.agreement.accepted_labels import (
    PROBABLE,
    AgreementPolicy,
    Reason,
    Verdict,
    Weights,
    answers_of,
    decide,
)
from taxonomist.taxonomy.agreement.answer_table import Answer, ImageAnswers
from taxonomist.taxonomy.agreement.dawid_skene import AnnotatorRates, fit
from taxonomist.taxonomy.agreement.guessing import AnnotatorSkill, skills
from taxonomist.taxonomy.agreement.reliability import LevelAgreement, agreement_report

__all__ = [
    "PROBABLE",
    "AgreementPolicy",
    "AnnotatorRates",
    "AnnotatorSkill",
    "Answer",
    "ImageAnswers",
    "LevelAgreement",
    "Reason",
    "Verdict",
    "Weights",
    "agreement_report",
    "answers_of",
    "decide",
    "fit",
    "skills",
]
