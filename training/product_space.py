"""What images of known products teach without labels: the sums over them, and the space in which a head may learn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from taxonomist.inference.heads.features import Array, ProductProjection, features
from taxonomist.taxonomy.groups.projection import ProductScatter, discriminants

DIRECTIONS = 512
FEWEST_PRODUCTS = 20
"""With two images or more that teach."""

SHARES = 5
"""Of the products, each left out of one more space."""

MOST_OF_A_PRODUCT = 20
_BATCH = 1_000


@dataclass(frozen=True)
class TaughtSpace:
    """A space of up to `DIRECTIONS` numbers, and how many products and images have taught it.

    Its directions are those in which products differ most, relative to their images (`discriminants`). `without` are
    the spaces that products teach without one share of them, and `shares` has the number of it by product. There
    models predict for products from which nothing was learned; in the whole space they would be too sure.
    """

    space: ProductProjection
    products: int
    images: int
    without: tuple[ProductProjection, ...] = ()
    shares: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        scatter: ProductScatter | None,
        by_share: Iterable[ProductScatter | None] = (),
        shares: Mapping[str, int] | None = None,
    ) -> TaughtSpace | None:
        """Return what products teach, None where there are fewer than `FEWEST_PRODUCTS`, or 2 without a share.

        `by_share` are the sums over the products of each share, which are taken one at a time.
        """
        if scatter is None or scatter.products < FEWEST_PRODUCTS:
            return None
        space = _space(scatter)
        without = []
        for part in by_share:
            rest = scatter - part if part else scatter
            if rest.products < 2:
                return None
            without.append(_space(rest) if part else space)
        return cls(space, scatter.products, scatter.images, tuple(without), shares or {})

    @property
    def all(self) -> tuple[ProductProjection, ...]:
        """The space, and those without a share."""
        return self.space, *self.without


def _space(scatter: ProductScatter) -> ProductProjection:
    matrix = discriminants(scatter, min(DIRECTIONS, scatter.products - 1))
    return ProductProjection.of_scatter(scatter, matrix)


def scatter_of(batches: Iterable[tuple[Array, Sequence[str]]]) -> ProductScatter | None:
    """Return the sums over batches of whole products: embeddings (n, d) and the product of each. None without any."""
    total = None
    for embeddings, products in batches:
        sums = ProductScatter.of(features(embeddings), products)
        total = sums if total is None else total + sums
    return total


def batches_of(products: Mapping[str, Sequence[str]], most: int) -> Iterator[list[tuple[str, str]]]:
    """Yield pairs of product and image, whole products in each batch, until there are `most` images.

    `products` has the images by product; at most `MOST_OF_A_PRODUCT` of each are used.
    """
    batch: list[tuple[str, str]] = []
    for product, images in products.items():
        if most <= 0:
            break
        chosen = images[:MOST_OF_A_PRODUCT]
        batch += [(product, image) for image in chosen]
        most -= len(chosen)
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
