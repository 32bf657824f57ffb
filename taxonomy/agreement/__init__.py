"""What several annotators agree on: `accepted_labels` decides, `reliability` measures and decides nothing."""

from taxonomist.taxonomy.agreement.accepted_labels import AgreementPolicy, Reason, Verdict, decide
from taxonomist.taxonomy.agreement.reliability import LevelAgreement, agreement_report

__all__ = ["AgreementPolicy", "LevelAgreement", "Reason", "Verdict", "agreement_report", "decide"]
