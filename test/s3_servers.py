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

"""An S3 stand-in with real HTTP in front of which connections are cut and requests refused."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
import http.client
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import threading
from typing import NamedTuple

BUCKET = 'lab'


class Seen(NamedTuple):
    """A request that the proxy has passed on or refused."""

    method: str
    path: str
    span: str
    """Of bytes, as the header Range has it."""
    sent: int
    """Bytes of the answer that were passed on."""


class Fault(NamedTuple):
    """What becomes of the next requests that match."""

    matches: Callable[[str, str, str], bool]
    """Of method, path and range of bytes."""
    times: int
    status: int = 0
    """Answered in place of the server; 0 cuts the connection..."""
    after: int = 0
    """...when so many bytes of the answer have been sent."""


class Proxy:
    """Passes requests on to a server, but for those that a fault is for."""

    def __init__(self, port: int) -> None:
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def log_message(self, *_):
                pass

            def handle_one(self):
                body = self._body()
                span = self.headers.get('Range', '')
                fault = proxy.take_fault(self.command, self.path, span)
                if fault is not None and fault.status:
                    self._answer(fault.status, {}, b'')
                    return
                connection = http.client.HTTPConnection('127.0.0.1', port, timeout=30)
                headers = {k: v for k, v in self.headers.items() if k.lower() != 'expect'}
                connection.request(self.command, self.path, body, headers)
                reply = connection.getresponse()
                data = reply.read()
                sent = dict(reply.getheaders())
                connection.close()
                if fault is not None:
                    self._cut(reply.status, sent, data[: fault.after])
                else:
                    self._answer(reply.status, sent, data)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_one  # noqa: N815

            def _body(self):
                if 'chunked' in self.headers.get('Transfer-Encoding', ''):
                    parts = []
                    while size := int(self.rfile.readline().split(b';')[0], 16):
                        parts.append(self.rfile.read(size))
                        self.rfile.readline()
                    self.rfile.readline()
                    del self.headers['Transfer-Encoding']
                    body = b''.join(parts)
                    self.headers['Content-Length'] = str(len(body))
                    return body
                return self.rfile.read(int(self.headers.get('Content-Length') or 0))

            def _head(self, status, headers, length):
                self.send_response_only(status)
                for name, value in headers.items():
                    if name.lower() not in ('content-length', 'transfer-encoding', 'connection'):
                        self.send_header(name, value)
                self.send_header('Content-Length', str(length))
                self.end_headers()

            def _answer(self, status, headers, data):
                length = len(data)
                if self.command == 'HEAD':
                    length = int(
                        headers.get('Content-Length') or headers.get('content-length') or 0
                    )
                self._head(status, headers, length)
                if self.command != 'HEAD':
                    self.wfile.write(data)
                self._note(len(data))

            def _cut(self, status, headers, data):
                self._head(status, headers, len(data) + 1000)
                self.wfile.write(data)
                self.wfile.flush()
                self._note(len(data))
                self.close_connection = True
                self.connection.close()

            def _note(self, sent):
                span = self.headers.get('Range', '')
                proxy.seen.append(Seen(self.command, self.path, span, sent))

        self._server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # whoever was waiting may have gone
        self.url = f'http://127.0.0.1:{self._server.server_address[1]}'
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def take_fault(self, *request):
        for place, fault in enumerate(self.faults):
            if fault.matches(*request):
                self.faults[place] = fault._replace(times=fault.times - 1)
                if fault.times == 1:
                    del self.faults[place]
                return fault
        return None

    def fetched(self, name):
        """Return the ranges of a file that were asked for."""
        return [
            one.span
            for one in self.seen
            if one.method == 'GET' and one.path.partition('?')[0].endswith(name)
        ]

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def s3_server():
    """Run an S3 stand-in behind a proxy; yield that, and the environment of clients."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer('127.0.0.1', port=0, verbose=False)
    server.start()
    proxy = Proxy(server.get_host_and_port()[1])
    environment = {
        'AWS_ENDPOINT_URL': proxy.url,
        'AWS_ACCESS_KEY_ID': 'key-of-tests',
        'AWS_SECRET_ACCESS_KEY': 'secret-of-tests',
        'AWS_DEFAULT_REGION': 'us-east-1',
        'AWS_EC2_METADATA_DISABLED': 'true',
    }
    try:
        yield proxy, environment
    finally:
        proxy.close()
        server.stop()


def reading(name):
    """Match requests that read a file."""
    return lambda method, path, _: method == 'GET' and path.partition('?')[0].endswith(name)


def writing(name):
    """Match requests that write a file."""
    return lambda method, path, _: method in ('PUT', 'POST') and name in path
