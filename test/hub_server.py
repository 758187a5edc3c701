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

"""A stand-in for the Hugging Face Hub, which its own client talks to over HTTP."""

from __future__ import annotations

import base64
import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
import re
import threading


class Hub:
    """Keeps dataset repositories in memory; large files go by Git LFS."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.tags: dict[str, dict[str, int]] = {}
        """By repository: which commit each names."""
        self.commits: list[list[str]] = []
        """Paths that each commit has written; of deleted ones with a minus."""
        self.failures: list[tuple[str, int, int]] = []
        """Pieces of paths, how many requests go well before one fails, and with which status."""
        self.tokens: set[str] = set()
        self.objects: dict[str, bytes] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def log_message(self, *_):
                pass

            def do(self):
                body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
                hub.tokens.add(self.headers.get('Authorization', ''))
                status = hub.failure_of(self.path)
                if status:
                    self.answer(status, {'error': 'injected'})
                    return
                hub.serve(self, self.command, self.path.partition('?')[0], body)

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do  # noqa: N815

            def answer(self, status, document=None, data=None, headers=()):
                data = json.dumps(document).encode() if data is None else data
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header('Content-Length', str(len(data)))
                self.end_headers()
                if self.command != 'HEAD':
                    self.wfile.write(data)

        self._server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self._server.daemon_threads = True
        self.url = f'http://127.0.0.1:{self._server.server_address[1]}'
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def failure_of(self, path):
        for place, (piece, skipped, status) in enumerate(self.failures):
            if piece in path:
                if skipped:
                    self.failures[place] = (piece, skipped - 1, status)
                    return 0
                del self.failures[place]
                return status
        return 0

    def serve(self, request, method, path, body):
        if path == '/api/repos/create':
            asked = json.loads(body)
            name = f'{asked.get("organization") or "me"}/{asked["name"]}'
            if name in self.repositories:
                request.answer(409, {'url': f'{self.url}/datasets/{name}', 'error': 'exists'})
                return
            self.repositories[name] = {}
            private = asked.get('visibility') == 'private' or asked.get('private')
            self.private[name] = bool(private)
            request.answer(200, {'url': f'{self.url}/datasets/{name}', 'name': name, 'id': name})
            return
        if path == '/api/validate-yaml':
            request.answer(200, {'errors': [], 'warnings': []})
            return
        if match := re.fullmatch(r'/objects/(\w+)', path):
            self.objects[match[1]] = body
            request.answer(200, {})
            return
        match = re.fullmatch(r'(?:/api)?/datasets/([^/]+/[^/]+?)(?:\.git)?(?:/(.*))?', path)
        files = self.repositories.get(match[1]) if match else None
        if files is None:
            request.answer(404, {'error': 'no'}, headers=[('X-Error-Code', 'RepoNotFound')])
            return
        self.serve_repository(request, method, match[1], files, match[2], body)

    def serve_repository(self, request, method, name, files, rest, body):
        if rest is None:
            request.answer(200, {'id': name, 'private': self.private.get(name, False)})
        elif rest.startswith('tree/'):
            request.answer(200, [_entry(path, data) for path, data in files.items()])
        elif rest.startswith('preupload/'):
            asked = json.loads(body)['files']
            request.answer(200, {'files': [_mode(file) for file in asked]})
        elif rest == 'info/lfs/objects/batch':
            objects = [
                {**item, 'actions': {'upload': {'href': f'{self.url}/objects/{item["oid"]}'}}}
                for item in json.loads(body)['objects']
            ]
            request.answer(200, {'transfer': 'basic', 'objects': objects})
        elif rest.startswith('commit/'):
            self.commits.append([self.apply(files, line) for line in body.splitlines()[1:]])
            oid = f'{len(self.commits):040x}'
            request.answer(200, {'commitUrl': f'{self.url}/datasets/{name}/commit/{oid}',
                                 'commitOid': oid})  # fmt: skip
        elif rest.startswith('resolve/main/'):
            data = files.get(rest.removeprefix('resolve/main/'))
            if data is None:
                headers = [('X-Error-Code', 'EntryNotFound')]
                request.answer(404, {'error': 'no'}, headers=headers)
            else:
                etag = f'"{hashlib.sha1(data).hexdigest()}"'
                request.answer(
                    200, data=data, headers=[('ETag', etag), ('X-Repo-Commit', 'c' * 40)]
                )
        elif rest.startswith('tag/') and method == 'DELETE':
            found = self.tags.get(name, {}).pop(rest.removeprefix('tag/'), None)
            error = [('X-Error-Code', 'RevisionNotFound')]
            request.answer(200 if found else 404, {}, headers=() if found else error)
        elif rest.startswith('tag/'):
            self.tags.setdefault(name, {})[json.loads(body)['tag']] = len(self.commits)
            request.answer(200, {})
        else:
            request.answer(501, {'error': f'{method} {rest}'})

    def apply(self, files, line):
        entry = json.loads(line)
        value = entry['value']
        path = value['path']
        if entry['key'] == 'deletedFile':
            del files[path]
            return f'-{path}'
        if entry['key'] == 'lfsFile':
            files[path] = self.objects[value['oid']]
        else:
            files[path] = base64.b64decode(value['content'])
        return path

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def _mode(file):
    large = file['path'].endswith(('.parquet', '.mp4'))
    mode = 'lfs' if large else 'regular'
    return {'path': file['path'], 'uploadMode': mode, 'shouldIgnore': False, 'oid': None}


def _entry(path, data):
    git = hashlib.sha1(b'blob %d\0' % len(data) + data).hexdigest()
    entry = {'type': 'file', 'path': path, 'size': len(data), 'oid': git}
    if path.endswith(('.parquet', '.mp4')):
        oid = hashlib.sha256(data).hexdigest()
        entry['lfs'] = {'oid': oid, 'size': len(data), 'pointerSize': 130}
    return entry
