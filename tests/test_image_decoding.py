"""Files become the pixels that were put into them, or an error that names the file."""

import os
import pickle
import re
import struct
import threading
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngInfo

from sklearn_protopnet._images._decoding import Header, decode, read_header, read_image

GREY = np.array([[0, 40, 80], [120, 160, 200]], np.uint8)  # (2, 3), no two pixels alike

# What each orientation in EXIF shows of GREY.
SHOWN = {
    1: [[0, 40, 80], [120, 160, 200]],
    2: [[80, 40, 0], [200, 160, 120]],
    3: [[200, 160, 120], [80, 40, 0]],
    4: [[120, 160, 200], [0, 40, 80]],
    5: [[0, 120], [40, 160], [80, 200]],
    6: [[120, 0], [160, 40], [200, 80]],
    7: [[200, 80], [160, 40], [120, 0]],
    8: [[80, 200], [40, 160], [0, 120]],
}

STARTS = [
    *(b"BMxxx", b"P5\nxx", b"II*\0x", b"MM\0*x", b"GIF89", b"\x89PNG\r", b"\xff\xd8\xff\xe0x"),
    *(b"\0\0\1\0x", b"\0\0\2\0x", b"\n\5\1xx", b"8BPSx", b"RIFFx", b"DDS x", b"\xff\x4f\xff\x51x"),
]

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def exif(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def raw_exif(orientation, order=">", kind=3, tag=0x0112):
    """Header, an entry of the width, that of the orientation and the end, put together by hand."""
    layout = {3: "HH", 4: "I"}[kind]
    values = (orientation, 0) if kind == 3 else (orientation,)
    return (
        {">": b"MM\0*", "<": b"II*\0"}[order]
        + struct.pack(f"{order}IH", 8, 2)
        + struct.pack(f"{order}HHII", 0x0100, 4, 1, 3)
        + struct.pack(f"{order}HHI{layout}", tag, kind, 1, *values)
        + struct.pack(f"{order}I", 0)
    )


def png(path, *chunks):
    """A PNG out of (name, bytes); the pixels are given uncompressed."""
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, data in [*chunks, (b"IEND", b"")]:
            body = zlib.compress(data) if name == b"IDAT" else data
            file.write(struct.pack(">I", len(body)) + name + body)
            file.write(struct.pack(">I", zlib.crc32(name + body)))
    return path


def png_header(width, height, depth, colour_type):
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)


def save(image, path, **options):
    if not isinstance(image, Image.Image):
        image = Image.fromarray(np.asarray(image))
    image.save(path, **options)
    return path


def in_pillow(path, look):
    with Image.open(path) as image:
        return look(image)


def mode_of(path):
    return in_pillow(path, lambda image: image.mode)


def row_of(mode, *pixels):
    image = Image.new(mode, (len(pixels), 1))
    image.putdata(pixels)
    return image


def pixels_of(path, channels):
    """Pixels of an image of one row; they fit the header."""
    pixels = read_image(path, channels)
    assert pixels.shape == (*read_header(path).size, channels)
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous
    return pixels[0].tolist()


# Modes


def test_header_says_size_and_colour(tmp_path):
    path = save(np.zeros((2, 3, 3), np.uint8), tmp_path / "a.png")
    assert read_header(path) == Header((2, 3), is_colour=True)
    path = save(GREY, tmp_path / "b.png")
    assert read_header(path) == Header((2, 3), is_colour=False)


def test_black_and_white_is_0_and_255(tmp_path):
    path = save(np.array([[True, False]]), tmp_path / "a.png")
    assert mode_of(path) == "1"
    assert pixels_of(path, 1) == [[255], [0]]
    assert pixels_of(path, 3) == [[255] * 3, [0] * 3]
    assert not read_header(path).is_colour


@pytest.mark.parametrize("extension", ["png", "bmp", "tif", "pgm", "jp2", "tga"])
def test_grey_is_repeated_to_become_colour(tmp_path, extension):
    path = save(GREY, tmp_path / f"a.{extension}")
    pixels = read_image(path, 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(read_image(path, 1)[..., 0], GREY)
    for channel in range(3):
        np.testing.assert_array_equal(pixels[..., channel], GREY)
    assert read_header(path) == Header((2, 3), is_colour=False)


def test_grey_with_transparency_stands_on_white(tmp_path):
    # 100 under an alpha of 51 = 0.2 * 255 is 0.2 * 100 + 0.8 * 255 = 224
    path = save(row_of("LA", (100, 255), (100, 0), (100, 51)), tmp_path / "a.png")
    assert pixels_of(path, 1) == [[100], [255], [224]]
    assert pixels_of(path, 3) == [[100] * 3, [255] * 3, [224] * 3]
    assert not read_header(path).is_colour


@pytest.mark.parametrize("extension", ["png", "bmp", "tif", "ppm", "webp"])
def test_colours_become_grey_by_luma(tmp_path, extension):
    # 255 * 0.299 = 76.2, 255 * 0.587 = 149.7, 255 * 0.114 = 29.1
    image = row_of("RGB", RED, GREEN, BLUE, (255, 255, 255), (0, 0, 0))
    options = {"lossless": True} if extension == "webp" else {}
    path = save(image, tmp_path / f"a.{extension}", **options)
    assert pixels_of(path, 3) == [[*RED], [*GREEN], [*BLUE], [255] * 3, [0] * 3]
    assert pixels_of(path, 1) == [[76], [150], [29], [255], [0]]
    assert read_image(path, 1).dtype == np.uint8
    assert read_header(path).is_colour


@pytest.mark.parametrize("extension", ["png", "tif", "webp"])
def test_colours_with_transparency_stand_on_white(tmp_path, extension):
    image = row_of("RGBA", (*RED, 255), (*RED, 0), (*RED, 51))
    options = {"lossless": True, "exact": True} if extension == "webp" else {}
    path = save(image, tmp_path / f"a.{extension}", **options)
    # 0.2 * 0 + 0.8 * 255 = 204, and the luma of (255, 204, 204) is 76.2 + 0.701 * 204 = 219.2
    assert pixels_of(path, 3) == [[*RED], [255] * 3, [255, 204, 204]]
    assert pixels_of(path, 1) == [[76], [255], [219]]
    assert read_header(path).is_colour


def test_one_colour_can_be_the_transparent_one(tmp_path):
    image = row_of("RGB", RED, BLUE)
    path = save(image, tmp_path / "a.png", transparency=BLUE)
    assert pixels_of(path, 3) == [[*RED], [255] * 3]
    path = save(row_of("L", 10, 20), tmp_path / "b.png", transparency=20)
    assert pixels_of(path, 1) == [[10], [255]]


@pytest.mark.parametrize(("transparent", "shown"), [(0, [255, 255]), (1, [255, 0])])
def test_black_can_be_the_transparent_one_of_two(tmp_path, transparent, shown):
    path = png(
        tmp_path / "a.png",
        png_header(2, 1, 1, 0),
        (b"tRNS", struct.pack(">H", transparent)),
        (b"IDAT", b"\0\x80"),  # white, black
    )
    assert mode_of(path) == "1"
    assert read_image(path, 1).ravel().tolist() == shown


@pytest.mark.parametrize("extension", ["png", "gif", "bmp", "tif"])
def test_palette_gives_its_colours(tmp_path, extension):
    image = row_of("P", 2, 0, 1)
    image.putpalette([*RED, *GREEN, *BLUE])
    path = save(image, tmp_path / f"a.{extension}")
    assert mode_of(path) == "P"
    assert pixels_of(path, 3) == [[*BLUE], [*RED], [*GREEN]]
    assert pixels_of(path, 1) == [[29], [76], [150]]
    assert read_header(path).is_colour


def test_palette_of_greys_counts_as_colour(tmp_path):
    image = row_of("P", 1, 0)
    image.putpalette([7, 7, 7, 9, 9, 9])
    path = save(image, tmp_path / "a.png")
    assert pixels_of(path, 1) == [[9], [7]]
    assert read_header(path).is_colour


@pytest.mark.parametrize(
    ("transparency", "shown"),
    # As an index, and as one alpha for each colour: 0, 51 = 0.2 * 255, and 255 for the rest.
    [(0, [255] * 3), (b"\0", [255] * 3), (b"\x33", [255, 204, 204])],
)
def test_palette_with_transparency_stands_on_white(tmp_path, transparency, shown):
    image = row_of("P", 0, 2)
    image.putpalette([*RED, *GREEN, *BLUE])
    path = save(image, tmp_path / "a.png", transparency=transparency)
    assert pixels_of(path, 3) == [shown, [*BLUE]]
    assert pixels_of(path, 1)[1] == [29]


def test_palette_with_an_alpha_channel_stands_on_white(tmp_path):
    image = Image.new("PA", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putpixel((0, 0), (0, 255))
    image.putpixel((1, 0), (1, 51))
    path = save(image, tmp_path / "a.tif")
    assert mode_of(path) == "PA"
    assert pixels_of(path, 3) == [[*RED], [204, 255, 204]]


def test_gif_with_transparency_stands_on_white(tmp_path):
    image = row_of("P", 0, 1)
    image.putpalette([*RED, *GREEN])
    path = save(image, tmp_path / "a.gif", transparency=1)
    assert pixels_of(path, 3) == [[*RED], [255] * 3]


@pytest.mark.parametrize("extension", ["tif", "jpg"])
def test_cmyk_is_ink_on_white(tmp_path, extension):
    # 8 x 8 of one colour pass through JPEG unchanged, bar rounding.
    for ink, shown in [((255, 0, 0, 0), (0, 255, 255)), ((0, 0, 0, 255), (0, 0, 0))]:
        path = save(Image.new("CMYK", (8, 8), ink), tmp_path / f"a.{extension}", quality=100)
        assert mode_of(path) == "CMYK"
        if extension == "jpg":  # Adobe's, which holds ink the other way round
            assert "adobe" in in_pillow(path, lambda image: image.info)
        np.testing.assert_array_equal(read_image(path, 3), np.full((8, 8, 3), shown))
        assert read_header(path) == Header((8, 8), is_colour=True)


def test_lab_is_the_colour_it_stands_for(tmp_path):
    # Lightness 138 / 255 = 54 %, a 81, b 70: red of sRGB, up to the rounding of these three.
    path = save(Image.new("LAB", (2, 1), (138, 209, 198)), tmp_path / "a.tif")
    assert mode_of(path) == "LAB"
    np.testing.assert_allclose(read_image(path, 3), np.full((1, 2, 3), RED), atol=5)
    assert read_header(path).is_colour


def test_jpeg_is_what_pillow_decodes(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    path = save(colours, tmp_path / "a.jpg")
    decoded = in_pillow(path, np.asarray)
    np.testing.assert_array_equal(read_image(path, 3), decoded)
    grey = in_pillow(path, lambda image: np.asarray(image.convert("L")))
    np.testing.assert_array_equal(read_image(path, 1)[..., 0], grey)


# More than 8 bits

DEEP = np.array([[0, 257, 257 * 100, 1000, 65535]], np.uint16)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.tif", {}),
        ("a.tif", {"compression": "tiff_lzw"}),
        ("a.pgm", {}),
        ("a.jp2", {}),
    ],
)
def test_16_bits_share_the_scale_of_8(tmp_path, name, options):
    path = save(DEEP, tmp_path / name, **options)
    expected = np.array([0, 1, 100, np.float32(1000) / np.float32(257), 255], np.float32)
    for channels in (1, 3):
        pixels = read_image(path, channels)
        assert pixels.dtype == np.float32
        np.testing.assert_array_equal(pixels, np.tile(expected[None, :, None], (1, 1, channels)))
    assert read_header(path) == Header((1, 5), is_colour=False, depth=16)


def test_16_bits_of_big_endian_tiff(tmp_path):
    path = save(Image.fromarray(DEEP.astype(">u2")), tmp_path / "a.tif")
    assert mode_of(path) == "I;16B"
    assert read_image(path, 1).ravel()[[0, 1, 2, 4]].tolist() == [0, 1, 100, 255]


def test_pgm_of_another_white_is_scaled_to_it(tmp_path):
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 3 1 1023\n" + struct.pack(">3H", 0, 1023, 341))  # 341 is a third
    assert read_image(path, 1).ravel().tolist() == [0, 255, 85]
    path.write_bytes(b"P2 3 1 1023\n0 1023 341\n")
    assert read_image(path, 1).ravel().tolist() == [0, 255, 85]


def test_transparent_grey_of_16_bits_is_white(tmp_path):
    path = png(
        tmp_path / "a.png",
        png_header(2, 1, 16, 0),
        (b"tRNS", struct.pack(">H", 257)),
        (b"IDAT", b"\0" + struct.pack(">2H", 257, 514)),
    )
    assert pixels_of(path, 1) == [[255], [2]]


def test_colours_of_16_bits_are_cut_to_8(tmp_path):
    path = png(
        tmp_path / "a.png",
        png_header(1, 1, 16, 2),
        (b"IDAT", b"\0" + struct.pack(">3H", 0x12FF, 0x3400, 0xFFFF)),
    )
    assert pixels_of(path, 3) == [[0x12, 0x34, 0xFF]]
    assert read_image(path, 3).dtype == np.uint8


def test_32_bits_keep_their_values(tmp_path):
    whole = np.array([[-5, 70000, 0]], np.int32)
    path = save(whole, tmp_path / "a.tif")
    assert mode_of(path) == "I"
    assert read_image(path, 1).dtype == np.float32
    assert pixels_of(path, 1) == [[-5], [70000], [0]]
    real = np.array([[0.25, -3, 1e6]], np.float32)
    path = save(real, tmp_path / "b.tif")
    assert mode_of(path) == "F"
    assert read_image(path, 1).dtype == np.float32
    assert pixels_of(path, 3) == [[0.25] * 3, [-3] * 3, [1e6] * 3]
    assert not read_header(path).is_colour


# Orientation


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize(
    ("name", "options"),
    [("a.png", {}), ("a.tif", {}), ("a.tif", {"compression": "tiff_lzw"})],
)
def test_orientation_is_applied(tmp_path, orientation, name, options):
    options = options | (
        {"tiffinfo": {0x0112: orientation}} if name.endswith("tif") else {"exif": exif(orientation)}
    )
    path = save(GREY, tmp_path / name, **options)
    shown = np.array(SHOWN[orientation])
    assert read_header(path).size == shown.shape
    np.testing.assert_array_equal(read_image(path, 1)[..., 0], shown)


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_orientation_is_applied_to_colours(tmp_path, orientation, name):
    colours = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    path = save(colours, tmp_path / name, exif=exif(orientation))
    expected = in_pillow(path, lambda image: np.asarray(ImageOps.exif_transpose(image)))
    assert read_header(path).size == expected.shape[:2]
    np.testing.assert_array_equal(read_image(path, 3), expected)


def test_orientation_is_applied_to_16_bits(tmp_path):
    path = save(GREY.astype(np.uint16) * 257, tmp_path / "a.png", exif=exif(6))
    np.testing.assert_array_equal(read_image(path, 1)[..., 0], SHOWN[6])


def with_exif(path, block):
    """A JPEG of GREY, eight times as large, with a block of EXIF as its only metadata."""
    # JPEG files without JFIF's density make Pillow look into EXIF, and warn, while opening.
    save(np.repeat(GREY, 8, 0).repeat(8, 1), path)
    plain, jpeg = read_image(path, 1), path.read_bytes()
    segment = b"Exif\0\0" + block
    jfif = 4 + struct.unpack(">H", jpeg[4:6])[0]
    length = struct.pack(">H", len(segment) + 2)
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + length + segment + jpeg[jfif:])
    return plain


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [3, 4])
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_orientation_is_found_in_any_layout(tmp_path, order, kind, prefix):
    plain = with_exif(tmp_path / "a.jpg", prefix + raw_exif(8, order, kind))
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg", 1), np.rot90(plain))


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"Exif\0\0",
        b"Exif\0\0" + b"\xff" * 40,
        raw_exif(9),
        raw_exif(0),
        raw_exif(6, tag=0x0113),
        raw_exif(6)[:9],
        raw_exif(6)[:25],
        raw_exif(6)[:30],
        b"II*\0" + struct.pack("<I", 2**31),
        b"MM\0*" + struct.pack(">IH", 8, 65535),
    ],
)
def test_corrupt_exif_turns_nothing(tmp_path, block):
    plain = with_exif(path := tmp_path / "a.jpg", block)
    assert read_header(path).size == (16, 24)
    np.testing.assert_array_equal(read_image(path, 1), plain)


def test_orientation_behind_the_pixels_turns_nothing(tmp_path):
    """The header has not seen it, so that the pixels would not have its size."""
    path = png(
        tmp_path / "a.png",
        png_header(3, 2, 8, 0),
        (b"IDAT", b"\0" + bytes(GREY[0]) + b"\0" + bytes(GREY[1])),
        (b"eXIf", raw_exif(6)),
    )
    assert read_header(path).size == (2, 3)
    np.testing.assert_array_equal(read_image(path, 1)[..., 0], GREY)


def test_orientation_in_xmp_turns_nothing(tmp_path):
    xmp = '<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>'
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp)
    text.add_itxt("exif", "no block of EXIF")
    paths = [
        save(GREY, tmp_path / "a.tif", tiffinfo={700: xmp.encode()}),
        save(GREY, tmp_path / "a.png", pnginfo=text),
    ]
    for path in paths:
        assert read_header(path).size == (2, 3)
        np.testing.assert_array_equal(read_image(path, 1)[..., 0], GREY)


def test_xmp_stays_the_users_where_loading_fails(tmp_path, monkeypatch):
    def fail():
        raise OSError("a cut file")

    with Image.open(save(GREY, tmp_path / "a.tif", tiffinfo={700: b"<x/>"})) as image:
        monkeypatch.setattr(image, "load", fail)
        with pytest.raises(ValueError, match="a cut file"):
            decode(image, 1)
        assert image.info["xmp"] == b"<x/>"


# Frames


@pytest.mark.parametrize("extension", ["gif", "tif", "png", "webp"])
def test_first_frame_of_several(tmp_path, extension):
    frames = [Image.new("RGB", (4, 3), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if extension == "webp" else {}
    path = tmp_path / f"a.{extension}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    assert in_pillow(path, lambda image: image.n_frames) == 3
    np.testing.assert_array_equal(read_image(path, 3), np.full((3, 4, 3), RED))
    assert read_header(path) == Header((3, 4), is_colour=True)


# What is no image


def message_of(read, path, *args, kind=ValueError):
    with pytest.raises(kind) as caught:
        read(path, *args)
    assert type(caught.value) is kind  # with one text, so that a caller can add to it
    assert caught.value.args == (str(caught.value),)
    text = str(caught.value)
    start = f"{str(path)!r} must be an image file that Pillow can read, found: "
    assert text.startswith(start)
    return text.removeprefix(start)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"name,label\na.png,0\n" * 20, "no format that Pillow knows"),
        (b"\0" * 500, "no format that Pillow knows"),
        (bytes(range(256)), "no format that Pillow knows"),
        (b"\x89PNG\r\n\x1a\n", "PNG with a header that is cut short"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 20, "JPEG with a header that is cut short"),
        (b"P5 x y 255\n", "invalid literal"),
    ],
)
def test_files_without_an_image(tmp_path, content, found):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert found in message_of(read_header, path)
    assert found in message_of(read_image, path, 3)


def test_postscript_is_not_executed(tmp_path):
    path = save(Image.new("RGB", (3, 2)), tmp_path / "a.eps")
    assert "no format that Pillow knows" in message_of(read_image, path, 3)


def test_format_without_pixels_is_none(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 100)
    assert "no format that Pillow knows" in message_of(read_header, path)


def test_image_without_pixels(tmp_path):
    path = png(tmp_path / "a.png", png_header(0, 5, 8, 0), (b"IDAT", b""))
    assert "PNG with a header" in message_of(read_header, path)


def reason_of(read, path, *args, kind):
    with pytest.raises(kind) as caught:
        read(path, *args)
    assert type(caught.value) is kind
    text, start = str(caught.value), f"{str(path)!r} cannot be read: "
    assert caught.value.args == (text,)
    assert text.startswith(start)
    return text.removeprefix(start)


def test_missing_file(tmp_path):
    path = tmp_path / "a.png"
    for args in [(read_header, path), (read_image, path, 3)]:
        assert reason_of(*args, kind=FileNotFoundError) == "No such file or directory."
    path.symlink_to(tmp_path / "b.png")
    assert reason_of(read_header, path, kind=FileNotFoundError) == "No such file or directory."


def test_directory(tmp_path):
    assert reason_of(read_header, tmp_path, kind=IsADirectoryError) == "Is a directory."
    path = tmp_path / "a.png"
    path.write_bytes(b"")
    assert reason_of(read_header, path / "b.png", kind=NotADirectoryError) == "Not a directory."


@pytest.mark.parametrize("name", ["pipe", "/dev/null", "/dev/zero"])
def test_only_regular_files_are_images(tmp_path, name):
    path = tmp_path / name
    if name == "pipe":
        os.mkfifo(path)  # which would be waited for
    (tmp_path / "link").symlink_to(path)
    for each in (path, tmp_path / "link"):
        assert "only regular files" in reason_of(read_header, each, kind=ValueError)
        assert "only regular files" in reason_of(read_image, each, 3, kind=ValueError)


def test_files_of_a_few_bytes_are_told_so(tmp_path):
    path = tmp_path / "a.png"
    starts = [accepted[:n] for n in range(1, 6) for accepted in STARTS]
    for start in [*starts, *(bytes([n]) for n in range(256))]:
        path.write_bytes(start)
        found = message_of(read_header, path)
        assert re.search("no format|cut short|Reached EOF|invalid literal", found), found
        assert "unpack" not in found


@pytest.mark.parametrize(
    ("error", "found"),
    [(OSError(22, "Invalid argument"), "Invalid argument."), (KeyError(), "KeyError.")],
)
def test_error_of_a_plugin_is_one_of_the_file(failing_plugin, error, found):
    path = failing_plugin(error)
    assert message_of(read_image, path, 1) == found
    with Image.open(path) as image, pytest.raises(ValueError, match="Pillow must be one that it"):
        decode(image, 1)


def test_lack_of_memory_is_no_fault_of_the_file(failing_plugin):
    path = failing_plugin(MemoryError())
    with pytest.raises(MemoryError):
        read_image(path, 1)


@pytest.fixture
def failing_plugin(tmp_path, monkeypatch):
    """Give a file of a format whose pixels cannot be loaded, for a reason of one's own."""

    def register(error):
        class Failing(ImageFile):
            format = "FAILING"

            def _open(self):
                self._mode, self._size = "L", (3, 2)

            def load(self):
                raise error

        Image.init()
        monkeypatch.setitem(Image.OPEN, "FAILING", (Failing, lambda start: start[:4] == b"FAIL"))
        monkeypatch.setattr(Image, "ID", [*Image.ID, "FAILING"])
        (tmp_path / "a.failing").write_bytes(b"FAIL" * 9)
        return tmp_path / "a.failing"

    return register


def test_format_that_was_left_out_of_pillow(tmp_path, monkeypatch):
    Image.init()
    path = save(GREY, tmp_path / "a.gif")
    monkeypatch.setitem(Image.OPEN, "GIF", (None, lambda prefix: "support is not installed"))
    assert message_of(read_header, path) == "support is not installed."


def test_name_that_no_file_has():
    with pytest.raises(ValueError, match="cannot be read: embedded null byte"):
        read_header("a\0.png")
    with pytest.raises(ValueError, match=r"'\\udcff\\ud800.png' cannot be read: .* surrogates"):
        read_header("\udcff\ud800.png")
    with pytest.raises(TypeError, match="int"):
        read_header(0)


@pytest.mark.parametrize("channels", [0, 2, 4, None])
def test_channels_are_1_or_3(tmp_path, channels):
    with pytest.raises(ValueError, match=f"channels must be 1 or 3, got {channels}"):
        read_image(tmp_path / "a.png", channels)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {}),
        ("a.jpg", {"progressive": True}),
        ("a.png", {}),
        ("a.gif", {}),
        ("a.bmp", {}),
        ("a.tif", {}),
        ("a.tif", {"compression": "tiff_lzw"}),
        ("a.tif", {"compression": "tiff_adobe_deflate"}),
        ("a.webp", {}),
        ("a.webp", {"lossless": True}),
        ("a.jp2", {}),
        ("a.ppm", {}),
        ("a.tga", {}),
        ("a.tga", {"compression": "tga_rle"}),
    ],
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_truncated_file_is_no_half_image(tmp_path, name, options, mode):
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    path = save(Image.fromarray(noise).convert(mode), tmp_path / name, **options)
    pixels, content = read_image(path, 3), path.read_bytes()
    n_refused = 0
    for length in [*range(1, len(content), len(content) // 12), *range(-6, 0)]:
        path.write_bytes(content[:length])
        try:
            np.testing.assert_array_equal(read_image(path, 3), pixels)
        except ValueError:
            n_refused += 1
    assert n_refused >= 12  # the rest has lost the mark of its end only


def test_decompression_bomb(tmp_path, monkeypatch):
    path = save(np.zeros((10, 21), np.uint8), tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 104)
    for args in [(read_header, path), (read_image, path, 3)]:
        assert "210 pixels, more than the 208 from which on" in message_of(*args)
    for limit in (105, None):  # twice the limit is allowed
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert read_image(path, 1).shape == (10, 21, 1)


# Warnings


@pytest.mark.parametrize("extension", ["png", "jpg", "tif", "bmp", "gif", "webp"])
@pytest.mark.parametrize("action", ["error", "always"])
def test_large_scan_is_read_in_silence(tmp_path, monkeypatch, extension, action):
    path = save(np.zeros((10, 20), np.uint8), tmp_path / f"a.{extension}")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 199)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)
        assert read_header(path).size == (10, 20)
        assert read_image(path, 1).shape == (10, 20, 1)
    assert not caught


def corrupt_tiff(path):
    """A TIFF with a tag, its last, whose values lie behind the end of the file."""
    content = bytearray(save(GREY, path, tiffinfo={65000: "x" * 50}).read_bytes())
    entry = content.index(struct.pack("<HHI", 65000, 2, 51))
    content[entry + 4 : entry + 8] = struct.pack("<I", 10**6)
    path.write_bytes(content)
    return path


def test_warnings_of_pillow_are_no_errors(tmp_path):
    path = corrupt_tiff(tmp_path / "a.tif")
    with pytest.raises(UserWarning):  # which is what the filters of the tests make of it
        in_pillow(path, np.asarray)
    assert read_header(path).size == (2, 3)
    np.testing.assert_array_equal(read_image(path, 1)[..., 0], GREY)


def test_warnings_of_a_large_scan_are_no_errors(tmp_path, monkeypatch):
    """Silence within silence."""
    path = corrupt_tiff(tmp_path / "a.tif")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    np.testing.assert_array_equal(read_image(path, 1)[..., 0], GREY)


def test_reading_leaves_the_filters_alone(tmp_path):
    before = list(warnings.filters)
    read_image(corrupt_tiff(tmp_path / "a.tif"), 1)
    assert warnings.filters == before


# Paths, processes, threads


@pytest.mark.parametrize("kind", [str, Path, np.str_])
def test_any_name_and_any_kind_of_path(tmp_path, kind):
    path = save(GREY, tmp_path / "Ähre 麦 [1] #.PNG")
    np.testing.assert_array_equal(read_image(kind(path), 1)[..., 0], GREY)
    missing = kind(tmp_path / "ö")
    assert reason_of(read_header, missing, kind=FileNotFoundError)


def test_content_counts_and_not_the_name(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(GREY).save(path, format="PNG")
    np.testing.assert_array_equal(read_image(path, 1)[..., 0], GREY)


def test_errors_cross_processes(tmp_path):
    path = tmp_path / "a.png"
    for kind in (FileNotFoundError, ValueError):
        with pytest.raises(kind) as caught:
            read_image(path, 3)
        again = pickle.loads(pickle.dumps(caught.value))
        assert type(again) is kind
        assert str(again) == str(caught.value)
        path.write_bytes(b"")


def test_header_decodes_no_pixels(tmp_path):
    path = save(np.zeros((2000, 3000), np.uint8), tmp_path / "a.png")  # 6 MB, 6 kB in the file
    read_header(path)
    tracemalloc.start()
    read_header(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000
    path.write_bytes(path.read_bytes()[:100])  # there are no pixels to decode
    assert read_header(path).size == (2000, 3000)


def test_threads_read_side_by_side(tmp_path):
    paths = [
        save(np.full((30, 40), shade, np.uint8), tmp_path / f"{shade}.png") for shade in range(20)
    ]
    paths.append(corrupt_tiff(tmp_path / "a.tif"))
    expected = [read_image(path, 3) for path in paths]
    equal = []

    def read():
        equal.extend(
            np.array_equal(read_image(path, 3), pixels)
            for path, pixels in zip(paths, expected, strict=True)
        )

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert equal == [True] * 4 * len(paths)
