"""What schemathesis' generator cannot know of this API: ids that exist, and rules that no JSON Schema says.

test_schema.py gives the address and a token, and makes the sandbox that is asked about."""
import base64
import http.client
import io
import itertools
import json
import os
import string
import tarfile
import time
import urllib.error
import urllib.request

from hypothesis import strategies as st
import schemathesis
from schemathesis.openapi.checks import UseAfterFree

BASE, TOKEN = os.environ["SCHEMA_BASE"], os.environ["SCHEMA_TOKEN"]
KNOWN = json.loads(os.environ["SCHEMA_KNOWN"]) # ids that exist, by format


def call(method, path, body=None):
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(BASE + path, data, {"Authorization": "Bearer " + TOKEN}, method=method)
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.loads(reply.read() or "null")


def archive():
    """A tar of one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("unpacked")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    return out.getvalue()


ARCHIVE = archive()


def one_of(*values):
    return st.sampled_from(values)


word = st.text(string.ascii_letters + string.digits + " _-.\u00e4\u20ac", min_size=1, max_size=20).filter(
    lambda s: s not in (".", ".."))
# Path parameters: an id that nobody made answers 404 whatever else the request says, which proves little.
for name in "sandbox-id", "process-id", "service-id", "share-id":
    schemathesis.openapi.format(name, one_of(KNOWN[name]))
# A regular expression cannot fold ".." nor count bytes.
schemathesis.openapi.format("workspace-path", st.one_of(
    one_of(".", "/home/sandbox", "/home/sandbox/workspace/app/new/file", "workspace/app/./new//file"),
    st.lists(word, min_size=1, max_size=3).map("/".join).map("new/".__add__)))
schemathesis.openapi.format("working-directory", one_of("/home/sandbox", "/tmp", "/var/tmp", ".", "/home/sandbox/workspace"))
# Cursors are what a page before gave; any id and any name will do as one.
schemathesis.openapi.format("entry-cursor", word.map(lambda s: base64.urlsafe_b64encode(s.encode()).decode().rstrip("=")))
schemathesis.openapi.format("sandbox-cursor", one_of("1796000000000." + KNOWN["sandbox-id"]))
# A regular expression that is none is refused.
schemathesis.openapi.format("search-text", st.text(string.ascii_letters + " ", min_size=1, max_size=8))
schemathesis.openapi.format("glob", st.text(string.ascii_letters + "*?", min_size=1, max_size=8))
# Which images may be asked for is the operator's setting.
schemathesis.openapi.format("image", one_of(*KNOWN["images"]))
# Random words are no commands, or harmful ones: these end soon.
schemathesis.openapi.format("shell-line", one_of("true", "echo hello", "exit 3", "no-such-command", "echo \u20ac >&2"))
schemathesis.openapi.format("terminal-id", one_of(KNOWN["terminal-id"]))
schemathesis.openapi.format("path-base64", word.map(lambda s: base64.b64encode(s.encode()).decode()))
schemathesis.openapi.format("base64", st.binary(max_size=30).map(lambda b: base64.b64encode(b).decode()))


# A connection is a WebSocket after 101, which the pool of connections does not notice.
check_close = http.client.HTTPResponse._check_close
http.client.HTTPResponse._check_close = lambda self: self.status == 101 or check_close(self)


@schemathesis.hook
def before_call(context, case, kwargs):
    ids, query = case.path_parameters or {}, case.query or {}
    route = f"{case.method} {case.path.replace('/v1/sandboxes/{id}', '')}"
    # A purge is no DELETE, which is all that its checks know to end a thing: of those that it made itself, none.
    if ids.get("id") == KNOWN["sandbox-id"] or (route == "POST /sandbox/{id}/purge" and len(str(ids.get("id"))) == 26):
        spend(route, ids)
    # Output of a service that is followed has no end, for services come back; and raw bytes are read to their end.
    if route == "GET /services/{service}/logs" and query.get("follow") in (True, "true"):
        query["follow"] = "false"
    if case.meta is not None and case.meta.generation.mode.is_positive:
        mend(case, route, query, case.body if isinstance(case.body, dict) else {})


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """DELETE …/files removes the one file that its query names; the check takes all of …/files for deleted, as it
    knows resources by their paths alone. Sandboxes, processes and shares stay under it."""
    return not (isinstance(failure, UseAfterFree) and failure.free.startswith("DELETE ") and failure.free.endswith("/files"))


def spend(route, ids):
    """What ends a thing gets one of its own, or nothing would be left to ask about."""
    base = "/v1/sandboxes/" + KNOWN["sandbox-id"]
    if route in ("DELETE ", "DELETE /sandbox/{id}", "POST /sandbox/{id}/purge"):
        ids["id"] = call("POST", "/v1/sandboxes", {"image": KNOWN["images"][0]})["id"]
    elif route == "DELETE /processes/{process}" and ids["process"] == KNOWN["process-id"]:
        ids["process"] = call("POST", base + "/processes", {"cmd": ["true"]})["id"]
    elif route == "DELETE /shares/{share}" and ids["share"] == KNOWN["share-id"]:
        ids["share"] = call("POST", base + "/shares", {})["id"]
    elif route == "DELETE /services/{service}" and ids["service"] == KNOWN["service-id"]:
        ids["service"] = call("POST", base + "/exec", {"cmd": ["sleep", "1000"], "service": "spent"})["service"]
    # Output that is followed comes to its end with the process only.
    elif route == "GET /processes/{process}/output" and ids["process"] == KNOWN["process-id"]:
        ids["process"] = KNOWN["ended-id"]


def there(ids):
    """A name of a file that is there, if its sandbox is."""
    name = f"there-{next(numbers)}"
    try:
        call("PUT", f"/v1/sandboxes/{ids['id']}/files?path={name}", b"text\n")
    except urllib.error.HTTPError:
        pass
    return name


def mend(case, route, query, body):
    """What is valid by the document and yet refused, for a reason that no schema can say."""
    ids = case.path_parameters
    # A name may be a file's or a directory's or nobody's, and who asks knows.
    if route in ("GET /files", "GET /files/search", "GET /files/watch", "GET /files/export", "GET /export",
                 "POST /files/import") and "path" in query:
        query["path"] = "."
    elif route in ("GET /files/content", "PATCH /files", "DELETE /files"):
        query["path"] = there(ids)
    elif route == "POST /files/chmod":
        body["path"] = there(ids)
    elif route in ("POST /files/move", "POST /files/copy"):
        name = there(ids)
        body.update({"to": f"new/to-{next(numbers)}"})
        if body.get("from_base64"):
            body["from_base64"] = base64.b64encode(name.encode()).decode()
        else:
            body["from"] = name
    elif route == "POST /files/mkdir":
        body["path"] = f"made-{next(numbers)}"
    # With ?path= the body is the file, else it is JSON.
    elif route == "PUT /files":
        case.query = {**query, "path": f"put/file-{next(numbers)}"}
    # An archive is one by its bytes.
    if route == "POST /files/import":
        case.body = ARCHIVE
    if route == "GET /files/search" and not query.keys() & {"q", "name"}:
        case.query = {**query, "q": "content"}
    # The future is another one each time.
    if isinstance(body.get("until"), (int, float)):
        body["until"] = int(time.time()) + 600
    # Random words are no commands.
    for holder in [body, *(body.get("services") or [])]:
        if isinstance(holder.get("cmd"), list):
            holder["cmd"] = ["echo", *holder["cmd"][1:]]
    # The operator's bound, and the host's.
    limits = body.get("limits") or {}
    for name, most in ("memory_mib", 16384), ("cpus", 2):
        if (limits.get(name) or 0) > most:
            limits[name] = most
    # A service's name is its own.
    for n, service in enumerate(body.get("services") or []):
        service["name"] = f"{service['name'][:20].strip('-')}-{n}"


numbers = itertools.count()
