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

"""What encoders of videos can do, and what each is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import cast, NamedTuple

import av
from av.codec import CodecContext
from av.codec.codec import Codec, UnknownCodecError
from av.video.codeccontext import VideoCodecContext
from kuavo_bag_converter.dataset.features import VideoOptions
from kuavo_bag_converter.settings import PRESETS
from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.priority import without_real_time

COPY = 'mjpeg'
ENCODERS = {'h264': 'libx264', 'hevc': 'libx265', 'libsvtav1': 'libsvtav1'}
SOFTWARE = ''
"""In :attr:`.VideoOptions.encoders`: that of ``vcodec``."""
DEPTH_OPTIONS = VideoOptions(vcodec='hevc', preset='ultrafast', gop=2, pix_fmt='gray12le')

_MAX_CRF = {'h264': 51, 'hevc': 51, 'libsvtav1': 63}
_HEVC = 'open-gop=0:bframes=0:pools=none:frame-threads=1:rc-lookahead=0:log-level=error'
_X264_FAST = 'superfast'
_X264_COLOR = 'cabac=0'
"""With that preset; the same pictures, for a fifth less CPU to encode and half of it to decode."""
_X264_GRAY_DEPTH = 'cabac=0:no-deblock=1:8x8dct=0:subme=0:deadzone-inter=6:deadzone-intra=6'
"""Likewise; deblocking and large transforms blur edges, motion is hardly ever found."""
_LOSSLESS = 'lossless=1:ctu=16:min-cu-size=16'
_SMALL = 64
"""Sides of pictures that every encoder takes, and larger ones."""


def copied_stream_options(codec: str, pix_fmt: str) -> VideoOptions:
    """
    Return how pictures of a stream that cannot be copied are encoded, which no setting changes.

    They are hardly worse than those that are copied. Key frames as near to each other as in other
    videos would cost most of the time: H.265 takes 20 to 60 ms for one, and 6 for another picture.
    """
    preset = {'h264': 'superfast', 'hevc': 'ultrafast'}[codec]
    return VideoOptions(codec, 18, preset, 15, pix_fmt, copied=True)


def check_video_options(options: VideoOptions) -> None:
    """
    Refuse settings that no encoder here can work with.

    :raises UsageError: Names the setting, what was found and what is possible.
    """
    if options.vcodec == COPY or options.copied:
        return
    if options.vcodec not in ENCODERS:
        raise UsageError(
            f'vcodec {options.vcodec!r} is not one of {", ".join([*ENCODERS, COPY])} '
            f'({COPY} copies the JPEG pictures of the bag)'
        )
    encoder = ENCODERS[options.vcodec]
    try:
        codec = Codec(encoder, 'w')
    except UnknownCodecError:
        raise UsageError(
            f'vcodec {options.vcodec}: this PyAV {av.__version__} has no encoder {encoder}; '
            'install av from PyPI or choose another vcodec'
        ) from None
    formats = [format_.name for format_ in codec.video_formats or ()]
    family = 'gray12' if options == DEPTH_OPTIONS else 'yuv4'
    usable = [name for name in formats if name.startswith(family)]
    if options.pix_fmt not in usable:
        raise UsageError(
            f'pix_fmt {options.pix_fmt!r} does not go with vcodec {options.vcodec}: '
            f'use one of {", ".join(usable)}'
        )
    presets = PRESETS[options.vcodec]
    if options.preset not in presets:
        raise UsageError(
            f'preset {options.preset!r} does not go with vcodec {options.vcodec}: '
            f'use one of {", ".join(presets)}'
        )
    if not 0 <= options.crf <= _MAX_CRF[options.vcodec]:
        raise UsageError(
            f'crf {options.crf} is outside 0..{_MAX_CRF[options.vcodec]} of vcodec '
            f'{options.vcodec}'
        )
    if options.gop < 1:
        raise UsageError(f'gop {options.gop}: a key frame every 1 or more frames is possible')


def size_grid(options: VideoOptions) -> tuple[int, int]:
    """Return what the height and the width of pictures must be multiples of."""
    encoded = options.vcodec != COPY and not options.copied
    even_height = encoded and options.pix_fmt.startswith('yuv420')
    even_width = encoded and options.pix_fmt.startswith(('yuv420', 'yuv422'))
    return 1 + even_height, 1 + even_width


def check_video_size(options: VideoOptions, height: int, width: int) -> None:
    """
    Refuse pictures that the pixel format cannot hold.

    :raises UsageError: Names the size and what is possible.
    """
    rows, columns = size_grid(options)
    if height < 1 or width < 1 or height % rows or width % columns:
        raise UsageError(
            f'pictures of {width}x{height} cannot be stored as {options.pix_fmt}, which halves '
            'the colour planes; give the camera a size of even numbers or fit (pad, crop or '
            'scale), or set pix_fmt: yuv444p'
        )
    if options.vcodec != COPY and not options.copied and min(height, width) < _SMALL:
        _try_encoder(options, height, width)


@lru_cache
def _try_encoder(options: VideoOptions, height: int, width: int) -> None:
    """
    Open an encoder: the least size that one takes differs between encoders and versions.

    :raises UsageError: It does not take pictures of this size.
    """
    open_encoder(software_encoder(options, height, width, Fraction(30)), options)


def software_encoder(
    options: VideoOptions, height: int, width: int, frame_rate: Fraction
) -> VideoCodecContext:
    """Return the encoder of a codec with its settings, to be opened."""
    context = cast('VideoCodecContext', CodecContext.create(ENCODERS[options.vcodec], 'w'))
    context.width, context.height, context.pix_fmt = width, height, options.pix_fmt
    context.framerate = frame_rate
    context.time_base = 1 / frame_rate
    context.options = encoder_options(options)
    return context


def open_encoder(context: VideoCodecContext, options: VideoOptions) -> None:
    """
    Open an encoder whose size and formats are set.

    :raises UsageError: It does not take them.
    """
    try:
        with without_real_time():
            context.open()
    except av.FFmpegError as error:
        raise UsageError(
            f'vcodec {options.vcodec} cannot encode {context.width}x{context.height} '
            f'{options.pix_fmt} ({error.strerror}); give the camera another size, or set another '
            'vcodec'
        ) from error


class EncoderSetup(NamedTuple):
    """What an encoder of FFmpeg is opened with."""

    name: str
    """FFmpeg's."""
    pix_fmt: str
    """Of the pictures that it takes, to which others are converted."""
    options: dict[str, str]
    device: str = ''
    """Where pictures are uploaded to, by FFmpeg's name of its kind; '' for nowhere."""


class _Hardware(NamedTuple):
    """How the encoders of one kind of hardware are set up."""

    formats: Mapping[str, str]
    """What they take for each ``pix_fmt``."""
    options: Callable[[VideoOptions, float], dict[str, str]]
    """Makes FFmpeg's options of the settings and the number of pixels in a second."""
    device: str = ''


def encoder_setup(
    options: VideoOptions, encoder: str, height: int, width: int, fps: float
) -> EncoderSetup:
    """
    Return how an encoder is opened.

    :param options: The settings.
    :param encoder: FFmpeg's name of an encoder in hardware, or :data:`SOFTWARE`.
    :param height: Of the pictures.
    :param width: Of the pictures.
    :param fps: Frames per second.
    :raises UsageError: The encoder does not take the pixel format.
    """
    if encoder == SOFTWARE:
        return EncoderSetup(ENCODERS[options.vcodec], options.pix_fmt, encoder_options(options))
    hardware = _HARDWARE[encoder.partition('_')[2]]
    if options.pix_fmt not in hardware.formats:
        raise UsageError(
            f'pix_fmt {options.pix_fmt!r} does not go with vcodec {encoder}: use one of '
            f'{", ".join(hardware.formats)}'
        )
    given = hardware.options(options, height * width * fps)
    common = {'g': str(options.gop), 'bf': '0'}
    return EncoderSetup(
        encoder, hardware.formats[options.pix_fmt], common | given, hardware.device
    )


def _nvenc(options: VideoOptions, _: float) -> dict[str, str]:
    quantizer = {'rc': 'constqp', 'qp': str(options.crf)}
    return {'preset': 'p4', 'forced-idr': '1', 'delay': '0', **quantizer}


def _qsv(options: VideoOptions, _: float) -> dict[str, str]:
    quantizer = {'flags': '+qscale', 'global_quality': str(options.crf * _LAMBDA)}
    # Of HEVC, 0 would make the first key frame the only one.
    own = {'idr_interval': '1'} if options.vcodec == 'hevc' else {}
    return {'preset': 'veryfast', 'forced_idr': '1', 'async_depth': '1', **quantizer, **own}


def _vaapi(options: VideoOptions, _: float) -> dict[str, str]:
    return {'rc_mode': 'CQP', 'qp': str(options.crf), 'async_depth': '1'}


def _by_bit_rate(options: VideoOptions, pixels: float) -> dict[str, str]:
    """Return the bit rate that the software encoder takes for about this quality."""
    return {'b': str(round(pixels * 0.8 * 2 ** ((23 - options.crf) / 6)))}


_LAMBDA = 118
"""FF_QP2LAMBDA of FFmpeg."""
_NV12 = {'yuv420p': 'nv12', 'yuv420p10le': 'p010le'}
_NVENC = {
    'yuv420p': 'yuv420p', 'yuv444p': 'yuv444p', 'yuv420p10le': 'p010le',
    'yuv444p10le': 'yuv444p16le',
}  # fmt: skip
_HARDWARE = {
    'nvenc': _Hardware(_NVENC, _nvenc),
    'qsv': _Hardware(_NV12, _qsv),
    'vaapi': _Hardware(_NV12, _vaapi, 'vaapi'),
    'nvmpi': _Hardware({'yuv420p': 'yuv420p'}, _by_bit_rate),
    'v4l2m2m': _Hardware({'yuv420p': 'nv12'}, _by_bit_rate),
}
"""By what FFmpeg's names of encoders end with."""


def encoder_options(options: VideoOptions) -> dict[str, str]:
    """Return what FFmpeg's encoder gets: one thread, no B-frames, closed groups of pictures."""
    common = {'crf': str(options.crf), 'preset': options.preset, 'g': str(options.gop)}
    return common | extra_options(options) | _single_thread(options)


def extra_options(options: VideoOptions) -> dict[str, str]:
    """Return the encoder options that shape the stream and have no name of their own."""
    if options.vcodec == 'h264':
        shape = {'bf': '0', 'tune': 'zerolatency'}
        if options.preset == _X264_FAST:
            shape['x264-params'] = _X264_GRAY_DEPTH if options.gray_depth else _X264_COLOR
        return shape
    if options.vcodec == 'hevc':
        lossless = options.pix_fmt == DEPTH_OPTIONS.pix_fmt
        return {'x265-params': f'{_HEVC}:{_LOSSLESS}' if lossless else _HEVC}
    return {}


def _single_thread(options: VideoOptions) -> dict[str, str]:
    if options.vcodec == 'libsvtav1':
        return {'svtav1-params': 'lp=1:hierarchical-levels=2:lookahead=0'}
    return {'threads': '1', 'forced-idr': '1'}
