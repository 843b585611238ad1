"""One image file -> an array: formats, depths, palettes, transparency, rotation, and what is refused."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fovea.data.pixels import as_array
from fovea.data.tree import suffix_of

IMAGE_SUFFIXES = {
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm", ".pnm", ".pbm",
}  # fmt: skip
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MAX_PIXELS = 50_000_000
MIN_SIDE = 2
MAX_FILE_BYTES = 2**28
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"P5", b"P6")
_DEEP_MODES = {"I;16", "I;16B", "I;16L", "I;16N", "I", "F"}
_GREY_MODES = {"1", "L", "LA", "La"}
_ORIENTATION = 0x0112  # the EXIF tag
_SIDEWAYS = (5, 6, 7, 8)  # its values for images that lie on their side
# A large JPEG is decoded at the smallest of its built-in scales that is still so many times larger than asked for.
_JPEG_RESERVE = 3

Kind = Literal["grey", "colour", "deep"]
Mode = Literal["L", "RGB", "F"]
_EXIF_KEYS = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")

# All that Pillow and its codecs raise on damaged files.
DECODE_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    EOFError,
    RuntimeError,
    AttributeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


@dataclass(frozen=True)
class Header:
    """What a file says of its image: height and width after EXIF rotation, and what its values are."""

    height: int
    width: int
    kind: Kind


def has_image_suffix(name: str) -> bool:
    """Whether a name ends like an image file's."""
    return suffix_of(name.strip().replace("\\", "/")) in IMAGE_SUFFIXES


def begins_as_image(head: bytes) -> bool:
    """Whether the first bytes of a file are those of an image format that is read."""
    return head.startswith(_MAGIC) and (not head.startswith(b"RIFF") or head[8:12] == b"WEBP")


@contextmanager
def strict_pillow() -> Iterator[None]:
    """Pillow's warning of huge images is an error here; its other warnings concern nobody."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def read_header(content: bytes) -> Header:
    """Look at an image that can be decoded.

    Raises:
        One of DECODE_ERRORS: when it is none of FORMATS, is damaged, animated, too large or too small.
    """
    with _opened(content) as picture:
        header = _header(picture, _orientation(picture))
        picture.draft(None, (1, 1))  # a JPEG at an eighth of its size
        picture.load()
        return header


def _opened(content: bytes) -> Image.Image:
    if not content:
        raise ValueError("is empty (0 bytes)")
    try:
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(
            f"is no image in a format that is read ({', '.join(FORMATS)}), or its header is damaged"
        ) from None
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"claims {width} x {height} pixels, over the limit of {MAX_PIXELS:,}")
    if min(width, height) < MIN_SIDE:
        raise ValueError(f"is {width} x {height} pixels: nothing can be seen in it")
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":  # phones append previews to photos: their first frame is the photo
        raise ValueError(f"holds {frames} frames: save the one that is meant")
    return picture


def _header(picture: Image.Image, orientation: int) -> Header:
    width, height = picture.size[::-1] if orientation in _SIDEWAYS else picture.size
    return Header(height, width, _kind(picture))


def _orientation(picture: Image.Image) -> int:
    if picture.format != "TIFF" and not any(key in picture.info for key in _EXIF_KEYS):
        return 1  # getexif would say the same, ten times slower
    return int(picture.getexif().get(_ORIENTATION, 1))


def _kind(picture: Image.Image) -> Kind:
    if picture.mode in _DEEP_MODES:
        return "deep"
    if picture.mode in _GREY_MODES or (picture.mode == "P" and _is_grey_palette(picture)):
        return "grey"
    return "colour"


def _is_grey_palette(picture: Image.Image) -> bool:
    palette = picture.palette
    if palette is None or "transparency" in picture.info:
        return False
    mode, colours = palette.getdata()
    step = len(palette.mode)
    if palette.mode not in ("RGB", "RGBA") or not mode.startswith("RGB"):
        return False
    table = np.frombuffer(colours, np.uint8)
    table = table[: len(table) // step * step].reshape(-1, step)
    return bool((table[:, 0] == table[:, 1]).all() and (table[:, 0] == table[:, 2]).all())


def decode(content: bytes, size: tuple[int, int] | int, mode: Mode | Literal["own"]) -> tuple[Header, NDArray[Any]]:
    """Decode an image to [height, width, channels].

    Rotation by EXIF is undone, transparent pixels are laid on white, 16-bit images among 8-bit ones lose their low
    byte, and an image of another size is resized, bilinear with antialiasing.

    Args:
        content: of the file.
        size: height, width of the result; or one number: the aspect is kept, and the longer side is at most so long.
        mode: "L" (uint8, one channel), "RGB" (uint8, three) or "F" (float32, one channel, values as they are); "own":
            "RGB" for images in colour, "L" for others.

    Returns:
        What the file said of its image, and the image.

    Raises:
        One of DECODE_ERRORS.
    """
    with _opened(content) as opened:
        orientation = _orientation(opened)
        header = _header(opened, orientation)
        height, width = size if isinstance(size, tuple) else _within(header, size)
        if mode == "own":
            mode = "RGB" if header.kind == "colour" else "L"
        if opened.format in ("JPEG", "MPO") and mode != "F":
            opened.draft(None, (width * _JPEG_RESERVE, height * _JPEG_RESERVE))
        if opened.mode == "I" and opened.format == "TIFF" and mode != "F":
            raise ValueError("holds 32-bit values, the others 8-bit ones: convert them to one form")
        opened.load()
        picture: Image.Image = opened if orientation == 1 else ImageOps.exif_transpose(opened)
        picture = _as_float(picture) if mode == "F" else _eight_bit(picture)
        if mode != "F" and picture.mode != mode:
            picture = picture.convert(mode)
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        return header, np.asarray(picture)[..., None] if mode == "F" else as_array(picture)


def _within(header: Header, longest: int) -> tuple[int, int]:
    """Height and width of an image whose longer side is at most `longest`, its aspect kept."""
    scale = min(1.0, longest / max(header.height, header.width))
    return max(1, round(header.height * scale)), max(1, round(header.width * scale))


def _as_float(picture: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(picture).astype(np.float32))


def _eight_bit(picture: Image.Image) -> Image.Image:
    if picture.mode == "F":
        raise ValueError("holds floats, the others whole numbers: convert them to one form")
    if picture.mode.startswith("I"):
        return Image.fromarray((np.asarray(picture).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))
    if picture.mode in {"LA", "La", "RGBA", "RGBa", "PA"} or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return picture
