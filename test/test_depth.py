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
import re
import struct

import cv2
from depth_payloads import png, rvl
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from kuavo_bag_converter.dataset.depth import largest_error
from kuavo_bag_converter.dataset.features import DepthCoding
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.depth import DepthDecoder, DepthPngCopier, GrayDepthDecoder
from kuavo_bag_converter.messages.images import picture_info, PictureInfo
from kuavo_bag_converter.messages.picture_remarks import PictureRemarks
from kuavo_bag_converter.support.errors import BagError, ImageError
import numpy as np
import pytest
from ros_messages import compressed_image, connection_of, image

DEFINITIONS = Definitions()
COMPRESSED = connection_of('sensor_msgs/msg/CompressedImage', topic='/depth')
RAW = connection_of('sensor_msgs/msg/Image', topic='/depth')
PNG_FORMAT = '16UC1; compressedDepth png'
RVL_FORMAT = '16UC1; compressedDepth rvl'
HEADER = struct.Struct('<iff')


def scene(height=48, width=64, far=4000):
    """Surfaces with noise and holes, millimetres."""
    generator = np.random.default_rng(7)
    y, x = np.mgrid[0:height, 0:width]
    depth = 500 + far * (x + y) / (height + width) + generator.integers(-3, 4, (height, width))
    depth[generator.random((height, width)) < 0.2] = 0
    depth[3:7, 5:30] = 0
    return depth.astype(np.uint16)


def decode(data, image_format=PNG_FORMAT, size=None, encoding='cdr'):
    connection = connection_of(
        'sensor_msgs/msg/CompressedImage', topic='/depth', encoding=encoding
    )
    message = compressed_image(data, image_format, encoding)
    return DepthDecoder(connection, DEFINITIONS, size).decode(message)


def luma(frame):
    data = frame.planes[0]
    rows = np.frombuffer(memoryview(data), np.uint8).reshape(-1, data.line_size)
    return rows[:, : data.width]


@pytest.mark.parametrize('encoding', ['ros1', 'cdr'])
@pytest.mark.parametrize('header', [bytes(12), b'', bytes(40)])
@pytest.mark.parametrize('image_format', [PNG_FORMAT, '16UC1; jpeg compressed; znear=0.1', 'png'])
def test_a_png_is_found_with_and_without_a_header(encoding, header, image_format):
    depth = scene()
    found = decode(png(depth, header), image_format, encoding=encoding)
    assert found.dtype == np.uint16
    assert np.array_equal(found, depth)


@pytest.mark.parametrize('shape', [(48, 64), (47, 61), (480, 848)])
def test_depth_maps_do_not_depend_on_the_ones_before(shape):
    decoder = DepthDecoder(COMPRESSED, DEFINITIONS)
    for depth in (scene(*shape), scene(*shape, far=900), scene(20, 30), scene(*shape)):
        found = decoder.decode(compressed_image(png(depth), PNG_FORMAT))
        assert np.array_equal(found, depth)


@pytest.mark.parametrize('header', [bytes(12), HEADER.pack(0, 100.0, 0.5), b''])
def test_rvl_is_decoded_with_and_without_a_header(header):
    for depth in (scene(), scene(1, 1), np.zeros((5, 7), np.uint16), scene(33, 50, 60000)):
        data = rvl(depth, header)
        assert np.array_equal(decode(data, RVL_FORMAT), depth)
        info = picture_info(COMPRESSED, DEFINITIONS, compressed_image(data, RVL_FORMAT))
        assert info[:3] == (*depth.shape, 'rvl')


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.uint16, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_every_map_survives_png_and_rvl(depth):
    without = np.where(depth == 65535, 0, depth)
    assert np.array_equal(decode(png(depth)), without)
    assert np.array_equal(decode(rvl(depth), RVL_FORMAT), without)


def inverse_depth(metres, maximum=10.0, quantization=100.0):
    """Quantize as compressed_depth_image_transport does: codes and the header."""
    first = np.float32(quantization * (quantization + 1))
    second = np.float32(1 - first / np.float32(maximum))
    with np.errstate(divide='ignore', invalid='ignore'):
        codes = first / metres + second
    valid = np.isfinite(metres) & (metres < maximum) & (metres > 0)
    return np.where(valid, codes, 0).astype(np.uint16), HEADER.pack(1, first, second)


@pytest.mark.parametrize('transport', ['png', 'rvl'])
def test_inverse_depth_in_float_images_becomes_millimetres(transport):
    metres = scene().astype(np.float32) / 1000
    metres[0, :5] = np.nan
    codes, header = inverse_depth(metres)
    data = png(codes, header) if transport == 'png' else rvl(codes, header)
    found = decode(data, f'32FC1; compressedDepth {transport}')
    _, first, second = HEADER.unpack(header)
    with np.errstate(divide='ignore'):
        wanted = np.rint(
            np.float32(first) / (codes.astype(np.float32) - np.float32(second)) * 1000
        )
    wanted = np.where(codes == 0, 0, wanted)
    assert np.array_equal(found, wanted)
    seen = codes > 0
    assert np.abs(found[seen] / 1000 - metres[seen]).max() < 0.01


@pytest.mark.parametrize('transport', ['png', 'rvl'])
def test_float_depth_without_its_quantization_is_refused(transport):
    data = png(scene(), b'') if transport == 'png' else rvl(scene(), b'')
    with pytest.raises(ImageError, match='header that holds its quantization'):
        decode(data, f'32FC1; compressedDepth {transport}')


def test_a_png_of_8_bits_is_taken_as_it_is():
    depth = (scene() // 32).astype(np.uint8)
    assert np.array_equal(decode(png(depth)), depth)


@pytest.mark.parametrize('size', [(48, 64), (24, 32), (30, 70), (96, 128)])
@pytest.mark.parametrize('transport', ['png', 'rvl', 'raw'])
def test_depth_is_scaled_by_nearest_pixels_as_opencv_does(size, transport):
    depth = scene()
    wanted = cv2.resize(depth, size[::-1], interpolation=cv2.INTER_NEAREST)
    if transport == 'raw':
        message = image(depth.tobytes(), 48, 64, '16UC1', 128)
        found = DepthDecoder(RAW, DEFINITIONS, size).decode(message)
    elif transport == 'png':
        found = decode(png(depth), size=size)
    else:
        found = decode(rvl(depth), RVL_FORMAT, size=size)
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize('encoding', ['16UC1', 'mono16', '32FC1', '8UC1', 'mono8'])
@pytest.mark.parametrize('big_endian', [False, True])
@pytest.mark.parametrize('padding', [0, 10])
def test_image_messages_are_decoded(encoding, big_endian, padding):
    depth = scene() // 32 if encoding in ('8UC1', 'mono8') else scene()
    dtype = {'16UC1': 'u2', 'mono16': 'u2', '32FC1': 'f4'}.get(encoding, 'u1')
    pixels = depth / 1000 if encoding == '32FC1' else depth
    rows = pixels.astype(f'{">" if big_endian else "<"}{dtype}').view(np.uint8).reshape(48, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    message = image(rows.tobytes(), 48, 64, encoding, rows.shape[1], big_endian=big_endian)
    for size in (None, (24, 32)):
        found = DepthDecoder(RAW, DEFINITIONS, size).decode(message)
        scaled = cv2.resize(depth, (32, 24), interpolation=cv2.INTER_NEAREST) if size else depth
        assert np.array_equal(found, scaled)


def test_what_means_no_depth_becomes_0():
    stored = np.array([[0, 65535, 65534, 7]], dtype=np.uint16)
    assert decode(png(stored)).tolist() == [[0, 0, 65534, 7]]
    assert decode(rvl(stored), RVL_FORMAT).tolist() == [[0, 0, 65534, 7]]
    message = image(stored.tobytes(), 1, 4, '16UC1', 8)
    assert DepthDecoder(RAW, DEFINITIONS).decode(message).tolist() == [[0, 0, 65534, 7]]
    metres = np.array([np.nan, np.inf, -np.inf, -1, 0, 0.0004, 65.5346, 1e30, 1.2346], np.float32)
    message = image(metres.tobytes(), 1, 9, '32FC1', 36)
    found = DepthDecoder(RAW, DEFINITIONS).decode(message)
    assert found.tolist() == [[0, 0, 0, 0, 0, 0, 0, 0, 1235]]


def original_gray(depth, low, high):
    """Return the original converter's formula."""
    clipped = np.clip(depth, low, high)
    share = (clipped - clipped.min()) / (clipped.max() - clipped.min() + 1e-9)
    return (share * 255).astype(np.uint8)


def gray_frame(depth, coding, limits, pix_fmt='yuv420p'):
    height, width = depth.shape
    coder = GrayDepthDecoder(DepthDecoder(RAW, DEFINITIONS), coding, limits, pix_fmt)
    return coder.decode(image(depth.tobytes(), height, width, '16UC1', 2 * width))


def limited(gray):
    return np.rint(16 + gray.astype(np.float64) * 219 / 255).astype(np.uint8)


@settings(max_examples=80, deadline=None)
@given(
    arrays.arrays(np.uint16, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9)),
    st.integers(0, 3000),
    st.integers(1, 65535),
)
def test_original_is_the_original_converters_gray(depth, low, span):
    high = min(low + span, 65535)
    frame = gray_frame(depth, 'original', (low, high))
    assert np.array_equal(luma(frame), limited(original_gray(depth, low, high)))


@pytest.mark.parametrize('low', [0, 1, 37, 3000])
@pytest.mark.parametrize('span', [1, 7, 254, 255, 256, 510, 999, 1500, 4000, 5000, 20000])
def test_original_is_exact_for_every_depth(low, span):
    depth = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    frame = gray_frame(depth, 'original', (low, low + span))
    assert np.array_equal(luma(frame), limited(original_gray(depth, low, low + span)))


def test_original_stretches_every_frame_anew():
    coder = GrayDepthDecoder(DepthDecoder(COMPRESSED, DEFINITIONS), 'original', (0, 1500))
    for depth in (scene(far=900), scene(far=100), np.full((4, 4), 800, np.uint16), scene()):
        frame = coder.decode(compressed_image(png(depth), PNG_FORMAT))
        assert np.array_equal(luma(frame), limited(original_gray(depth, 0, 1500)))


def test_range8_keeps_one_scale_and_shows_no_depth_as_black():
    depth = np.array([[0, 65535, 100, 600, 1100, 5000]], dtype=np.uint16)
    frame = gray_frame(depth, 'range8', (100, 1100))
    assert luma(frame).tolist() == [limited(np.array([0, 0, 0, 128, 255, 255])).tolist()]


@pytest.mark.parametrize('pix_fmt', ['yuv420p', 'yuv444p'])
@pytest.mark.parametrize('shape', [(48, 64), (47, 61)])
def test_gray_depth_has_neutral_chroma(pix_fmt, shape):
    frame = gray_frame(scene(*shape), 'range8', (0, 1500), pix_fmt)
    assert (frame.format.name, frame.height, frame.width) == (pix_fmt, *shape)
    shown = frame.to_ndarray(format='bgr24').astype(int)
    assert np.ptp(shown, axis=-1).max() <= 1


@pytest.mark.parametrize('transport', ['png', 'rvl'])
def test_a_cut_depth_map_is_refused(transport):
    data = png(scene()) if transport == 'png' else rvl(scene())
    description = f'16UC1; compressedDepth {transport}'
    # The last word of RVL can be padding alone.
    for length in range(0, len(data) - 8, 9):
        with pytest.raises(ImageError, match=r'^/depth: '):
            decode(data[:length], description)


def test_a_png_with_a_wrong_checksum_is_refused():
    data = bytearray(png(scene()))
    data[len(data) // 2] ^= 1
    with pytest.raises(ImageError, match='checksum'):
        decode(bytes(data))


@pytest.mark.parametrize(
    ('data', 'description', 'error', 'complaint'),
    [
        (b'\xff\xd8\xff' + bytes(50), 'jpeg', BagError, 'no depth: jpeg pictures'),
        (b'\0\0\0\1' + bytes(50), 'h265', BagError, 'no depth: hevc pictures'),
        (b'', '', ImageError, 'is empty'),
        (png(np.zeros((4, 4, 3), np.uint8)), PNG_FORMAT, BagError, '3 channels of 8 bits'),
        (bytes(12) + struct.pack('<II', 0, 5), RVL_FORMAT, ImageError, 'claims 0x5 pixels'),
        (bytes(12) + struct.pack('<II', 2**31, 5), RVL_FORMAT, ImageError, 'claims 2147483648x5'),
    ],
)
def test_what_is_no_depth_is_refused(data, description, error, complaint):
    with pytest.raises(error, match=f'^/depth: .*{complaint}') as caught:
        decode(data, description)
    assert isinstance(caught.value, ImageError) == (error is ImageError)


def test_colour_images_are_refused_for_the_whole_camera():
    with pytest.raises(BagError, match=r"^/depth: image encoding 'nv12' is no depth"):
        DepthDecoder(RAW, DEFINITIONS).decode(image(bytes(24), 4, 4, 'nv12', 4))
    with pytest.raises(BagError, match=r"^/depth: image encoding 'rgb8' is no depth") as caught:
        DepthDecoder(RAW, DEFINITIONS).decode(image(bytes(48), 4, 4, 'rgb8', 12))
    assert not isinstance(caught.value, ImageError)


@pytest.mark.parametrize(
    ('data', 'description', 'codec'),
    [
        (png(scene()), PNG_FORMAT, 'png'),
        (png(scene(), b''), '', 'png'),
        (rvl(scene()), RVL_FORMAT, 'rvl'),
    ],
)
def test_sizes_of_depth_maps_are_read_from_their_headers(data, description, codec):
    info = picture_info(COMPRESSED, DEFINITIONS, compressed_image(data, description))
    assert info == PictureInfo(48, 64, codec, description, 1)


def with_unit(unit_mm, pixels, encoding):
    """Decode a raw map with a unit; return millimetres and what there is to say."""
    pixels = np.ascontiguousarray(pixels)
    remarks = PictureRemarks('/depth', 'eye')
    decoder = DepthDecoder(RAW, DEFINITIONS, unit_mm=unit_mm, remarks=remarks)
    height, width = pixels.shape
    found = decoder.decode(
        image(pixels.tobytes(), height, width, encoding, width * pixels.itemsize)
    )
    return found, list(remarks.lines())


@pytest.mark.parametrize('transport', ['raw', 'png', 'rvl'])
@pytest.mark.parametrize('unit_mm', [None, 1.0, 0.1, 0.25, 10.0, 1000.0])
def test_a_unit_says_what_counts_are(transport, unit_mm):
    counts = scene()
    counts[0, :4] = 0, 1, 65534, 65535
    expected = np.rint(counts.astype(float) * (unit_mm or 1))
    expected[(counts == 65535) | (expected >= 65535)] = 0
    if transport == 'raw':
        found, _ = with_unit(unit_mm, counts, '16UC1')
    else:
        data, name = (rvl(counts), RVL_FORMAT) if transport == 'rvl' else (png(counts), PNG_FORMAT)
        decoder = DepthDecoder(COMPRESSED, DEFINITIONS, unit_mm=unit_mm)
        found = decoder.decode(compressed_image(data, name))
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(('unit_mm', 'factor'), [(None, 1000), (1.0, 1), (1000.0, 1000)])
def test_a_unit_says_what_floating_point_values_are(unit_mm, factor):
    values = (scene() / np.float32(factor)).astype('<f4')
    found, lines = with_unit(unit_mm, values, '32FC1')
    assert np.array_equal(found, scene())
    assert lines == []


@pytest.mark.parametrize(
    ('pixels', 'encoding', 'words'),
    [
        (scene().astype('<f4'), '32FC1', '1 of 1 depth maps are implausible.*where 1 is 1 m'),
        (scene() // 1000, '16UC1', r'half of the depths beyond 0\.00\d m where 1 is 1 mm'),
        (scene().astype(np.uint16) * 15, '16UC1', 'implausible'),
        (np.zeros((48, 64), np.uint16), '16UC1', '1 of 1 depth maps hold no depth'),
        (np.full((48, 64), np.nan, '<f4'), '32FC1', '1 of 1 depth maps hold no depth'),
    ],
)  # fmt: skip
def test_maps_that_are_empty_or_implausible_are_said(pixels, encoding, words):
    _, (line,) = with_unit(None, pixels, encoding)
    assert re.search(f'^/depth: .*{words}.* \\(eye\\)$', line)


@pytest.mark.parametrize(('factor', 'said'), [(1, False), (10, True)])
def test_maps_outside_of_the_depth_range_are_said(factor, said):
    remarks = PictureRemarks('/depth', 'eye', (0, 5000))
    depth = (1000 + scene().astype(int) % 500) * factor
    DepthDecoder(RAW, DEFINITIONS, remarks=remarks).decode(
        image(depth.astype('<u2').tobytes(), 48, 64, '16UC1', 128)
    )
    lines = list(remarks.lines())
    assert len(lines) == said
    for line in lines:
        assert re.match(r'/depth: 1 of 1 depth maps lie outside of \[0, 5000\] mm', line)


def test_a_few_empty_maps_are_not_worth_a_word():
    remarks = PictureRemarks('/depth')
    decoder = DepthDecoder(RAW, DEFINITIONS, remarks=remarks)
    for depth in (scene(), np.zeros_like(scene()), scene()):
        decoder.decode(image(depth.tobytes(), 48, 64, '16UC1', 128))
    assert list(remarks.lines()) == []


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(['png', 'rvl', '32FC1']))
def test_damaged_depth_raises_nothing_but_bag_errors(data, kind):
    depth = scene(12, 16)
    payload = bytearray(rvl(depth) if kind == 'rvl' else png(depth))
    for _ in range(data.draw(st.integers(1, 8))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(payload)))
    description = '32FC1; compressedDepth png' if kind == '32FC1' else f'16UC1; {kind}'
    with contextlib.suppress(BagError):
        assert decode(bytes(payload[:cut]), description, (6, 8)).shape == (6, 8)


def test_maps_do_not_hold_the_payload():
    for connection, message in (
        (COMPRESSED, compressed_image(png(scene()), PNG_FORMAT)),
        (COMPRESSED, compressed_image(rvl(scene()), RVL_FORMAT)),
        (RAW, image(scene().tobytes(), 48, 64, '16UC1', 128)),
        (RAW, image(scene().astype(np.float32).tobytes(), 48, 64, '32FC1', 256)),
    ):
        payload = bytearray(message)
        with memoryview(payload) as view:
            depth = DepthDecoder(connection, DEFINITIONS).decode(view)
        payload.clear()
        assert depth.shape == (48, 64)


def test_metric_depth_says_which_share_of_the_depths_it_clips():
    for every, said in ((False, []), (True, ['25'])):
        remarks = PictureRemarks('/depth', 'eye', (10, 10000), tell_any=every)
        depth = np.full((48, 64), 2000, np.uint16)
        depth[:12] = 20000
        DepthDecoder(RAW, DEFINITIONS, remarks=remarks).decode(
            image(depth.tobytes(), 48, 64, '16UC1', 128)
        )
        assert [line.split()[1] for line in remarks.lines()] == said


def test_the_error_of_metric_depth_is_bounded():
    assert largest_error(DepthCoding()) == 2
    assert largest_error(DepthCoding(0.01, 3.0)) == 0
    assert largest_error(DepthCoding(0.01, 10.0, use_log=False)) == 1


def copied(data, description):
    """Take a PNG out of a message; return it and what there is to say."""
    remarks = PictureRemarks('/depth', 'eye')
    copier = DepthPngCopier(COMPRESSED, DEFINITIONS, remarks)
    return copier.decode(compressed_image(data, description)), list(remarks.lines())


@pytest.mark.parametrize('header', [b'', bytes(12), bytes(20)])
@pytest.mark.parametrize('description', [PNG_FORMAT, '16UC1; png compressed ', 'png', ''])
def test_a_png_is_copied_from_behind_any_header(header, description):
    found, lines = copied(png(scene(), header), description)
    assert found.data == png(scene(), b'')
    assert found.size == (48, 64)
    assert found.pixels().dtype == np.uint16
    assert np.array_equal(found.pixels(), scene())
    assert lines == []


def test_cut_and_changed_pngs_are_not_copied():
    whole = png(scene())
    for length in range(0, len(whole), 41):
        with pytest.raises(ImageError, match=r'^/depth: '):
            copied(whole[:length], PNG_FORMAT)
    for place in range(13, len(whole), 41):
        changed = bytearray(whole)
        changed[place] ^= 1
        with pytest.raises(BagError, match=r'^/depth: '):
            copied(bytes(changed), PNG_FORMAT)


def test_pngs_that_change_in_size_are_not_copied():
    copier = DepthPngCopier(COMPRESSED, DEFINITIONS)
    copier.decode(compressed_image(png(scene()), PNG_FORMAT))
    with pytest.raises(
        BagError, match=r'^/depth: its pictures change from 64x48 to 64x24'
    ) as caught:
        copier.decode(compressed_image(png(scene()[:24]), PNG_FORMAT))
    assert not isinstance(caught.value, ImageError)
