"""`acmf data` over an object store: every command works on a bucket, and a refusing one is one short line."""

import json
import os
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import Process, get_context
from pathlib import Path

import pandas as pd
import pytest
from archive_server import ArchiveServer
from lake_rows import bars
from s3_server import S3Server, s3_server

from acmf_cli.main import main

# One answer: (exit code, standard output, standard error).
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def store() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`acmf data ...` in an empty folder; what delta-rs itself writes is captured as well."""
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith(("ACMF__", "AWS_")) or n == "LAKE_URI"]:
        monkeypatch.delenv(name)
    bars(100).to_csv("bars.csv", index=False)

    def command(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["data", *arguments])
        captured = capfd.readouterr()
        return int(left.value.code or 0), captured.out, captured.err

    return command


def test_import_pull_status_check_and_compact_work_on_a_bucket(
    run: Run, store: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in store.options.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LAKE_URI", f"{store.bucket()}/history")
    code, out, _ = run("status")
    assert (code, "is empty; acmf data import FILE" in out) == (0, True)
    code, out, _ = run("import", "bars.csv", "--allow-short", "--json")
    assert (code, json.loads(out)["inserted"], json.loads(out)["lake"][-8:]) == (0, 100, "/history")
    code, out, _ = run("import", "bars.csv", "--allow-short")
    assert (code, "nothing new, 100 rows were there already (version 1)" in out) == (0, True)
    with ArchiveServer(bars(4 * 96)) as archive:
        monkeypatch.setenv("ACMF__SOURCES__ARCHIVE_BASE_URL", archive.url)
        days = ("--from", "2024-01-02", "--to", "2024-01-04", "--no-tail")
        code, out, err = run("pull", *days, "--only", "candles", "--interval", "15m", "--json")
        assert code == 0, err
    code, out, _ = run("status", "--json")
    held = pd.DataFrame(json.loads(out)["tables"])
    assert held.loc[held["table"] == "candles", "rows"].tolist() == [3 * 96]
    code, out, _ = run("compact", "--json")
    assert code == 0
    lines = {line["table"]: line for line in json.loads(out)["tables"]}
    assert lines["candles"]["files_after"] == 1
    code, out, err = run("check")
    assert (code, "BTCUSDT 15m: 288 rows" in out) == (0, True), err
    assert not Path("s3:").exists()  # nobody took the URI for a folder


REFUSALS = {
    "gone": "the bucket does not exist (NoSuchBucket)",
    "forbidden": "the object store forbids it (AccessDenied)",
    "silent": "the object store does not answer",
    "nobody": "the object store does not answer",
    "broken": "the object store has trouble of its own (503 Service)",
}


class Refusing(BaseHTTPRequestHandler):
    """Answers every request with one error of S3, or never."""

    status, body = 403, b"<Error><Code>AccessDenied</Code><Message>AKIDSECRET may not</Message></Error>"

    def do_GET(self) -> None:
        if not self.status:
            time.sleep(60.0)
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_PUT = do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


def _serve(server: ThreadingHTTPServer) -> None:
    server.serve_forever()


@pytest.fixture
def refusing(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a store that refuses in one way; in a process of its own, as `s3_server` says."""
    statuses = {"forbidden": 403, "broken": 503, "silent": 0}
    body = Refusing.body if request.param == "forbidden" else b"busy"
    handler = type("Handler", (Refusing,), {"status": statuses[request.param], "body": body})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        process: Process = get_context("fork").Process(target=_serve, args=(server,), daemon=True)
        process.start()
        yield f"http://127.0.0.1:{server.server_port}"
        process.kill()
        process.join()


def refused(run: Run, command: tuple[str, ...], meaning: str) -> None:
    began = time.perf_counter()
    code, out, err = run(*command)
    assert code == 3
    assert out == ""
    assert err.count("\n") == 1, err
    assert meaning in err
    assert "panicked" not in err
    assert "her-secret" not in err
    assert "AKIDSECRET" not in err
    assert time.perf_counter() - began < 8.0


@pytest.mark.parametrize(
    "command", [("status",), ("check",), ("compact",), ("import", "bars.csv", "--allow-short")]
)
def test_a_bucket_that_is_not_there_is_one_line(
    run: Run, store: S3Server, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    for name, value in store.options.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LAKE_URI", "s3://no-such-bucket/lake")
    refused(run, command, REFUSALS["gone"])


def test_a_store_that_is_not_there_is_one_line(
    run: Run, store: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (store.options | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LAKE_URI", "s3://bucket/lake")
    refused(run, ("status",), REFUSALS["nobody"])
    refused(run, ("import", "bars.csv", "--allow-short"), REFUSALS["nobody"])


@pytest.mark.parametrize("refusing", ["forbidden", "broken", "silent"], indirect=True)
def test_a_store_that_refuses_is_one_line(
    run: Run,
    store: S3Server,
    refusing: str,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    for name, value in (store.options | {"AWS_ENDPOINT_URL": refusing}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LAKE_URI", "s3://bucket/lake")
    refused(run, ("status",), REFUSALS[request.node.callspec.params["refusing"]])
