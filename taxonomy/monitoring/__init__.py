"""Whether suggestions keep their promise while annotators answer them.

`promise_watch` tests after each answer whether the precision has fallen below its target, and says which threshold
still holds. `blind_sample` draws the tasks that are left without a suggestion, so that annotators label them
uninfluenced.
"""

from taxonomist.taxonomy.monitoring.blind_sample import is_blind
from taxonomist.taxonomy.monitoring.promise_watch import PromiseWatch

__all__ = ["PromiseWatch", "is_blind"]
