"""What to label next: an order of images, a share of which is drawn at random."""

from taxonomist.taxonomy.labelling_order.order import is_random_draw, labelling_order

__all__ = ["is_random_draw", "labelling_order"]
