"""An image in, a smaller image out: binary bodies through the gateway, both ways.

``curl --data-binary @photo.jpg localhost:3000/thumbnails/64 -o small.jpg``

Pillow comes from requirements.txt and is packaged with the code. The image
keeps its format and its proportions; neither side is longer than {size}.
"""

import base64
import io
import os
from typing import Any

from PIL import Image, UnidentifiedImageError

QUALITY = int(os.environ.get("QUALITY", "80"))


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    try:
        size = int(event["pathParameters"]["size"])
        if not 1 <= size <= 4096:
            raise ValueError
    except ValueError:
        return refusal("size must be a whole number of pixels from 1 to 4096")
    body = event.get("body") or ""
    data = base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
    try:
        image = Image.open(io.BytesIO(data))
        kind = image.format or "PNG"
        image.thumbnail((size, size))
    except (UnidentifiedImageError, OSError):
        return refusal("the body is not an image")
    result = io.BytesIO()
    image.save(result, kind, quality=QUALITY)
    return {
        "statusCode": 200,
        "headers": {"content-type": Image.MIME[kind]},
        "isBase64Encoded": True,
        "body": base64.b64encode(result.getvalue()).decode(),
    }


def refusal(reason: str) -> dict[str, Any]:
    return {"statusCode": 400, "headers": {"content-type": "text/plain"}, "body": reason}
