"""Self-contained pages: templates that escape what they show, and images inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .tables import number_text

if TYPE_CHECKING:
    import numpy as np
    from jinja2 import Template
    from numpy.typing import NDArray

MOST_PIXELS = 128
"""Larger images are made smaller for a page, or a few dozen would make it too large to open."""


def template(name: str, **filters: Callable[..., str]) -> Template:
    """A page of ``templates/``, with the filter ``number`` and others; a name that it lacks is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters, number=number_text)
    return environment.get_template(name)


def data_uri(image: NDArray[np.uint8]) -> str:
    """An image, uint8 (R, R, 3), as the PNG inside a ``data:`` address."""
    from PIL import Image

    shown = Image.fromarray(image)
    shown.thumbnail((MOST_PIXELS, MOST_PIXELS))
    stream = io.BytesIO()
    shown.save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
