# Copyright 2026 The kuavo_bag_converter maintainers
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

import contextlib
from fractions import Fraction
import re
import struct
import zlib

import av
import cv2
import fake_cv_bridge
from hypothesis import given, settings
from hypothesis import strategies as st
from jpeg_files import sampled_jpeg, segment
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.geometry import Geometry
from kuavo_bag_converter.messages.images import ColorDecoder, JpegCopier, picture_info
from kuavo_bag_converter.messages.picture_headers import PNG_MAGIC
from kuavo_bag_converter.messages.picture_remarks import PictureRemarks
from kuavo_bag_converter.support.errors import BagError, ImageError
import numpy as np
import pytest
from ros_messages import compressed_image, connection_of, image, store_of
from ros_modules import needed

DEFINITIONS = Definitions()
COMPRESSED = connection_of('sensor_msgs/msg/CompressedImage', topic='/camera')
RAW = connection_of('sensor_msgs/msg/Image', topic='/camera')


def picture(height=48, width=64):
    """Return a smooth picture with every channel different, BGR."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    blue = 40 + 170 * x / width
    green = 40 + 170 * y / height
    red = 128 + 90 * np.sin(x / 9) * np.cos(y / 11)
    return np.stack([blue, green, red], axis=-1).round().astype(np.uint8)


def jpeg(pixels, *parameters):
    return cv2.imencode('.jpg', pixels, [cv2.IMWRITE_JPEG_QUALITY, 95, *parameters])[1].tobytes()


def with_segment(data, marker, body):
    """Return a JPEG with one more segment after its start."""
    return data[:2] + segment(marker, body) + data[2:]


def with_orientation(data, orientation, order='<'):
    tag = struct.pack(f'{order}HHIHH', 0x0112, 3, 1, orientation, 0)
    mark = b'II' if order == '<' else b'MM'
    tiff = mark + struct.pack(f'{order}HIH', 42, 8, 1) + tag + bytes(4)
    return with_segment(data, 0xE1, b'Exif\0\0' + tiff)


def limited_yuv(bgr):
    """BT.601 limited range of BGR pixels, in floating point."""
    blue, green, red = (bgr[..., i].astype(np.float64) / 255 for i in range(3))
    luma = 16 + 65.481 * red + 128.553 * green + 24.966 * blue
    cb = 128 - 37.797 * red - 74.203 * green + 112 * blue
    cr = 128 + 112 * red - 93.786 * green - 18.214 * blue
    return luma, cb, cr


def planes(frame):
    found = []
    for data in frame.planes:
        rows = np.frombuffer(memoryview(data), np.uint8).reshape(-1, data.line_size)
        found.append(rows[: data.height, : data.width])
    return found


def assert_shows(frame, bgr, mean=1.0, greatest=8.0):
    """Return the frame is limited range YUV of these pixels."""
    height, width = bgr.shape[:2]
    assert (frame.height, frame.width) == (height, width)
    luma, cb, cr = limited_yuv(bgr)
    if frame.format.name == 'yuv420p':
        half = ((width + 1) // 2, (height + 1) // 2)
        even = cv2.copyMakeBorder(
            np.dstack([cb, cr]), 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE
        )
        cb, cr = np.moveaxis(cv2.resize(even, half, interpolation=cv2.INTER_AREA), -1, 0)
    else:
        assert frame.format.name == 'yuv444p'
    for found, wanted in zip(planes(frame), (luma, cb, cr), strict=True):
        error = np.abs(found - wanted)
        assert error.mean() < mean
        assert error.max() < greatest


def decode(data, image_format='jpeg', **options):
    message = compressed_image(data, image_format)
    return ColorDecoder(COMPRESSED, DEFINITIONS, **options).decode(message)


@pytest.mark.parametrize('shape', [(48, 64), (47, 61), (480, 848)])
@pytest.mark.parametrize(
    'parameter',
    [cv2.IMWRITE_JPEG_PROGRESSIVE, cv2.IMWRITE_JPEG_OPTIMIZE, cv2.IMWRITE_JPEG_RST_INTERVAL],
)
def test_every_kind_of_jpeg_becomes_limited_range_yuv(shape, parameter):
    data = jpeg(picture(*shape), parameter, 1)
    assert_shows(decode(data), cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


@pytest.mark.parametrize('shape', [(48, 64), (47, 61), (480, 848)])
@pytest.mark.parametrize(
    ('across', 'down'),
    [(2, 2), (2, 1), (1, 2), (1, 1), (4, 1)],
    ids=['420', '422', '440', '444', '411'],
)
def test_every_sampling_of_chroma_becomes_limited_range_yuv(shape, across, down):
    data = sampled_jpeg(picture(*shape), across, down)
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    # Where chroma is resampled, its filter is another than OpenCV's.
    resampled = (across, down) != (2, 2)
    assert_shows(decode(data), shown, 3.0 if resampled else 1.0, 16.0 if resampled else 8.0)


def test_a_grey_jpeg_has_neutral_chroma():
    gray = picture()[..., 0]
    frame = decode(jpeg(gray))
    assert_shows(frame, np.dstack([gray] * 3))
    assert all((chroma == 128).all() for chroma in planes(frame)[1:])


def test_a_jpeg_that_stores_rgb_is_decoded_as_opencv_does():
    # Without a JFIF segment, which would win over Adobe's.
    data = sampled_jpeg(picture(), 1, 1)
    data = with_segment(data, 0xEE, b'Adobe' + struct.pack('>HHHB', 100, 0, 0, 0))
    assert_shows(decode(data), cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


@pytest.mark.parametrize('encoding', ['ros1', 'cdr'])
@pytest.mark.parametrize('pix_fmt', ['yuv420p', 'yuv444p'])
@pytest.mark.parametrize('size', [(24, 32), (40, 60), (96, 128), (48, 64)])
def test_pictures_are_scaled_to_the_wanted_size(encoding, pix_fmt, size):
    connection = connection_of('sensor_msgs/msg/CompressedImage', encoding=encoding)
    data = jpeg(picture())
    decoder = ColorDecoder(connection, DEFINITIONS, size, pix_fmt)
    frame = decoder.decode(compressed_image(data, encoding=encoding))
    assert frame.format.name == pix_fmt
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    smaller = size[0] < 48
    scaled = cv2.resize(shown, size[::-1], interpolation=cv2.INTER_AREA if smaller else 1)
    assert_shows(frame, scaled, mean=2.0, greatest=16.0)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('order', '<>')
@pytest.mark.parametrize('size', [None, (80, 40)])
def test_exif_orientation_is_applied_as_opencv_does(orientation, order, size):
    data = with_orientation(jpeg(picture(48, 80)), orientation, order)
    upright = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    info = picture_info(COMPRESSED, DEFINITIONS, compressed_image(data))
    assert (info.height, info.width) == upright.shape[:2]
    assert info.upright == (orientation == 1)
    if size is not None:
        upright = cv2.resize(upright, size[::-1], interpolation=cv2.INTER_AREA)
    assert_shows(decode(data, size=size), upright, mean=2.0, greatest=16.0)


@pytest.mark.parametrize(
    'broken', [b'', b'XX*\0', b'II*\0\xff\xff\xff\xff', b'II*\0\x08\0\0\0\5\0']
)
def test_broken_exif_means_upright(broken):
    data = with_segment(jpeg(picture()), 0xE1, b'Exif\0\0' + broken)
    assert_shows(decode(data), picture(), mean=1.5)


@pytest.mark.parametrize('progressive', [0, 1])
def test_a_jpeg_cut_anywhere_is_refused(progressive):
    data = jpeg(picture(), cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    decoder = ColorDecoder(COMPRESSED, DEFINITIONS)
    for length in range(0, len(data), 7):
        with pytest.raises(ImageError, match=r'^/camera: '):
            decoder.decode(compressed_image(data[:length]))
    with pytest.raises(ImageError, match='its end is missing'):
        decoder.decode(compressed_image(data[:-1]))
    assert_shows(decoder.decode(compressed_image(data)), picture(), mean=1.5)


def test_a_jpeg_whose_code_is_damaged_is_refused():
    data = bytearray(jpeg(picture(480, 640)))
    data[slice(len(data) // 2, len(data) // 2 + 400)] = bytes(400)
    with pytest.raises(ImageError, match='damaged'):
        decode(bytes(data))


def test_bytes_after_the_end_of_a_jpeg_do_not_matter():
    assert_shows(decode(jpeg(picture()) + bytes(1000) + b'tail'), picture(), mean=1.5)


def test_pictures_do_not_depend_on_the_ones_before():
    decoder = ColorDecoder(COMPRESSED, DEFINITIONS)
    first, second = jpeg(picture()), jpeg(255 - picture(47, 61))
    alone = [planes(decode(data)) for data in (first, second, first)]
    for data, wanted in zip((first, second, first), alone, strict=True):
        found = planes(decoder.decode(compressed_image(data)))
        assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


def frame_header(marker=0xC0, precision=8, size=(48, 64), components=3):
    body = struct.pack('>BHHB', precision, *size, components) + b'\x01\x11\x00' * components
    return b'\xff\xd8' + struct.pack('>BBH', 0xFF, marker, len(body) + 2) + body


@pytest.mark.parametrize(
    ('header', 'error', 'complaint'),
    [
        (frame_header(components=4), BagError, 'CMYK'),
        (frame_header(precision=12), BagError, 'SOF0 with 12 bits'),
        (frame_header(marker=0xC9), BagError, 'SOF9'),
        (frame_header(size=(0, 64)), ImageError, 'claims 64x0 pixels'),
        (frame_header(size=(60000, 60000)), ImageError, 'claims 60000x60000 pixels'),
        (frame_header(size=(8000, 8000)), ImageError, 'bytes cannot hold 8000x8000'),
        (frame_header(components=2), ImageError, 'damaged JPEG header'),
        (b'\xff\xd8\xff', ImageError, 'ends within its header'),
        (b'\xff\xd8\xff\xda\x00\x02\xff\xd9', ImageError, 'damaged JPEG header'),
    ],
)
def test_headers_are_checked_before_anything_is_decoded(header, error, complaint):
    data = header + b'\xff\xda\x00\x02' + bytes(200) + b'\xff\xd9'
    if complaint.startswith('ends'):
        data = header
    with pytest.raises(error, match=complaint) as caught:
        decode(data)
    assert isinstance(caught.value, ImageError) == (error is ImageError)


@pytest.mark.parametrize('suffix', ['.png', '.webp'])
@pytest.mark.parametrize('size', [None, (30, 40)])
def test_png_and_webp_are_decoded(suffix, size):
    parameters = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == '.webp' else []
    data = cv2.imencode(suffix, picture(), parameters)[1].tobytes()
    shown = picture()
    if size is not None:
        shown = cv2.resize(shown, size[::-1], interpolation=cv2.INTER_AREA)
    assert_shows(decode(data, 'bgr8; png compressed bgr8', size=size), shown)
    info = picture_info(COMPRESSED, DEFINITIONS, compressed_image(data, 'x'))
    assert info[:5] == (48, 64, suffix[1:], 'x', 3)


def png_cases():
    bgr = picture()
    gray = bgr[..., 0]
    yield bgr
    yield gray
    yield cv2.cvtColor(bgr, cv2.COLOR_BGR2BGRA)
    yield bgr.astype(np.uint16) * 257
    yield gray.astype(np.uint16) * 257
    yield np.where(gray > 100, 255, 0).astype(np.uint8)


@pytest.mark.parametrize('pixels', list(png_cases()))
@pytest.mark.parametrize('size', [None, (24, 32)])
def test_every_kind_of_png_is_decoded_as_opencv_does(pixels, size):
    bilevel = [cv2.IMWRITE_PNG_BILEVEL, int(set(np.unique(pixels)) == {0, 255})]
    data = cv2.imencode('.png', pixels, bilevel)[1].tobytes()
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if size is not None:
        shown = cv2.resize(shown, size[::-1], interpolation=cv2.INTER_AREA)
    assert_shows(decode(data, 'png', size=size), shown)


def png_of(width, height, bit_depth, color_type, rows, palette=b'', interlaced=False):
    """Return a PNG made of filtered rows, for what OpenCV does not write."""

    def chunk(kind, body):
        return (
            struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
        )

    header = struct.pack('>IIBBBBB', width, height, bit_depth, color_type, 0, 0, interlaced)
    colors = chunk(b'PLTE', palette) if palette else b''
    data = chunk(b'IDAT', zlib.compress(b''.join(b'\0' + row.tobytes() for row in rows)))
    return PNG_MAGIC + chunk(b'IHDR', header) + colors + data + chunk(b'IEND', b'')


def rare_pngs():
    rgb = picture()[..., ::-1]
    gray = np.ascontiguousarray(rgb[..., 0])
    alpha = np.full((48, 64, 1), 200, np.uint8)
    packed = gray >> 4 & 0xF0 | gray >> 4  # every pixel twice
    palette = np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes()
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
              (1, 0, 2, 1))  # fmt: skip
    yield 'palette', png_of(64, 48, 8, 3, gray, palette)
    yield 'palette of 4 bits', png_of(128, 48, 4, 3, gray >> 4, palette[:48])
    yield 'grey of 4 bits', png_of(128, 48, 4, 0, packed)
    yield 'grey and alpha', png_of(64, 48, 8, 4, np.dstack([gray, alpha]))
    deep = np.dstack([rgb, alpha]).astype('>u2') * 257
    yield 'RGBA of 16 bits', png_of(64, 48, 16, 6, deep)
    rows = [np.ascontiguousarray(row) for y, x, dy, dx in passes for row in rgb[y::dy, x::dx]]
    yield 'interlaced', png_of(64, 48, 8, 2, rows, interlaced=True)


@pytest.mark.parametrize(('name', 'data'), list(rare_pngs()))
def test_rare_kinds_of_png_are_decoded_as_opencv_does(name, data):
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert_shows(decode(data, 'png'), shown, mean=1.5, greatest=200 if 'palette' in name else 8.0)


@pytest.mark.parametrize('quality', [80, 101])
def test_sizes_of_webp_are_read_from_every_kind_of_header(quality):
    for pixels in (picture(), cv2.cvtColor(picture(), cv2.COLOR_BGR2BGRA)):
        data = cv2.imencode('.webp', pixels, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
        info = picture_info(COMPRESSED, DEFINITIONS, compressed_image(data))
        assert (info.height, info.width) == (48, 64)


@pytest.mark.parametrize('suffix', ['.png', '.webp'])
def test_a_cut_or_damaged_png_or_webp_is_refused(suffix):
    data = cv2.imencode(suffix, picture())[1].tobytes()
    decoder = ColorDecoder(COMPRESSED, DEFINITIONS)
    for length in range(0, len(data), 11):
        with pytest.raises(ImageError, match=r'^/camera: '):
            decoder.decode(compressed_image(data[:length]))


def test_a_png_with_a_wrong_checksum_is_refused():
    data = bytearray(cv2.imencode('.png', picture())[1].tobytes())
    data[len(data) // 2] ^= 1
    with pytest.raises(ImageError, match='a checksum does not match'):
        decode(bytes(data))


def test_jpegs_are_copied_as_they_are():
    copier = JpegCopier(COMPRESSED, DEFINITIONS)
    for data in (jpeg(picture()), jpeg(255 - picture()), jpeg(picture()) + bytes(9)):
        assert copier.decode(compressed_image(data)) == data


def test_pictures_that_cannot_be_copied_are_refused():
    copier = JpegCopier(COMPRESSED, DEFINITIONS)
    data = jpeg(picture())
    with pytest.raises(ImageError, match=r'^/camera: .* its end is missing'):
        copier.decode(compressed_image(data[:-2]))
    with pytest.raises(ImageError, match=r'^/camera: the payload is no JPEG'):
        copier.decode(compressed_image(b'GIF89a'))
    copier.decode(compressed_image(data))
    with pytest.raises(BagError, match=r'^/camera: its pictures change from 64x48 to 61x47'):
        copier.decode(compressed_image(jpeg(picture(47, 61))))
    with pytest.raises(BagError, match='or orientation'):
        copier.decode(compressed_image(with_orientation(data, 6)))


def test_something_else_is_refused_with_its_first_bytes():
    with pytest.raises(ImageError, match=r"^/camera: .*format 'h26'\) starts with 47 49 46 38"):
        decode(b'GIF89a' + bytes(100), 'h26')
    with pytest.raises(ImageError, match='is empty'):
        decode(b'')


def test_compressed_depth_is_refused_for_a_colour_camera():
    data = bytes(12) + cv2.imencode('.png', picture().astype(np.uint16))[1].tobytes()
    with pytest.raises(BagError, match=r'^/camera: compressedDepth .* a depth camera') as caught:
        decode(data, '16UC1; compressedDepth png')
    assert not isinstance(caught.value, ImageError)


def test_a_topic_without_pictures_is_refused():
    with pytest.raises(BagError, match=r'^/t: sensor_msgs/msg/JointState holds no picture'):
        ColorDecoder(connection_of('sensor_msgs/msg/JointState', topic='/t'), DEFINITIONS)


# Mosaics in CompressedImage


@pytest.mark.parametrize('encoding', ['ros1', 'cdr'])
@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
@pytest.mark.parametrize(
    ('suffix', 'bits', 'words'),
    [
        ('.jpg', 8, '; jpeg compressed '),
        ('.jpg', 16, '; jpeg compressed bgr8'),
        ('.png', 8, '; png compressed '),
        ('.png', 16, '; png compressed '),
        ('.png', 8, ''),
    ],
)
def test_compressed_mosaics_get_their_colours(encoding, pattern, suffix, bits, words):
    pixels = bayer(picture(), pattern)
    if bits == 16 and suffix == '.png':
        pixels = pixels.astype(np.uint16) * 257
    data = cv2.imencode(suffix, pixels, [cv2.IMWRITE_JPEG_QUALITY, 100] * (suffix == '.jpg'))[1]
    connection = connection_of('sensor_msgs/msg/CompressedImage', encoding=encoding)
    message = compressed_image(data.tobytes(), f'bayer_{pattern}{bits}{words}', encoding)
    frame = ColorDecoder(connection, DEFINITIONS).decode(message)
    assert_shows(frame, picture(), mean=3.5, greatest=45.0)


@pytest.mark.parametrize(
    ('words', 'pixels'),
    [
        ('bayer_rggb8; jpeg compressed mono8', picture()[..., 0]),
        ('bayer_rggb8; jpeg compressed bgr8', picture()),
        ('mono8; jpeg compressed ', picture()[..., 0]),
        ('rgb8; jpeg compressed bgr8', picture()),
        ('yuv422_yuy2; jpeg compressed mono8', picture()[..., 0]),
        ('bayer_what8; jpeg compressed ', picture()[..., 0]),
    ],
)
def test_pictures_that_are_no_mosaics_are_left_as_they_are(words, pixels):
    shown = pixels if pixels.ndim == 3 else np.dstack([pixels] * 3)
    assert_shows(decode(jpeg(pixels), words), shown, mean=1.5)


@pytest.mark.parametrize(('across', 'down'), [(2, 2), (2, 1), (1, 2), (1, 1), (4, 1)])
@pytest.mark.parametrize('part', [(8, 4, 40, 30), (3, 5, 41, 29)])
def test_a_part_of_a_jpeg_shows_what_was_there(across, down, part):
    data = sampled_jpeg(picture(), across, down)
    x, y, width, height = part
    frame = decode(data, size=(height, width), pix_fmt='yuv444p', geometry=Geometry(part))
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert_shows(frame, shown[slice(y, y + height), slice(x, x + width)], mean=3.0, greatest=24.0)


def test_a_mosaic_that_was_made_grey_is_said_and_one_that_is_too_small_refused():
    remarks = PictureRemarks('/camera')
    decode(jpeg(picture()[..., 0]), 'bayer_rggb8; jpeg compressed mono8', remarks=remarks)
    (line,) = remarks.lines()
    assert line.startswith('/camera: the mosaic was made grey')
    with pytest.raises(ImageError, match='a mosaic of 2x2 pixels is too small'):
        ColorDecoder(RAW, DEFINITIONS).decode(image(bytes(4), 2, 2, 'bayer_rggb8', 2))


def test_a_range_holds_for_a_mosaic_of_16_bits():
    dark = bayer(picture(), 'rggb').astype(np.uint16) * 16
    data = cv2.imencode('.png', dark)[1].tobytes()
    frame = decode(data, 'bayer_rggb16; png compressed ', value_range=(0, 16 * 255))
    assert_shows(frame, picture(), mean=2.5, greatest=40.0)
    frame = ColorDecoder(RAW, DEFINITIONS, value_range=(0, 16 * 255)).decode(
        image(padded(dark)[0], 48, 64, 'bayer_rggb16', 128)
    )
    assert_shows(frame, picture(), mean=2.5, greatest=40.0)


# Image messages


def padded(pixels, padding=0):
    """Rows of an array with bytes after each: (data, step)."""
    rows = np.ascontiguousarray(pixels).reshape(pixels.shape[0], -1).view(np.uint8)
    full = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return full.tobytes(), full.shape[1]


def uyvy(bgr):
    """4:2:2 pixels in the order U Y V Y, limited range."""
    luma, cb, cr = (channel.round().astype(np.uint8) for channel in limited_yuv(bgr))
    pixels = np.empty((*luma.shape, 2), dtype=np.uint8)
    pixels[..., 1] = luma
    pixels[:, 0::2, 0] = cb[:, 0::2]
    pixels[:, 1::2, 0] = cr[:, 0::2]
    return pixels


def bayer(bgr, pattern):
    """Return the pixels that a sensor with a colour filter sees."""
    channel = {'b': 0, 'g': 1, 'r': 2}
    mosaic = np.empty(bgr.shape[:2], dtype=np.uint8)
    for index, color in enumerate(pattern):
        row, column = divmod(index, 2)
        mosaic[row::2, column::2] = bgr[row::2, column::2, channel[color]]
    return mosaic


def raw_cases():
    bgr = picture()
    gray = bgr[..., 0]
    wide = gray.astype(np.uint16) * 257
    shown_gray = np.dstack([gray] * 3)
    alpha = np.full((48, 64, 1), 9, np.uint8)
    for name, pixels in (
        ('bgr16', bgr), ('rgb16', bgr[..., ::-1]), ('16UC3', bgr),
        ('bgra16', np.dstack([bgr, alpha])), ('rgba16', np.dstack([bgr[..., ::-1], alpha])),
        ('16UC4', np.dstack([bgr, alpha])),
    ):  # fmt: skip
        yield name, pixels.astype(np.uint16) * 257, bgr
    yield '8UC3', bgr, bgr
    yield '8UC4', np.dstack([bgr, alpha]), bgr
    yield (
        'yvyu',
        uyvy(bgr)[:, :, ::-1].reshape(48, 32, 4)[..., [0, 3, 2, 1]].reshape(48, 64, 2),
        bgr,
    )
    yield 'bgr8', bgr, bgr
    yield 'rgb8', bgr[..., ::-1], bgr
    yield 'bgra8', np.dstack([bgr, alpha]), bgr
    yield 'rgba8', np.dstack([bgr[..., ::-1], alpha]), bgr
    yield 'mono8', gray, shown_gray
    yield '8UC1', gray, shown_gray
    yield 'mono16', wide, shown_gray
    for name in ('yuv422', 'uyvy'):
        yield name, uyvy(bgr), bgr
    for name in ('yuv422_yuy2', 'yuyv'):
        yield name, uyvy(bgr)[..., ::-1], bgr
    for pattern in ('rggb', 'bggr', 'gbrg', 'grbg'):
        yield f'bayer_{pattern}8', bayer(bgr, pattern), bgr
        yield f'bayer_{pattern}16', bayer(bgr, pattern).astype(np.uint16) * 257, bgr


@pytest.mark.parametrize(('encoding', 'pixels', 'shown'), list(raw_cases()))
@pytest.mark.parametrize('padding', [0, 6])
def test_every_encoding_of_images_is_decoded(encoding, pixels, shown, padding):
    data, step = padded(pixels, padding)
    message = image(data, 48, 64, encoding, step)
    assert_shows(ColorDecoder(RAW, DEFINITIONS).decode(message), shown, mean=2.5, greatest=40.0)
    info = picture_info(RAW, DEFINITIONS, message)
    assert (info.height, info.width, info.codec, info.encoding) == (48, 64, 'raw', encoding)


@pytest.fixture(params=['real', 'stand-in'])
def cv_bridge(request):
    """Return the real module where it is installed, and what stands for it."""
    if request.param == 'real':
        needed('cv_bridge', 'needs a ROS with cv_bridge')
        yield
    else:
        with fake_cv_bridge.installed():
            yield


@pytest.mark.parametrize('big_endian', [False, True])
@pytest.mark.parametrize('encoding', [name for name, _, _ in raw_cases()])
def test_cv_bridge_gives_the_same_frames(encoding, big_endian, cv_bridge):
    pixels = {name: pixels for name, pixels, _ in raw_cases()}[encoding]
    if big_endian:
        pixels = pixels.byteswap()
    data, step = padded(pixels, 6)
    message = image(data, 48, 64, encoding, step, big_endian=big_endian)
    own = ColorDecoder(RAW, DEFINITIONS).decode(message)
    other = ColorDecoder(RAW, DEFINITIONS, use_cv_bridge=True).decode(message)
    assert all(np.array_equal(a, b) for a, b in zip(planes(own), planes(other), strict=True))


@pytest.mark.parametrize('encoding', ['bgr8', 'mono8', 'uyvy'])
def test_cv_bridge_takes_a_single_row_with_padding(encoding, cv_bridge):
    pixels = {name: pixels for name, pixels, _ in raw_cases()}[encoding]
    data, step = padded(pixels[:1], 6)
    message = image(data, 1, 64, encoding, step)
    own = ColorDecoder(RAW, DEFINITIONS).decode(message)
    other = ColorDecoder(RAW, DEFINITIONS, use_cv_bridge=True).decode(message)
    assert all(np.array_equal(a, b) for a, b in zip(planes(own), planes(other), strict=True))


@pytest.mark.parametrize('encoding', ['mono16', 'bayer_rggb16', 'bgr8'])
def test_big_endian_images_are_decoded(encoding):
    pixels = {name: pixels for name, pixels, _ in raw_cases()}[encoding]
    (little, step), (big, _) = padded(pixels), padded(pixels.byteswap())
    decoder = ColorDecoder(RAW, DEFINITIONS)
    first = decoder.decode(image(little, 48, 64, encoding, step))
    second = decoder.decode(image(big, 48, 64, encoding, step, big_endian=True))
    assert all(np.array_equal(a, b) for a, b in zip(planes(first), planes(second), strict=True))


def test_the_last_row_may_lack_its_padding():
    data, step = padded(picture(), 6)
    message = image(data[:-6], 48, 64, 'bgr8', step)
    assert_shows(ColorDecoder(RAW, DEFINITIONS).decode(message), picture())


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        ((bytes(48 * 64 * 3 - 1), 48, 64, 'bgr8', 192), 'need rows of 192 bytes; .* 9215 bytes'),
        ((bytes(48 * 64 * 3), 48, 64, 'bgr8', 191), 'step is 191'),
        ((b'', 0, 64, 'bgr8', 192), 'claims 64x0'),
        ((b'', 60000, 60000, 'bgr8', 180000), 'claims 60000x60000'),
        ((bytes(100), 10000, 1000, 'mono8', 1000), 'data has 100 bytes'),
        ((bytes(30), 3, 5, 'yuv422', 10), 'cannot be yuv422'),
    ],
)
def test_images_whose_numbers_do_not_fit_are_refused(arguments, complaint):
    with pytest.raises(ImageError, match=f'^/camera: .*{complaint}'):
        ColorDecoder(RAW, DEFINITIONS).decode(image(*arguments))


def semi_planar(bgr, across, down, red_first, step):
    """Return a luma plane and a plane of chroma pairs, in rows of ``step`` bytes."""
    luma, cb, cr = (channel.round().astype(np.uint8) for channel in limited_yuv(bgr))
    pairs = [cr, cb] if red_first else [cb, cr]
    chroma = np.dstack(pairs)[::down, ::across]
    height, width = luma.shape
    rows = np.full((height, step), 99, np.uint8)
    rows[:, :width] = luma
    below = np.full((height // down, 2 * step // across), 99, np.uint8)
    below[:, : 2 * width // across] = chroma.reshape(height // down, -1)
    return rows.tobytes() + below.tobytes()


@pytest.mark.parametrize('padding', [0, 8])
@pytest.mark.parametrize(
    ('encoding', 'across', 'down', 'red_first'),
    [('nv12', 2, 2, False), ('nv21', 2, 2, True), ('nv16', 2, 1, False), ('nv24', 1, 1, False)],
)
@pytest.mark.parametrize('use_cv_bridge', [False, True])
def test_planes_with_chroma_pairs_are_decoded(
    encoding, across, down, red_first, padding, use_cv_bridge
):
    data = semi_planar(picture(), across, down, red_first, 64 + padding)
    message = image(data, 48, 64, encoding, 64 + padding)
    with fake_cv_bridge.installed():
        decoder = ColorDecoder(RAW, DEFINITIONS, use_cv_bridge=use_cv_bridge)
    assert_shows(decoder.decode(message), picture(), mean=2.5, greatest=16.0)
    assert picture_info(RAW, DEFINITIONS, message)[:5] == (48, 64, 'raw', encoding, 3)
    # OpenCV's matrix has the rows of all planes.
    rows = len(data) // (64 + padding)
    message = image(data, rows, 64, encoding, 64 + padding)
    assert_shows(decoder.decode(message), picture(), mean=2.5, greatest=16.0)
    assert picture_info(RAW, DEFINITIONS, message)[:2] == (48, 64)
    short = image(data[: -1 - 2 * padding // across], 48, 64, encoding, 64 + padding)
    with pytest.raises(ImageError, match=f'pixels of {encoding} need'):
        decoder.decode(short)


def test_a_raw_image_of_foxglove_has_no_byte_order():
    definition = 'uint32 width\nuint32 height\nstring encoding\nuint32 step\nuint8[] data\n'
    kind = 'foxglove_msgs/msg/RawImage'
    store = store_of(definition, kind, ros1=False)
    message = store.types[kind](64, 48, 'bgr8', 192, picture().reshape(-1))
    connection = connection_of(kind, topic='/camera', definition=definition)
    frame = ColorDecoder(connection, DEFINITIONS).decode(bytes(store.serialize_cdr(message, kind)))
    assert_shows(frame, picture())


def test_a_step_of_0_means_rows_without_padding():
    for encoding, pixels, shown in list(raw_cases())[:12]:
        message = image(padded(pixels)[0], 48, 64, encoding, 0)
        frame = ColorDecoder(RAW, DEFINITIONS).decode(message)
        assert_shows(frame, shown, mean=2.5, greatest=40.0)


def test_colours_that_an_encoding_does_not_name_are_said_once():
    remarks = PictureRemarks('/camera', 'head')
    decoder = ColorDecoder(RAW, DEFINITIONS, remarks=remarks)
    for _ in range(3):
        decoder.decode(image(picture().tobytes(), 48, 64, '8UC3', 192))
    assert list(remarks.lines()) == [
        '/camera: encoding 8UC3 does not name its colours, taken as bgr8 as OpenCV orders them '
        '(head)'
    ]


@pytest.mark.parametrize(
    ('encoding', 'instead'),
    [
        ('8UC2', 'yuv422'),
        ('yuv444', 'rgb8'),
        ('32FC3', 'rgb8'),
        ('64FC1', 'rgb8'),
        ('mono12', 'mono16'),
        ('', 'rgb8'),
    ],
)
def test_encodings_that_are_not_read_are_refused_with_an_alternative(encoding, instead):
    with pytest.raises(BagError, match=f'image encoding .*{encoding}.*publish .*{instead}'):
        ColorDecoder(RAW, DEFINITIONS).decode(image(bytes(9999), 10, 10, encoding, 120))


def thermal():
    """Values of a thermal camera, 16 bits in a narrow range."""
    y, x = np.mgrid[0:48, 0:64]
    return (29000 + 20 * x + 10 * y).astype(np.uint16)


def thermal_messages():
    values = thermal()
    png = cv2.imencode('.png', values)[1].tobytes()
    for name in ('mono16', '16UC1'):
        yield name, RAW, image(padded(values)[0], 48, 64, name, 128), values
    yield '32FC1', RAW, image(values.astype('<f4').tobytes(), 48, 64, '32FC1', 256), values
    yield 'png', COMPRESSED, compressed_image(png, '16UC1; png compressed '), values


@pytest.mark.parametrize(('name', 'connection', 'message', 'values'), list(thermal_messages()))
def test_a_range_spreads_grey_of_16_bits_over_all_levels(name, connection, message, values):
    remarks = PictureRemarks('/camera', 'heat')
    decoder = ColorDecoder(
        connection, DEFINITIONS, pix_fmt='yuv444p', value_range=(29200, 30200), remarks=remarks
    )
    levels = ((values - 29200.0) / 1000).clip(0, 1) * 255
    assert_shows(decoder.decode(message), np.dstack([levels] * 3))
    (line,) = remarks.lines()
    left, outside = re.fullmatch(
        r'/camera: range \[29200, 30200\] leaves (\d+) of 256 levels, and (.*) % of the values '
        r'lie outside \(heat\)',
        line,
    ).groups()
    different = len(np.unique(np.rint(levels)))
    assert different / 3 < int(left) <= different
    share = ((values < 29200) | (values > 30200)).mean()
    assert float(outside) == pytest.approx(100 * share, abs=5)


def test_grey_of_16_bits_that_loses_nearly_all_levels_is_said_with_the_range():
    for name, connection, message, _ in thermal_messages():
        if name not in ('mono16', 'png'):
            continue
        remarks = PictureRemarks('/camera')
        ColorDecoder(connection, DEFINITIONS, remarks=remarks).decode(message)
        (line,) = remarks.lines()
        found = re.fullmatch(
            r'/camera: of its values from (\d+) to (\d+) of 65535 only (\d) of 256 levels are '
            r'left; set range at the camera, as \[\1, \2\]',
            line,
        )
        assert 29000 <= int(found[1]) < 29100
        assert 30600 < int(found[2]) <= thermal().max()
    remarks = PictureRemarks('/camera')
    wide = picture()[..., 0].astype(np.uint16) * 257
    ColorDecoder(RAW, DEFINITIONS, remarks=remarks).decode(
        image(padded(wide)[0], 48, 64, 'mono16', 128)
    )
    assert list(remarks.lines()) == []


@pytest.mark.parametrize('encoding', ['mono8', 'rgb8', 'rgb16'])
def test_a_range_for_other_pictures_is_refused(encoding):
    decoder = ColorDecoder(RAW, DEFINITIONS, value_range=(0, 100))
    with pytest.raises(BagError, match=r'^/camera: range is for .*; leave range out'):
        decoder.decode(image(bytes(9999), 10, 10, encoding, 120))
    decoder = ColorDecoder(COMPRESSED, DEFINITIONS, value_range=(0, 100))
    for pixels in (picture(), picture()[..., 0]):
        with pytest.raises(BagError, match=r'^/camera: range is for .*; leave range out'):
            decoder.decode(compressed_image(jpeg(pixels)))
    with pytest.raises(BagError, match=r'^/camera: range is for .*; leave range out'):
        decoder.decode(compressed_image(stream('h264', 1)[0][0], 'h264'))
    planes = image(semi_planar(picture(), 2, 2, False, 64), 48, 64, 'nv12', 64)
    with pytest.raises(BagError, match=r'^/camera: range is for .*; leave range out'):
        ColorDecoder(RAW, DEFINITIONS, value_range=(0, 100)).decode(planes)


@pytest.mark.parametrize('orientation', [3, 6])
def test_a_crop_is_of_the_upright_picture(orientation):
    data = with_orientation(jpeg(picture(48, 80)), orientation)
    upright = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    geometry = Geometry((4, 6, 40, 30), 90)
    frame = decode(data, size=(40, 30), geometry=geometry, recorded_size=upright.shape[:2])
    assert_shows(frame, np.rot90(upright[6:36, 4:44], -1), mean=2.0, greatest=20.0)


@pytest.mark.parametrize('encoding', ['16UC1', '32FC1'])
def test_encodings_that_are_no_colour_are_refused_for_the_whole_camera(encoding):
    with pytest.raises(BagError, match=f"^/camera: image encoding '{encoding}'") as caught:
        ColorDecoder(RAW, DEFINITIONS).decode(image(bytes(9999), 10, 10, encoding, 120))
    assert not isinstance(caught.value, ImageError)


# Video streams


def stream(codec, count=12, gop=4, **options):
    """Access units of a stream of different pictures, with these pictures."""
    context = av.CodecContext.create({'h264': 'libx264', 'hevc': 'libx265'}[codec], 'w')
    context.width, context.height, context.pix_fmt = 64, 48, 'yuv420p'
    context.time_base = Fraction(1, 30)
    context.gop_size = gop
    context.thread_count = 1
    # log-level goes to x265 only; x264 has no such parameter of its own.
    quiet = {'x265-params': f'log-level=0:keyint={gop}:min-keyint={gop}:scenecut=0'}
    context.options = {'tune': 'zerolatency', 'crf': '4', **options}
    if codec == 'hevc':
        context.options = {**context.options, **quiet}
    shown = [np.roll(picture(), 5 * index, axis=1) for index in range(count)]
    packets = []
    for index, bgr in enumerate(shown):
        frame = av.VideoFrame.from_ndarray(bgr, 'bgr24').reformat(format='yuv420p')
        frame.pts = index
        packets += context.encode(frame)
    packets += context.encode(None)
    return [bytes(packet) for packet in packets], shown


@pytest.mark.parametrize(('codec', 'name'), [('h264', 'h264'), ('hevc', 'bgr8; h265')])
def test_each_message_of_a_stream_gives_its_own_picture(codec, name):
    packets, shown = stream(codec)
    decoder = ColorDecoder(COMPRESSED, DEFINITIONS)
    for packet, bgr in zip(packets, shown, strict=True):
        assert_shows(decoder.decode(compressed_image(packet, name)), bgr, mean=2.5, greatest=30)
    info = picture_info(COMPRESSED, DEFINITIONS, compressed_image(packets[0], name))
    assert info[:4] == (48, 64, codec, name)
    assert info.is_stream


@pytest.mark.parametrize('codec', ['h264', 'hevc'])
def test_pictures_before_the_first_key_frame_are_undecodable(codec):
    packets, shown = stream(codec)
    decoder = ColorDecoder(COMPRESSED, DEFINITIONS)
    for packet in packets[1:4]:
        with pytest.raises(ImageError, match=f'no {codec} key frame before this picture'):
            decoder.decode(compressed_image(packet, codec))
    for packet, bgr in zip(packets[4:], shown[4:], strict=True):
        assert_shows(decoder.decode(compressed_image(packet, codec)), bgr, mean=2.5, greatest=30)
    info = picture_info(COMPRESSED, DEFINITIONS, compressed_image(packets[1], codec))
    assert info[:3] == (0, 0, codec)


@pytest.mark.parametrize('codec', ['h264', 'hevc'])
def test_skipped_pictures_serve_the_ones_after_them(codec):
    packets, shown = stream(codec)
    decoder = ColorDecoder(COMPRESSED, DEFINITIONS)
    for number, packet in enumerate(packets[:7]):
        decoder.feed(number, compressed_image(packet, codec))
    decoder.flush()
    assert_shows(
        decoder.decode(compressed_image(packets[7], codec)), shown[7], mean=2.5, greatest=30
    )


def test_after_a_lost_message_h265_has_no_pictures_up_to_the_next_key_frame():
    packets, shown = stream('hevc')
    decoder = ColorDecoder(COMPRESSED, DEFINITIONS)
    undecodable = []
    for index, packet in enumerate(packets):
        if index == 5:
            continue
        try:
            frame = decoder.decode(compressed_image(packet, 'hevc'))
        except ImageError:
            undecodable.append(index)
        else:
            assert_shows(frame, shown[index], mean=2.5, greatest=30)
    assert undecodable == [6, 7]


@pytest.mark.parametrize('codec', ['h264', 'hevc'])
def test_parameters_in_a_message_of_their_own_give_no_picture(codec):
    packets, shown = stream(codec)
    first = packets[0]
    starts = [i for i in range(len(first) - 3) if first[slice(i, i + 3)] == b'\0\0\1']
    kinds = [first[i + 3] >> 1 & 63 if codec == 'hevc' else first[i + 3] & 31 for i in starts]
    is_slice = [16 <= kind < 24 if codec == 'hevc' else kind == 5 for kind in kinds]
    cut = starts[is_slice.index(True)]
    decoder = ColorDecoder(COMPRESSED, DEFINITIONS)
    with pytest.raises(ImageError, match='it holds parameters only'):
        decoder.decode(compressed_image(first[:cut], codec))
    assert_shows(decoder.decode(compressed_image(first[cut:], codec)), shown[0], 2.5, 30)


@pytest.mark.parametrize(
    ('codec', 'options'),
    [('h264', {'tune': 'film', 'bf': '2'}), ('hevc', {'tune': 'grain', 'bf': '2'})],
)
def test_streams_with_b_frames_are_refused_for_the_whole_camera(codec, options):
    packets, _ = stream(codec, **options)
    decoder = ColorDecoder(COMPRESSED, DEFINITIONS)
    messages = [compressed_image(packet, codec) for packet in packets]
    with pytest.raises(BagError, match='reorders its pictures') as caught:
        list(map(decoder.decode, messages))
    assert not isinstance(caught.value, ImageError)


def test_a_stream_of_an_unknown_codec_is_refused():
    with pytest.raises(BagError, match=r"^/camera: .*'vvc' is neither h264 nor h265"):
        decode(b'\0\0\0\1\x67' + bytes(50), 'vvc')


# Whatever comes


def payloads():
    yield COMPRESSED, compressed_image, jpeg(picture(24, 32))
    progressive = jpeg(picture(24, 32), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    yield COMPRESSED, compressed_image, progressive
    for suffix in ('.png', '.webp'):
        data = cv2.imencode(suffix, picture(24, 32))[1].tobytes()
        yield COMPRESSED, compressed_image, data
    for codec in ('h264', 'hevc'):
        data = stream(codec, count=1)[0][0]
        yield COMPRESSED, lambda data, codec=codec: compressed_image(data, codec), data


PAYLOADS = list(payloads())


@settings(max_examples=400, deadline=None)
@given(st.data(), st.sampled_from(range(len(PAYLOADS))))
def test_damaged_pictures_raise_nothing_but_bag_errors(data, index):
    connection, wrapped, payload = PAYLOADS[index]
    payload = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 8))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(max(0, len(payload) - 40), len(payload)))
    message = wrapped(bytes(payload[:cut]))
    with contextlib.suppress(BagError):
        picture_info(connection, DEFINITIONS, message)
    decoder = ColorDecoder(connection, DEFINITIONS, (24, 32))
    with contextlib.suppress(BagError):
        frame = decoder.decode(message)
        assert (frame.height, frame.width, frame.format.name) == (24, 32, 'yuv420p')


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=300),
    st.integers(0, 40),
    st.integers(0, 40),
    st.integers(0, 120),
    st.sampled_from([name for name, _, _ in raw_cases()]),
    st.booleans(),
)
def test_random_images_raise_nothing_but_bag_errors(data, height, width, step, name, big_endian):
    message = image(data, height, width, name, step, big_endian=big_endian)
    with contextlib.suppress(BagError):
        frame = ColorDecoder(RAW, DEFINITIONS).decode(message)
        assert (frame.height, frame.width) == (height, width)


def test_frames_do_not_hold_the_payload():
    messages = [(connection, wrapped(data)) for connection, wrapped, data in PAYLOADS]
    bgr, step = padded(picture())
    messages.append((RAW, image(bgr, 48, 64, 'bgr8', step)))
    for connection, message in messages:
        payload = bytearray(message)
        with memoryview(payload) as view:
            frame = ColorDecoder(connection, DEFINITIONS).decode(view)
        payload.clear()
        assert frame.width
