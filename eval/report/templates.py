"""How every page is rendered: the templates beside this file, escaped by jinja2, in which an unknown name is an error."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_TEMPLATES = FileSystemLoader(Path(__file__).parent, encoding="utf-8")


def environment() -> Environment:
    """A new environment, to which a page may add its filters."""
    return Environment(loader=_TEMPLATES, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
