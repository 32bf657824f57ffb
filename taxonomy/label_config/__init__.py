"""Label Studio's labelling config.

`parsing` reads it, `tags` has its elements, `notes` say what of it is not learned, and `writing` writes one.
`image_value` fills in the address of an `<Image>` from the data of a task, and `visibility` says which controls an
annotator sees. `former_nodes` are those that a config had once.
"""

from taxonomist.taxonomy.label_config.parsing import LabelConfig, parse_label_config
from taxonomist.taxonomy.label_config.writing import write_label_config

__all__ = ["LabelConfig", "parse_label_config", "write_label_config"]
