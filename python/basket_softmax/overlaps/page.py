"""A page that shows the images of each pair side by side, for a person to accept or reject: one HTML file, no network.

page.html is the page; this fills in its data. Images become JPEG thumbnails in data URIs, their number is bounded.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from bbs_kernels.validate import positive_int

from ..data import ImageBasket
from ..data.image import upright_8_bit
from ..replacing import replacing
from .find import Overlaps

if TYPE_CHECKING:
    from PIL import Image

THUMBNAIL = 112  # pixels of the longer side, as high as the page shows it
QUALITY = 85  # of the JPEGs: a few kB each


def write_page(
    path: str | os.PathLike[str],
    overlaps: Overlaps,
    baskets: Sequence[ImageBasket],
    *,
    max_pairs: int = 200,
    images_per_class: int = 4,
) -> int:
    """Write the page; a file that is there is replaced.

    Args:
        path: the HTML file.
        overlaps: pairs, in the order in which they are shown.
        baskets: the images, in the order of the head's classes.
        max_pairs: the first so many are shown, so the page holds at most 2 * max_pairs * images_per_class images.
        images_per_class: evenly spread over the images of a class.

    Returns:
        The number of pairs shown.

    Raises:
        UnreadableImage: an image is missing or damaged.
        ValueError: a bound is below 1.
    """
    max_pairs = positive_int("max_pairs", max_pairs)
    images_per_class = positive_int("images_per_class", images_per_class)
    shown = overlaps.select(np.arange(min(max_pairs, len(overlaps.first))))
    offsets = np.cumsum([0, *(len(basket.identities) for basket in baskets)])
    classes = {}
    for c in np.unique(np.concatenate((shown.first, shown.second))).tolist():
        b = int(np.searchsorted(offsets, c, side="right")) - 1
        classes[str(c)] = _class(baskets[b], c - int(offsets[b]), images_per_class)
    pairs = [
        {
            "a": str(a),
            "b": str(b),
            "cosine": float(cosine),
            "confidence": None if np.isnan(confidence) else float(confidence),  # JSON has no NaN
        }
        for a, b, cosine, confidence in zip(*shown, strict=True)
    ]
    data: dict[str, Any] = {
        "pairs": pairs,
        "classes": classes,
        "more": _more(len(overlaps.first) - len(pairs)),
    }
    data["id"] = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
    # Inside a script element only "</" could end the data early; JSON may escape the slash.
    text = json.dumps(data).replace("</", "<\\/").replace("<!--", "<\\u0021--")
    template = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    with replacing(path) as file:
        file.write(template.replace("$data", text))
    return len(pairs)


def _more(left: int) -> str:
    if left == 0:
        return ""
    return "The other pair is in the CSV." if left == 1 else f"The other {left:,} pairs are in the CSV."


def _class(basket: ImageBasket, label: int, number: int) -> dict[str, Any]:
    images = basket.images_of(label)
    chosen = images[np.unique(np.linspace(0, len(images) - 1, min(number, len(images))).round().astype(int))]
    return {
        "basket": basket.name,
        "identity": basket.identities[label],
        "count": len(images),
        "images": [_shown(basket, int(i)) for i in chosen],
    }


def _shown(basket: ImageBasket, number: int) -> dict[str, str]:
    where = basket.where(number)
    return {"data": _thumbnail(upright_8_bit(basket.image(number), where)), "where": where}


def _thumbnail(image: Image.Image) -> str:
    image = image.convert("L" if image.mode in ("1", "L") else "RGB")
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode()
