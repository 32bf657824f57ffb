"""What people have labelled in one action, so that it can be continued and undone."""

from taxonomist.backend.state.bulk_labels.actions import (
    FILE,
    MOST_ACTIONS,
    ActionState,
    BulkAction,
    BulkActions,
    BulkItem,
    ItemState,
)

__all__ = ["FILE", "MOST_ACTIONS", "ActionState", "BulkAction", "BulkActions", "BulkItem", "ItemState"]
