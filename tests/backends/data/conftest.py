"""Small data sets on disk and on a hub of our own, laid out as the real ones are."""

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest

# Directory of the hub's repository -> what its `type` column says.
SUBJECTS = {
    "algebra": "Algebra",
    "counting_and_probability": "Counting & Probability",
    "geometry": "Geometry",
    "intermediate_algebra": "Intermediate Algebra",
    "number_theory": "Number Theory",
    "prealgebra": "Prealgebra",
    "precalculus": "Precalculus",
}


@pytest.fixture(scope="session")
def math_rows():
    """Split -> subject's directory -> columns, as in EleutherAI/hendrycks_math."""
    return {
        split: {
            directory: {
                "problem": [f"{directory} {split} {i}" for i in range(2)],
                "level": ["Level 5", "Level ?"],
                "type": [subject] * 2,
                "solution": [
                    r"First $\boxed{0}$, no: $\boxed{\frac{1}{2}}$.",
                    rf"It is $\boxed {len(split)}$.",
                ],
            }
            for directory, subject in SUBJECTS.items()
        }
        for split in ("train", "test")
    }


@pytest.fixture
def mirror(tmp_path, math_rows):
    """A copy of the hub's repository: parquet files in one directory per subject."""
    pa = pytest.importorskip("pyarrow")  # comes with `datasets`, which a bare installation lacks
    pq = pytest.importorskip("pyarrow.parquet")
    root = tmp_path / "hendrycks_math"
    card = "---\nconfigs:\n"
    for directory in SUBJECTS:
        (root / directory).mkdir(parents=True)
        card += f"- config_name: {directory}\n  data_files:\n"
        for split, subjects in math_rows.items():
            file = root / directory / f"{split}-00000-of-00001.parquet"
            pq.write_table(pa.table(subjects[directory]), file)
            card += f"  - split: {split}\n    path: {directory}/{split}-*\n"
    (root / "README.md").write_text(f"{card}---\n# MATH\n")
    return root


class HubHandler(BaseHTTPRequestHandler):
    """Answers as the Hugging Face hub does for one data set; `server.root` holds its files."""

    protocol_version = "HTTP/1.1"
    commit = "0123456789abcdef0123456789abcdef01234567"

    def log_message(self, *_):
        self.server.requests.append(self.requestline)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        repository = f"datasets/{self.server.repository}"
        if path.startswith(f"/{repository}/resolve/"):
            self.answer_file(path.removeprefix(f"/{repository}/resolve/").partition("/")[2])
        elif path.startswith(f"/api/{repository}/tree/"):
            self.answer_tree(path.removeprefix(f"/api/{repository}/tree/").partition("/")[2])
        elif path.startswith(f"/api/{repository}"):
            names = [str(file.relative_to(self.server.root)) for file in self.files()]
            self.answer_json(
                {
                    "id": self.server.repository,
                    "sha": self.commit,
                    "siblings": [{"rfilename": name} for name in names],
                }
            )
        elif "gated" in path:
            self.answer(403, {"X-Error-Code": "GatedRepo"})
        else:
            self.answer(401, {"X-Error-Code": "RepoNotFound"})

    def files(self):
        return sorted(file for file in self.server.root.rglob("*") if file.is_file())

    def answer_file(self, name):
        file = self.server.root / name
        if not file.is_file():
            self.answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": self.commit})
            return
        content = file.read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        self.answer(200, {"X-Repo-Commit": self.commit, "ETag": etag}, content)

    def answer_tree(self, name):
        entries = []
        for entry in sorted((self.server.root / name).iterdir()):
            path = str(entry.relative_to(self.server.root))
            kind = "file" if entry.is_file() else "directory"
            size = entry.stat().st_size if entry.is_file() else 0
            entries.append({"type": kind, "oid": "0" * 40, "size": size, "path": path})
        self.answer_json(entries)

    def answer_json(self, value):
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def answer(self, status, headers, content=b""):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@pytest.fixture
def hub(mirror):
    """A server that has the mirror as EleutherAI/hendrycks_math; `server.requests` grows."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), HubHandler)
    server.root = Path(mirror)
    server.repository = "EleutherAI/hendrycks_math"
    server.requests = []
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
