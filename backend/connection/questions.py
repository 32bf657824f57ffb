"""What `connect` asks about a project: what names its products, and how many annotators must agree."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from taxonomist.backend.connection.settings import change_settings
from taxonomist.backend.labelling.products import PATTERNS, ProductImage, name_like_fields, propose_product_field
from taxonomist.backend.services import Services
from taxonomist.taxonomy.errors import ConfigError

SAMPLE = 1000  # tasks that a proposal looks at
_NOTHING = "-"  # an empty answer takes the proposal

Choose = Callable[[str, str], str]
"""Returns the answer to a question, the second text is the proposed one; "" for none."""
Say = Callable[[str], None]


def ask_settings(
    services: Services,
    project: str,
    *,
    product_field: str | None,
    annotators: int | None,
    choose: Choose | None,
    say: Say,
    asked: bool = True,
) -> None:
    """Keep what was given, and ask by `choose` for what is set neither for the project nor in the environment.

    Without `choose` nothing is asked; `asked` says that a person answers, not `--yes`. A wrong answer is asked again.
    Raises `ConfigError` for a wrong given value, and `LabelStudioError`.
    """
    given = {"product_field": product_field, "annotators": annotators}
    change_settings(services, project, [f"{name}={value}" for name, value in given.items() if value is not None])
    record, settings = services.projects.get(project), services.settings
    if choose is None:
        return
    if record.settings.product_field is None and settings.product_field is None:
        _ask_product_field(services, project, choose, say, asked=asked)
    if record.settings.annotators is None and "min_annotators" not in settings.model_fields_set:
        _ask(services, project, "annotators", "How many annotators must name a path?", _annotators, choose, say)


def _annotators(services: Services, project: str) -> str:
    return str(services.project_settings(project).annotators)


def _ask_product_field(services: Services, project: str, choose: Choose, say: Say, *, asked: bool) -> None:
    images = _sample(services, project)
    proposal = propose_product_field(images, _classes(services, project), asked=asked) if images else None
    fields = ", ".join(name_like_fields(images))
    question = (
        f"What names the product (or service report) of an image: a field of its task ({fields or 'there is none'}), "
        f"or a pattern of the file name ({', '.join(PATTERNS)})? Type {_NOTHING} if nothing does"
    )
    _ask(services, project, "product_field", question, lambda *_: proposal or "", choose, say)
    chosen = services.project_settings(project).product_field
    if chosen is None:
        say("The products are not known: near-duplicates count as one, and every figure says 'products unknown'.")
    else:
        products = len({product for image in images if (product := image.product(chosen))})
        say(f"Products are named by {chosen}: {products} in the first {len(images)} tasks.")


def _ask(
    services: Services,
    project: str,
    name: str,
    question: str,
    propose: Callable[[Services, str], str],
    choose: Choose,
    say: Say,
) -> None:
    proposal = propose(services, project)
    while True:
        answer = choose(question, proposal).strip()
        answer = "" if answer == _NOTHING else answer
        try:
            if answer != (str(getattr(services.project_settings(project), name) or "")):
                change_settings(services, project, [f"{name}={answer}"])
        except ConfigError as error:
            say(str(error))
            if answer == proposal:  # by --yes, which would give the same answer again
                return
        else:
            return


def _sample(services: Services, project: str) -> list[ProductImage]:
    config = services.label_config(project)
    with services.open_label_studio(project) as client:
        tasks = list(islice(client.tasks(project), SAMPLE))
    return [ProductImage(task["data"], next(iter(config.addresses(task["data"]).values()), "")) for task in tasks]


def _classes(services: Services, project: str) -> int:
    """Return the number of leaves of the project's largest taxonomy."""
    return max(int(tree.is_leaf.sum()) for tree in services.label_config(project).trees)
