"""What any dataset says and holds, read without the code under test."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path


def info(root):
    return json.loads((Path(root) / 'meta' / 'info.json').read_text())


def tree(root):
    """Return a digest of every file below a folder."""
    root = Path(root)
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }
