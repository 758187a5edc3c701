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

"""Video streams of pictures that carry their number, and messages in every packaging of them."""

from __future__ import annotations

import base64
from fractions import Fraction
import re
import zlib

import av
import numpy as np

SIZE = (48, 64)
"""(height, width) of every picture."""
_ENCODERS = {
    'h264': 'libx264', 'hevc': 'libx265', 'av1': 'libsvtav1', 'vp9': 'libvpx-vp9',
}  # fmt: skip
_BASE = {
    'h264': 'bframes=0:repeat-headers=1:annexb=1:scenecut=0',
    'hevc': 'bframes=0:repeat-headers=1:annexb=1:scenecut=0:log-level=none:frame-threads=1'
    ':pools=2:ctu=16',
    'av1': 'lp=1:pred-struct=1:rtc=1',
    'vp9': '',
}
_PARAMETERS = {'h264': 'x264-params', 'hevc': 'x265-params', 'av1': 'svtav1-params'}
_OPTIONS = {
    'h264': {'preset': 'veryfast', 'tune': 'zerolatency', 'crf': '10'},
    'hevc': {'preset': 'ultrafast', 'tune': 'zerolatency', 'crf': '10'},
    'av1': {'preset': '12', 'crf': '20'},
    'vp9': {'deadline': 'realtime', 'cpu-used': '8', 'lag-in-frames': '0', 'crf': '10'},
}


def picture(number):
    """Return a picture of soft stripes that move and brighten with their number, RGB."""
    height, width = SIZE
    phase = (np.arange(width)[None, :] + np.arange(height)[:, None] / 2 + 5 * number) / 8
    level = 118 + 60 * np.sin(phase) + 3 * (number % 12)
    return np.stack([level, level[::-1], 255 - level], axis=-1).astype(np.uint8)


def encode(codec, count=12, gop=4, parameters='', options=()):
    """Return the access units of a stream, one for each picture."""
    context = av.CodecContext.create(_ENCODERS[codec], 'w')
    context.height, context.width = SIZE
    context.pix_fmt = 'yuv420p'
    context.time_base, context.framerate = Fraction(1, 30), Fraction(30)
    context.gop_size = gop
    context.thread_count = 1
    context.options = {**_OPTIONS[codec], **dict(options)}
    if codec in _PARAMETERS:
        keys = '' if codec == 'av1' else f':keyint={gop}:min-keyint={min(gop, 2)}'
        words = f'{_BASE[codec]}{keys}{parameters}'
        context.options = {**context.options, _PARAMETERS[codec]: words}
    packets = []
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(picture(number), 'rgb24').reformat(format='yuv420p')
        frame.pts = number
        packets += context.encode(frame)
    return [bytes(packet) for packet in [*packets, *context.encode(None)]]


def decoded(codec, units):
    """Return the pictures of a stream as libavcodec gives them, in order."""
    context = av.CodecContext.create({'av1': 'libdav1d'}.get(codec, codec), 'r')
    context.thread_count = 1
    frames = [frame for unit in units for frame in context.decode(av.Packet(unit))]
    return [frame.to_ndarray() for frame in [*frames, *context.decode(None)]]


def nal_units(unit):
    """Return the NAL units of an access unit in Annex B, without start codes."""
    return [part for part in re.split(b'\0\0\0\1|\0\0\1', unit) if part]


def is_slice(codec, nal):
    return nal[0] & 31 in range(1, 6) if codec == 'h264' else nal[0] >> 1 < 32


def annexb(nals, code=b'\0\0\0\1'):
    return b''.join(code + nal for nal in nals)


def avcc(nals, size=4):
    return b''.join(len(nal).to_bytes(size, 'big') + nal for nal in nals)


def configuration(codec, nals, size=4):
    """Return the avcC or hvcC record that holds the parameter sets among NAL units."""

    def sets(kinds, kind):
        return [nal for nal in nals if kinds(nal[0]) == kind]

    def listed(found):
        return b''.join(len(nal).to_bytes(2, 'big') + nal for nal in found)

    if codec == 'h264':
        sps, pps = (sets(lambda head: head & 31, kind) for kind in (7, 8))
        begin = bytes([1, *sps[0][1:4], 0xFC | size - 1, 0xE0 | len(sps)])
        return begin + listed(sps) + bytes([len(pps)]) + listed(pps)
    arrays = [(kind, sets(lambda head: head >> 1, kind)) for kind in (32, 33, 34)]
    body = b''.join(
        bytes([0x80 | kind]) + len(found).to_bytes(2, 'big') + listed(found)
        for kind, found in arrays
    )
    return bytes([1]) + bytes(20) + bytes([0xFC | size - 1, len(arrays)]) + body


def theora_packets():
    """Return a Theora stream made by libtheora: 3 headers, 9 grey pictures, a key every 4."""
    data = zlib.decompress(base64.b85decode(_THEORA))
    packets = []
    while data:
        end = 2 + int.from_bytes(data[:2], 'big')
        packets.append(data[2:end])
        data = data[end:]
    return packets


THEORA_LEVELS = [20, 45, 70, 95, 120, 146, 170, 194, 220]
"""Mean of each picture."""

_THEORA = (
    'c-p0xdpy%^AICT3>}HOY&{)YKEJ6-96B|O?9BLwliE7N5lJl8}EJ@{YNC>yd`MA+&OIQg>+H$HCLX?zen)~&<p8NH@'
    'p8Jpc^ZNa+_x1gLukUsEUDxlA3!oYk?1S?U#By^10XzV10KgOg&;o2rko^Mxd;oyjF@SL_r>!vCw84gY>uPI2HK1BY'
    'w&U{b7w6~c?}ZCAX2(4LjP1YZ>#>s+8ONy<UKgfUvQ?gvlH|>nmpMm(9f9yQ_UCdQZ#s!@h95g~aaQ$<&jW`;5-Jd9'
    'v7Zsg3a)zF3xwA>s$5Tn#O>jaG?L5YErG?fJE=+v@OXgPj(x&OTolt3eJSbj8Qlo=EGkyBFP_*q;PHo3T7y~aksOO6'
    '(YfpS%_BIiyz~R;eEl3t@U`R~${6#!&Tb*9N0I3@xS|-_L4NG6F3BGsYg)VXPemqw2E$;;p&=Fsj6#_*nQRk<Lb8A$'
    'D4QrCXuCwAz)%i3<$nYqlYp>n5}BP3Mo}oWOa|MeP{=GG6iZ?-C?F`?VzC&oSQ3T7Cc9*VU19tp15jH8jEmPEB9mFr'
    'l9C<*J3lTy*FJ^?!ahG5!p#DE*q6dbf*Enz!MmiBrFtZJW<taAk{lALYs$RvQ0PAu7>vp;VhaqzZlef={bd$$%D)!~'
    'j9oS}GlPL)af;i-#)+G4b9vkPd%-~9xHVl}T__k;dT^VuB}r`P9$DSC{$5bjKNOh#0Rm#PNjsqIfUyI{4j4ON?SQod'
    '76=4_1r&7yIp6|wporoCjp6`};sBk^K~C`wihw{MEVi2~mV@{m@a%vG$N>+K170o;_;<h$h&<~OeC6!KM-$DO+P&V&'
    'k%_XD7ZR5P`z=~C^~g~(;^rL`QqIN;v`&8wbu2;PG3Aq-P2K>u;ekj-CA$54m?+IK#W&wIoy4P=jYxWcyy(>)6}aGW'
    '3Q-@SEU@lq2}_%;V56otPCNHm{J7D43z$qF@$|oKlD5<?zS6X*ELSGam_wWQa(x)_wntv*+;bR=Sc|<R`I*$;rewN+'
    'yo|ULSbz_!J+(_UgTE89m2OcLDB5gpSm3q*_LUW;691)VXFZKv_czG-;y~nI(YGU3jcMqmfm~xtV`*=b+d|%KdG#)j'
    'sqj4{*UuYfsylg##?Uk2SIwW%8n%Y-wY=PSI#NNI=NYX&{4i7d!#imw9%oM)aXTbXE#Ll;ci3W!d+gg4ftG}i8)w|B'
    '2?uZ322+8vc8iXdF_6*ui4MDidFMq29%99Z^@P+!OsMjRC_-gU?k>h1uSX?riNtgo?cO-zPIHi0a=^kxh4*-iL;N)a'
    '>O97Rm<4fr6$aKFzH&38r^sZ(t8s4{QYit0X<hkbH5)aaVBS*u&e?0-PUz;>?7<Kzw0f1>p(~3q<EdMtW#MqeYq%cC'
    'iE$0X=i%-`^O*9O5Aw2+twnZfXYK}urmPappCP`L!6jy825QL3EB6ENX>&t@=Y4$$GrMio#vv;%8G8MDTawnU6UTa)'
    'O0U-W0=UlApHRNza9>+_=rFcf)KFLO;2K8pg2<;iHLAD!%<v_z=B=!>3g>RX#+sJI^u&d6joaPo)j>d(nn!9!j<FD?'
    'i{+@8_sHLH^G>giy41w$nDaJxL>*1SE**0$p?4$EA*01$Kw{JHH&6mqq+!j~kmOn_n>QdHA+5l#iiR%=9bZ#1s`gCn'
    '(<nY3MCjj(eC6hyr}k5_`L@T?Vu)A5vrpB1dUw7vH(n6qQV3fCc}NG<QbQksd*ik~v#i^C<lpNzzwC28?G%ylsh`9|'
    'D<Vb8@-RAy(Fnel@cN!k#E2U7oWiugf<F@DY8@u9pv3dEA<ybaA|<->x5PcH@i&<^9zTJO%8E8OJ*RmWL_O+5mSuuc'
    '=)lH@z8YaQKX4wEmQEdofqbGR@)|#I=PZ^(r?DwI_^Oxml0%6OO~3;9_)JFA6#?$##E+7;U(=|*h6c`S!I3GdXyzrT'
    '?0H&QFg7|=w#cc$_>oVm{E7VqTP=K|M_(JyDno3`lXyeYRUET}j^D@X)LmAX8*^3=`_?1d-(+Hl_(MBg&Bf=v*ugws'
    ';}Wi08O(a;PVPB{rrRQt;^K`3Zjs$ggiPcN24{WxVF-WZ6G2CX)+At%yzB_ZH(b07Uv&#nsGP|#E+%YzaNJiXvhBLt'
    '`*SHY6&@vr?S3W5^z#&c%QyJV9@!u~^>Ccm)2iTtdcHwt9d&ZwZf2Ts@AOv9%r1-lUb-)|ZDxux<yzC~9+}818Rx7^'
    'UmdEJDc_^h|H|dGt%;A+m_0Ims^XYJ&i7z{eJQj-SHkS><=^YUC0#?p4BqilTaE0Q_c+|7pUT8aVi!;v`5H)Hx@N0}'
    '4<0a5X!C^OycRE&qrZAs>b_93dPq+>(;V_H3cFWr^OSob@j)95IeAZu??N%N>HcKO37YWJ2J2@RZ?d+MRfgepqz-H3'
    '5@;22mXZ!`thjYf^C$V3U2EK%2jL_cPr9Q%MAMp#ugHC>-8;ROf(inBS<V`9f-hG05mlsrC>2_YRaIrkTtDJlz>N=R'
    '`&le^{{%udWx(uxdjB2|-vYc((@QB+w7~+^*J|r);v?Hl$t<i+Nx8rnAv&+;at3Av<8E$gJ&yNWd@?euTH5@ii%V;J'
    'Vb^sW+?Jx|M}?uV7JS;{h}({qa7$}nZG2Gix;g>8!VINrev<#v`}T6xDS#lfYju-cR&;(5xWE6I_xO_=Af<)wdd*Av'
    '-ve5P9?_s>_y!_eKodc~l_L6kRc&EYlk`%wq*8!U;jvUl2>;3G`a04ZRI?yA9-}iTEund1k#}l!K9-%PRdhq|Da7Zu'
    'lei7>O7oM4tFdof_{H^e6KSJA796c`US>h8#>(Aio1aMMf7gEE$#?d%_5G2!nC+b?9WaUjcTS7GuEmKJK9O2bso+jV'
    'W=Sm9klp0o97eiZ9`J=Ww#;PMPPT2@BNykK$i_<PMB-gPv&{}AUL`#4pzqyN5)3j1BZI6cSBh+IKayV-c(tKVU|)4H'
    '_tVL&xy6{Pbj0(G%IvOdV!2@;YFhX7gWmkc;coBKTmG>2vvH$aVSS0jIL97!XK#F^x6B|y#b7@|u+kb;(Dp%*3n4Al'
    'azLmI8$E@$A^8^4r3YCbk4m9qGBBs7qG&Fuxpw#mTS=$u`&&n3zPy*9fyIm(Y+)h;(aKs73HI^D1opKFt_vzzL=VVa'
    '`mM{(Qlw#filpxEmG*$ogWW0B6QsV%fvE(0l<2+oucq)K@FDi0usMjky6&g2PEDiz3=x9^ZyeTU|0F^Sd8=E2bqz=P'
    'BV%5RTS#{h=1K2qX3xLH|C;=)%;4lZRh96!-ADa$HWMY|!)f4@7=nQ?;av8``30M=qloW;C0!@fB2+8kpL33b0L<Xs'
    '%t6JMqZ9d`YqHj65K%XrmK`0gPC=3sf#i2k%3X_xf3#>%xhj03XZ}#Hp02ErLK6zhf#ORx&$aP5I$ZzwTROG9bJg{w'
    'oWg>TXVN`Qm#%+dT=)tSX~MfR%6#)1>)x2~MJv7&otvXOs#htXWU5)F1k1Cz>_uATdnUdvIWvU8&_|ztg|n3LKlYmi'
    'N9Ahe-%xw1jjtXyFDt(OICgb4bgIy-O)19ju*n{e=SRF{3N8e9Sc#ZPo^(28UCJFH4_wBr+tptv`H?|5m)qV(C@Fs|'
    'Rss>Q7^!W~H=ny=vO#r!b;^jHYy4yRfCKUW>>fZwo$}a(mnqa^wF+ThG9)ijU(XD*Kys`gg)xL(O!Ez1wpZf6ygZYI'
    'rsTgm0rV^ETM|I%S9i1Asn@RkwFQvpfAj@7|10e;1C;(6;LoYW3T#j9-&l4~Yy'
)  # fmt: skip
