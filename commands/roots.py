"""Which registry a command works on.

``--registry DIR``; else ``$RLHF_REGISTRY``; else ``registry/`` of the project folder one stands in (the nearest folder
upwards that holds ``rlhf-project.yaml``); else ``./rlhf-registry``.
"""

import os
from pathlib import Path

from registry.store import Registry

PROJECT_FILE = "rlhf-project.yaml"


def open_registry(option: Path | None) -> Registry:
    """The registry that ``--registry`` (None when not given) and the surroundings name; it may not exist yet."""
    if option is not None:
        return Registry(option)
    if os.environ.get("RLHF_REGISTRY"):
        return Registry(os.environ["RLHF_REGISTRY"])
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / PROJECT_FILE).is_file():
            return Registry(folder / "registry")
    return Registry("rlhf-registry")
