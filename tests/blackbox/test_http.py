"""The HTTP edge: what is refused before anything happens, and how the refusal reads."""

import json
import re
import socket
import subprocess
import time

import pytest

from sandboxd import BINARY, PATIENCE, raw_exchange, until

pytestmark = pytest.mark.quick

MISSING = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest.fixture(autouse=True)
def nothing_happens(daemon):
    """No request of this file may leave a sandbox, a 500, or a daemon that does not answer."""
    before = [s["id"] for s in daemon.get("/v1/sandboxes").json()["sandboxes"]]
    yield
    assert daemon.get("/healthz").status == 200
    assert [s["id"] for s in daemon.get("/v1/sandboxes").json()["sandboxes"]] == before


def assert_v1_error(reply, status, code=None, says=()):
    assert reply.status == status, reply
    error = reply.json()["error"]
    assert set(error) - {"remedy"} == {"code", "message", "retryable", "request_id"}, error
    assert error["request_id"] == reply.headers["X-Request-Id"]
    if code:
        assert error["code"] == code, error
    for word in [says] if isinstance(says, str) else says:
        assert word in error["message"], error


# --- framing (T-44) ---

GET = b"GET /v1/sandboxes HTTP/1.1\r\n"
POST = b"POST /v1/sandboxes HTTP/1.1\r\nHost: localhost\r\n"

FRAMING = {
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "two equal lengths": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "length list": POST + b"Content-Length: 2, 2\r\n\r\n{}",
    "length with plus": POST + b"Content-Length: +2\r\n\r\n{}",
    "hexadecimal length": POST + b"Content-Length: 0x2\r\n\r\n{}",
    "negative length": POST + b"Content-Length: -2\r\n\r\n{}",
    "length not a number": POST + b"Content-Length: two\r\n\r\n{}",
    "length beyond 64 bits": POST + b"Content-Length: 99999999999999999999\r\n\r\n{}",
    "length and coding": POST
    + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "coding and length": POST
    + b"Transfer-Encoding: chunked\r\nContent-Length: 7\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "coding twice": POST
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "coding list": POST + b"Transfer-Encoding: identity, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "gzip coding": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "space before colon": GET + b"Host : localhost\r\n\r\n",
    "space before colon of the length": POST + b"Content-Length : 2\r\n\r\n{}",
    "two hosts": GET + b"Host: localhost\r\nHost: localhost\r\n\r\n",
    "two different hosts": GET + b"Host: localhost\r\nHost: evil.example\r\n\r\n",
    "no host": GET + b"\r\n",
    "folded length": POST + b"Content-Length: 2\r\n 0\r\n\r\n{}",
    "folded coding": POST
    + b"Transfer-Encoding: chunked\r\n , identity\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "folded host": GET + b"Host: localhost\r\n .evil.example\r\n\r\n",
    "nul in the host": GET + b"Host: localhost\x00.evil.example\r\n\r\n",
    "nul in the length": POST + b"Content-Length: 2\x000\r\n\r\n{}",
    "nul in a header": GET + b"Host: localhost\r\nX-A: b\x00c\r\n\r\n",
    "not http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no version": b"GET /v1/sandboxes\r\nHost: localhost\r\n\r\n",
    "junk in the chunk size": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", FRAMING)
def test_ambiguous_framing_is_refused_and_the_connection_closed(daemon, name):
    smuggled = b"GET /v1/sandboxes?limit=7 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(daemon.address, timeout=5 * PATIENCE) as s:
        s.sendall(FRAMING[name] + smuggled)
        answer = b""
        try:
            while (data := s.recv(65536)):
                answer += data
        except ConnectionResetError:
            pass
        # Silence would be a timeout here: the connection is closed, with an answer or without.
    statuses = set(re.findall(rb"HTTP/1\.1 (\d\d\d)", answer))
    assert statuses <= {b"400", b"413", b"431", b"501"}, f"{name}: {answer}"
    assert b'"sandboxes"' not in answer, f"{name}: the bytes behind it were taken for a request"


def test_requests_in_a_row_on_one_connection_are_each_answered(daemon):
    one = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    replies, closed = raw_exchange(daemon, one * 3 + last, timeout=5)
    assert [r.status for r in replies] == [200] * 4 and closed


def test_slow_headers_block_nobody(daemon):
    slow = []
    try:
        for _ in range(50):
            s = socket.create_connection(daemon.address, timeout=5)
            s.sendall(b"GET /v1/sandboxes HTTP/1.1\r\nHost: lo")
            slow.append(s)
        began = time.monotonic()
        for _ in range(50):
            assert daemon.get("/healthz").status == 200
        assert time.monotonic() - began < 2 * PATIENCE
    finally:
        for s in slow:
            s.close()


# --- whom the request is for (T-35) ---


@pytest.mark.parametrize("host, status", [
    ("localhost", 200), ("LOCALHOST", 200), ("localhost:1", 200), ("127.0.0.1", 200),
    ("127.0.0.1:9090", 200), ("[::1]", 200), ("[::1]:80", 200),
    ("evil.example", 421), ("localhost.evil.example", 421), ("evil.localhost.example", 421),
    ("0.0.0.0", 421), ("10.0.0.1", 421), ("169.254.169.254", 421), ("127.0.0.1.nip.io", 421),
    ("xlocalhost", 421), ("localhost-", 421), ("[::]", 421), ("[fe80::1]", 421),
    ("2130706433", 421), ("metadata.google.internal", 421),
    ("localhost:", 4), ("localhost:99999", 4), ("localhost:http", 4), ("localhost.", 4),
    ("a@localhost", 4), ("local host", 4), ("localhost,evil.example", 4), ("[::1", 4),
    ("localhost/x", 4), ("localhost?x", 4), ("\u00e9vil.example", 4),
])
def test_host_must_be_on_the_list(daemon, host, status):
    for path in "/v1/sandboxes", "/sandboxes", f"/v1/sandboxes/{MISSING}x":
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        replies, _ = raw_exchange(daemon, request.encode(), timeout=5)
        got = replies[0].status
        if status == 200:
            assert got == (404 if path.endswith("x") else 200)
        elif status == 4:
            assert got in (400, 421), (host, path, got)
        else:
            assert got == status, (host, path, got)


def test_absolute_target_does_not_get_round_the_host_list(daemon):
    request = b"GET http://evil.example/v1/sandboxes HTTP/1.1\r\nHost: localhost\r\n"
    replies, _ = raw_exchange(daemon, request + b"Connection: close\r\n\r\n", timeout=5)
    assert 400 <= replies[0].status < 500


# --- browsers (T-34, T-36) ---

JSON_TYPE = {"Content-Type": "application/json"}
PAGE = {
    "foreign origin": {"Origin": "http://evil.example"},
    "null origin": {"Origin": "null"},
    "prefix look-alike": {"Origin": "http://localhost.evil.example"},
    "suffix look-alike": {"Origin": "http://evil-localhost"},
    "other port": {"Origin": "http://localhost:1"},
    "preview": {"Origin": "http://s-x-3000.preview.localhost"},
    "file": {"Origin": "file://"},
    "cross-site": {"Sec-Fetch-Site": "cross-site"},
    "same-site": {"Sec-Fetch-Site": "same-site"},
    "odd site": {"Sec-Fetch-Site": "whatever"},
}


@pytest.mark.parametrize("name", PAGE)
def test_requests_of_foreign_pages_are_refused(daemon, name):
    for kind in JSON_TYPE, {"Content-Type": "text/plain"}, {}:
        reply = daemon.call("POST", "/v1/sandboxes", raw=b"{}", headers={**PAGE[name], **kind})
        assert_v1_error(reply, 403, "forbidden")
        reply = daemon.call("POST", "/sandbox", raw=b"{}", headers={**PAGE[name], **kind})
        assert reply.status == 403 and isinstance(reply.json()["error"], str)
    for method, path in ("GET", "/v1/sandboxes"), ("DELETE", f"/v1/sandboxes/{MISSING}"), (
        "OPTIONS", "/v1/sandboxes"):
        reply = daemon.call(method, path, headers=PAGE[name])
        assert 400 <= reply.status < 500
        assert not [h for h in reply.headers if h.lower().startswith("access-control-")]


def test_own_pages_must_send_json_for_changes(daemon):
    own = {"Origin": f"http://{daemon.address[0]}:{daemon.address[1]}"}
    host = f"{daemon.address[0]}:{daemon.address[1]}"
    reply = daemon.call("GET", "/v1/sandboxes", headers={**own, "Host": host})
    assert reply.status == 200
    for kind in "text/plain", "application/x-www-form-urlencoded", "multipart/form-data":
        reply = daemon.call("POST", "/v1/sandboxes", raw=b"{}",
                            headers={**own, "Host": host, "Content-Type": kind})
        assert_v1_error(reply, 415, "unsupported_media_type")
    reply = daemon.call("POST", "/v1/sandboxes", raw=b'{"nope":1}',
                        headers={**own, "Host": host, **JSON_TYPE})
    assert_v1_error(reply, 400, "invalid_request", "nope")
    reply = daemon.call("GET", "/v1/sandboxes", headers={"Sec-Fetch-Site": "same-origin"})
    assert reply.status == 200


def test_without_a_browser_any_content_type_is_json(daemon):
    for kind in "text/plain", "application/x-www-form-urlencoded", None:
        headers = {"Content-Type": kind} if kind else {}
        reply = daemon.call("POST", "/v1/sandboxes", raw=b'{"nope":1}', headers=headers)
        assert_v1_error(reply, 400, "invalid_request", "nope")


# --- sizes (T-46) ---


def test_header_cap(daemon):
    small = daemon.call("GET", "/healthz", headers={"X-Big": "x" * 6000})
    assert small.status == 200
    for size in 8192, 20000, 1 << 20:
        head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Big: " + b"x" * size + b"\r\n\r\n"
        replies, closed = raw_exchange(daemon, head, timeout=5)
        assert closed and [r.status for r in replies] in ([431], [400], [413], []), replies
    head = b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
    replies, closed = raw_exchange(daemon, head, timeout=5)
    assert closed and all(400 <= r.status < 500 for r in replies), replies
    many = b"".join(b"X-%d: y\r\n" % i for i in range(200))
    replies, closed = raw_exchange(
        daemon, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + many + b"\r\n", timeout=5)
    assert closed and all(400 <= r.status < 500 for r in replies), replies


def test_body_cap(daemon):
    before = daemon.rss_kib()
    body = b'{"metadata":{"a":"' + b"x" * (2 << 20) + b'"}}'
    assert_v1_error(daemon.call("POST", "/v1/sandboxes", raw=body), 413, "too_large")
    assert daemon.call("POST", "/sandbox", raw=body).status == 413
    # Announced, never sent: the answer does not wait for it.
    head = POST + b"Content-Length: 1073741824\r\n\r\n"
    replies, closed = raw_exchange(daemon, head, timeout=5)
    assert [r.status for r in replies] == [413] and closed
    # Not announced: counted as it comes.
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    head = POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    replies, closed = raw_exchange(daemon, head + chunk * 64 + b"0\r\n\r\n", timeout=5)
    assert closed and [r.status for r in replies] == [413]
    # Without an end: not read for ever.
    with socket.create_connection(daemon.address, timeout=10 * PATIENCE) as s:
        s.sendall(head)
        with pytest.raises(ConnectionError):
            for _ in range(16 * 1024):
                s.sendall(chunk)
    assert daemon.rss_kib() - before < daemon.rss_slack(8 * 1024)


# --- JSON (T-46) ---

BAD_JSON = {
    "open brace": b"{", "bare word": b"nope", "missing value": b'{"env":}',
    "trailing comma": b'{"env":{},}', "trailing junk": b'{} x', "two values": b"{}{}",
    "single quotes": b"{'env':{}}", "comment": b"{/* */}", "NaN": b'{"limits":{"cpus":NaN}}',
    "Infinity": b'{"limits":{"cpus":Infinity}}', "1e400": b'{"limits":{"cpus":1e400}}',
    "too large a number": b'{"ports":[' + b"9" * 40 + b"]}",
    "leading zero": b'{"limits":{"pids":0100}}', "hex": b'{"limits":{"pids":0x40}}',
    "array": b"[]", "number": b"1", "string": b'"x"', "true": b"true",
    "lone surrogate": b'{"metadata":{"a":"\\ud800"}}',
    "not utf-8": b'{"metadata":{"a":"\xff\xfe"}}',
    "overlong": b'{"metadata":{"a":"\xc0\x80"}}',
    "byte order mark": b"\xef\xbb\xbf{}", "utf-16": '{"env":{}}'.encode("utf-16"),
    "nul escape": b'{"metadata":{"a":"x\\u0000y"}}', "nul byte": b'{"metadata":{"a":"x\x00y"}}',
    "nul after": b"{}\x00", "control byte": b'{"metadata":{"a":"x\x01y"}}',
    "duplicate key": b'{"image":"a","image":"b"}',
    "duplicate key below": b'{"limits":{"pids":64,"pids":65}}',
    "deep list": b'{"ports":' + b"[" * 40 + b"]" * 40 + b"}",
    "very deep": b"[" * 100000, "very deep objects": b'{"a":' * 100000,
    "deep in an unknown field": b'{"nope":' + b'{"a":' * 64 + b"1" + b"}" * 65,
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_bad_json_is_a_400(daemon, name):
    assert_v1_error(daemon.call("POST", "/v1/sandboxes", raw=BAD_JSON[name]), 400,
                    "invalid_request")
    reply = daemon.call("POST", "/sandbox", raw=BAD_JSON[name])
    assert reply.status == 400 and isinstance(reply.json()["error"], str)


def many(n, value="x"):
    return {f"K{i}": value for i in range(n)}


# body, word that the message must hold
BAD_CREATE = [
    # fields that are not ours, above all those that would weaken the box (T-14)
    *[({name: value}, name) for name, value in [
        ("nope", 1), ("privileged", True), ("Privileged", True), ("mounts", []), ("binds", []),
        ("volumes", {}), ("network", "host"), ("network_mode", "host"), ("labels", {"a": "b"}),
        ("Labels", {}), ("runtime", "runc"), ("devices", []), ("security_opt", []),
        ("cap_add", ["ALL"]), ("user", "0"), ("User", "root"), ("entrypoint", ["/bin/sh"]),
        ("cmd", ["sh"]), ("Env", ["A=b"]), ("ENV", {}), ("Image", "x"), ("hostConfig", {}),
        ("HostConfig", {"Privileged": True}), ("pid_mode", "host"), ("ipc", "host"),
        ("userns_mode", "host"), ("sysctls", {}), ("ulimits", []), ("tmpfs", {}),
        ("read_only", False), ("working_dir", "/"), ("restart", "always"), ("hostname", "x"),
        ("tenant", "x"), ("node", "x"), ("status", "running"), ("container_id", "x"),
        ("\n", 1), ("a\u202eb", 1), ("", 1),
    ]],
    ({"image": 1}, "image"), ({"image": ""}, "image"), ({"image": []}, "image"),
    ({"image": "alpine:latest"}, "image"), ({"image": "x" * 5000}, "image"),
    ({"image": "sandboxd-test:latest\n"}, "image"), ({"image": "../../etc"}, "image"),
    ({"ports": "3000"}, "ports"), ({"ports": {}}, "ports"), ({"ports": [0]}, "ports"),
    ({"ports": [65536]}, "ports"), ({"ports": [-1]}, "ports"), ({"ports": ["80"]}, "ports"),
    ({"ports": [1.5]}, "ports"), ({"ports": [None]}, "ports"),
    ({"ports": list(range(3000, 3033))}, "ports"), ({"ports": [10 ** 18]}, "ports"),
    ({"env": []}, "env"), ({"env": "A=b"}, "env"), ({"env": {"": "x"}}, "env"),
    ({"env": {"A=B": "x"}}, "env"), ({"env": {"A B": "x"}}, "env"), ({"env": {"1A": "x"}}, "env"),
    ({"env": {"A\n": "x"}}, "env"), ({"env": {"A": 1}}, "env"), ({"env": {"A": None}}, "env"),
    ({"env": {"A": ["x"]}}, "env"), ({"env": many(101)}, "env"),
    ({"env": many(3, "x" * 60000)}, "env"), ({"env": {"A-B": "x"}}, "env"),
    ({"limits": []}, "limits"), ({"limits": {"nope": 1}}, "nope"), ({"limits": 1}, "limits"),
    *[({"limits": {name: value}}, name)
      for name in ("memory_mib", "cpus", "pids", "disk_mib")
      for value in (0, -1, "64", True, [], 10 ** 12, 10 ** 18)],
    ({"limits": {"memory_mib": 63}}, "memory_mib"), ({"limits": {"memory_mib": 128.5}},
                                                     "memory_mib"),
    ({"limits": {"pids": 15}}, "pids"), ({"limits": {"pids": 1e3 + 0.5}}, "pids"),
    ({"limits": {"Memory": 64}}, "Memory"),
    ({"idle_policy": "never"}, "idle_policy"), ({"idle_policy": 1}, "idle_policy"),
    ({"idle_policy": "SLEEP"}, "idle_policy"),
    ({"visibility": "secret"}, "visibility"), ({"visibility": ""}, "visibility"),
    ({"metadata": []}, "metadata"), ({"metadata": {"a": 1}}, "metadata"),
    ({"metadata": {"a": {"b": "c"}}}, "metadata"), ({"metadata": many(65)}, "metadata"),
    ({"metadata": {"a": "x" * 20000}}, "metadata"),
    ({"id": 1}, "id"), ({"id": ""}, "id"), ({"id": "demo01"}, "id"),
    ({"id": "0" * 25}, "id"), ({"id": "0" * 27}, "id"), ({"id": "8" + "0" * 25}, "id"),
    ({"id": "0" * 25 + "I"}, "id"), ({"id": "0" * 25 + "U"}, "id"), ({"id": "0" * 25 + "-"}, "id"),
    ({"id": "../../../../../etc/passwd0"}, "id"), ({"id": "0" * 25 + "\n"}, "id"),
    ({"external": "x"}, "external"), ({"external": {"nope": "x"}}, "nope"),
    *[({"external": {name: value}}, name)
      for name in ("user_id", "project_id", "workspace_id")
      for value in ("a,b", "a\u0001b", "a\nb", "a\u007fb", "x" * 257, 1)],
    ({"project": "x"}, "project"), ({"project": {}}, "project"),
    ({"project": {"id": 1, "user_id": "u"}}, "project"),
    ({"project": {"id": "a,b", "user_id": "u"}}, "project"),
    ({"project": {"id": "p", "user_id": "u", "nope": 1}}, "nope"),
    ({"memory_high": 4}, "memory_high"),
]


@pytest.mark.parametrize("body, word", BAD_CREATE,
                         ids=[ascii(json.dumps(b))[1:60] for b, _ in BAD_CREATE])
def test_bad_create_is_a_400_that_names_the_field(daemon, body, word):
    reply = daemon.call("POST", "/v1/sandboxes", raw=json.dumps(body).encode())
    assert_v1_error(reply, 400, says=word if word.isprintable() else ())
    assert reply.json()["error"]["code"] == "invalid_request"


@pytest.mark.parametrize("field, value", [
    ("template", "react-standard"), ("from_snapshot", MISSING),
    ("git_remote_url", "https://example.com/x.git"),
])
def test_what_is_not_built_yet_says_so(daemon, field, value):
    reply = daemon.call("POST", "/v1/sandboxes", raw=json.dumps({field: value}).encode())
    assert_v1_error(reply, 400, "not_supported", field)


# --- routes ---

def read_routes():
    """What the binary says it serves, as (path with MISSING for each parameter, methods)."""
    out = subprocess.run([BINARY, "--print-routes"], capture_output=True, text=True, check=True)
    routes = {}
    for method, path in re.findall(r"^([A-Z]+) +(/\S*)", out.stdout, re.M):
        routes.setdefault(re.sub(r"\{\w+\}", MISSING, path), []).append(method)
    return [(path, " ".join(methods)) for path, methods in routes.items()]


ROUTES = read_routes()


@pytest.mark.parametrize("path, methods", ROUTES)
def test_wrong_method_is_a_405_with_allow(daemon, path, methods):
    for method in "GET", "POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "BREW":
        if method in methods.split():
            continue
        reply = daemon.call(method, path)
        assert reply.status == 405, (method, reply)
        allowed = {m.strip() for m in reply.headers["Allow"].split(",")}
        assert set(methods.split()) <= allowed and allowed - {"HEAD", "OPTIONS"} == set(
            methods.split()), allowed
        if path.startswith("/v1"):
            assert_v1_error(reply, 405, "method_not_allowed")


def test_head_answers_as_get_without_the_body(daemon):
    for path in "/healthz", "/readyz", "/sandboxes", "/v1/sandboxes":
        get, head = daemon.get(path), daemon.call("HEAD", path)
        assert (head.status, head.body) == (get.status, b"")
        assert head.headers["Content-Type"] == get.headers["Content-Type"]
    assert daemon.call("HEAD", f"/v1/sandboxes/{MISSING}").status == 404


@pytest.mark.parametrize("path", [
    "/", "/x", "/v1", "/v1/", "/v2/sandboxes", "/sandbox/", "/v1/sandboxes/", "//v1/sandboxes",
    "/v1//sandboxes", "/V1/sandboxes", "/v1/sandboxes/../sandboxes", "/v1/%73andboxes/x/y/z",
    "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", f"/v1/sandboxes/{MISSING}/nope",
    f"/v1/sandboxes/{MISSING}/files/content/x", "/llms.txt",
])
def test_unknown_paths_are_404(daemon, path):
    replies, _ = raw_exchange(
        daemon, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode(),
        timeout=5)
    assert replies[0].status == 404 and "X-Request-Id" in replies[0].headers
    assert b"passwd" not in replies[0].body


ODD_IDS = [
    "x", "demo01", "0" * 25, "0" * 27, "8" + "0" * 25, "0" * 25 + "U", "-" * 26, "--help",
    "..", "%2e%2e", "%2e%2e%2f%2e%2e%2fetc", "%2F", "%00", "%0a", "%0d%0aX-Evil:1", "a%3Fb",
    "a%23b", "%252e%252e", "%", "%zz", "%c0%ae", "%ff", "0" * 3000, "*", "'%20or%201=1--",
    "%22%3E%3Cscript%3E", "s-" + "0" * 24, "${jndi}", "%E2%80%AE" + "0" * 23, "json",
    "%1b[31m", MISSING + "%20", "%20" + MISSING, MISSING[:-1] + "%EF%BC%AB",
]


@pytest.mark.parametrize("odd", ODD_IDS, ids=lambda odd: ascii(odd)[:40])
def test_odd_ids_are_not_found_on_every_route(daemon, odd):
    for path, methods in ROUTES:
        if MISSING not in path:
            continue
        for method in methods.split():
            body = b'{"cmd":["true"],"path":"a","content":""}' if method in ("POST", "PUT") else b""
            target = path.replace(MISSING, odd) + ("?path=a" if "content" in path else "")
            request = (f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                       f"Content-Length: {len(body)}\r\n\r\n").encode("latin-1") + body
            replies, _ = raw_exchange(daemon, request, timeout=5)
            # ".." may be folded away or refused; what it may not do is reach anything.
            assert replies[0].status in (400, 404, 405), (method, target, replies)
            assert "X-Evil" not in replies[0].headers


def test_unknown_and_odd_query_parameters(daemon):
    for query, word in [
        ("nope=1", "nope"), ("limit=0", "limit"), ("limit=1001", "limit"), ("limit=x", "limit"),
        ("limit=-1", "limit"), ("limit=1.5", "limit"), ("limit=", "limit"),
        ("limit=99999999999999999999", "limit"), ("cursor=%00", ""), ("cursor=x", "cursor"),
        ("cursor=AAAAAAAAAAAAAAAAAAAAAAAA", "cursor"), ("status=nope", "status"),
        ("status=RUNNING", "status"), ("limit=1&limit=2", ""), ("external_user_id=%ff", ""),
        ("metadata.=x", "metadata"), ("%zz=1", ""), ("sort=id", "sort"),
        ("status=running'%20or%201=1--", "status"),
    ]:
        assert_v1_error(daemon.get("/v1/sandboxes?" + query), 400, "invalid_request", word)


def test_every_reply_has_its_own_request_id(daemon):
    seen = set()
    for path in "/healthz", "/x", "/v1/sandboxes", "/sandboxes", f"/v1/sandboxes/{MISSING}":
        reply = daemon.get(path, headers={"X-Request-Id": "mine"})
        assert reply.headers["X-Request-Id"] != "mine"
        seen.add(reply.headers["X-Request-Id"])
    assert len(seen) == 5


def test_log_lines_survive_hostile_text(make_daemon):
    """Control bytes in anything a client may send never break or forge a line of the log (T-47)."""
    daemon = make_daemon(SANDBOXD_LOG_LEVEL="debug")
    for text in "a\x1b[31mb", "a%0a{\"event\":\"forged\"}", "a%E2%80%AEb", "a%00b":
        raw_exchange(daemon, f"GET /v1/sandboxes/{text} HTTP/1.1\r\nHost: localhost\r\n"
                     f"User-Agent: {text}\r\nConnection: close\r\n\r\n".encode(), timeout=5)
    daemon.call("POST", "/v1/sandboxes", raw=json.dumps({"a\n{\"x\":1}\r\u2028": 1}).encode())
    marker = daemon.get("/v1/marker-of-this-test").headers["X-Request-Id"]
    until(lambda: marker in daemon.log(), 5, "the request in the log")
    for line in daemon.log().splitlines():
        if line:
            assert isinstance(json.loads(line), dict), line
            assert all(c.isprintable() for c in line), ascii(line)
    assert '"event":"forged"' not in daemon.log()
