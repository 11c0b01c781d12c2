"""R1 and T-4 on every file route: while it is called, a directory, a file and a link to somebody else's tree change
places by atomic exchange, from within a running sandbox or on the host while it sleeps.

SANDBOXD_RACE_SECONDS=60 for the long run; the seconds are each route's own."""
import io
import os
import subprocess
import time
import zipfile

import pytest

import archives
from sandboxd import SLOW, Sandbox, together
from test_files import canary  # noqa: F401 (a fixture)

SECONDS = float(os.environ.get("SANDBOXD_RACE_SECONDS", "0.25"))
SWAPPERS = 4
CALLERS = 2

# d: directory or link to the canary; d/secret: file, or link to the canary's; p/d, p/d/secret: the same a level down.
# Each name is one component below a descriptor: the swappers themselves walk through no link.
SWAP = r"""
import ctypes, os, signal, sys
libc = ctypes.CDLL(None)
def swap(at, a, b):
    libc.renameat2(at, a, at, b, 2)
def directory(path):
    return os.open(path, os.O_DIRECTORY | os.O_NOFOLLOW)
here, d, p, pd = map(directory, (".", "d", "p", "p/d"))
for n in range(int(sys.argv[1])):
    if os.fork() == 0:
        parent = os.getppid()
        while os.getppid() == parent:
            for n in range(100):
                swap(here, b"d", b"l")
                swap(d, b"secret", b"m")
                swap(p, b"d", b"l")
                swap(pd, b"secret", b"m")
                if n % 10 == 0:
                    swap(here, b"p", b"l")
        os._exit(0)
print("up", flush=True)
signal.pause()
"""
TAR = archives.tar([archives.entry("secret", b"evil"), archives.entry("n/x", b"evil")])


def j(verb, **body):
    return "POST", f"files/{verb}", body, None


def batch():
    return j("batch", files=[{"path": p, "content": "evil"} for p in ("d/b", "p/d/secret")])


# name: calls that belong together; PUT and mkdir put back what others took away.
ROUTES = {
    "list": [("GET", "files?path=d", None, None), ("GET", "files?path=p/d", None, None)],
    "list-deep": [("GET", "files?recursive=true", None, None), ("GET", "files?path=p&recursive=true", None, None)],
    "list-pages": [("GET", "files?depth=5&limit=3", None, None), ("GET", "files?path=d&depth=2", None, None)],
    "content": [("GET", "files/content?path=d/secret", None, None), ("GET", "files/content?path=p/d/secret", None, None)],
    "stat": [("GET", "files/stat?path=d/secret", None, None), ("GET", "files/stat?path=p/d", None, None)],
    "search-name": [("GET", "files/search?name=*e*&path=d", None, None), ("GET", "files/search?name=d*r", None, None)],
    "search-text": [("GET", "files/search?q=a", None, None), ("GET", "files/search?path=d&q=[0-9a-f]{40}&regex=true", None, None)],
    "watch": [("WATCH", "files/watch?path=d", None, None), ("WATCH", "files/watch?path=p", None, None)],
    "export-tar": [("GET", "files/export?format=tar", None, None), ("GET", "files/export?format=tar&path=d", None, None)],
    "export-zip": [("GET", "export?path=p", None, None), ("GET", "files/export?format=zip&path=d", None, None)],
    "export-zst": [("GET", "files/export", None, None), ("GET", "export?format=tar.zst&path=p/d", None, None)],
    "put": [("PUT", "files?path=d/secret", None, b"evil"), ("PUT", "files?path=p/d/a/b", None, b"evil"),
            ("PUT", "files", {"path": "d/json", "content": "evil"}, None)],
    "append": [("PATCH", "files?path=d/secret", None, b"evil"), ("PUT", "files?path=p/d/secret&append=true", None, b"evil"),
               ("PUT", "files", {"path": "d/log", "content": "evil", "append": True}, None)],
    "append-large": [("PATCH", "files?path=d/secret", None, b"evil" * 80000), ("PUT", "files?path=d/secret", None, b"mine")],
    "delete": [("DELETE", "files?path=d/new", None, None), ("PUT", "files?path=d/new", None, b"evil"),
               ("DELETE", "files?path=p/d/secret", None, None), ("PUT", "files?path=p/d/secret", None, b"mine")],
    "delete-tree": [("PUT", "files?path=d/t/u/v", None, b"evil"), ("DELETE", "files?path=d/t&recursive=true", None, None),
                    ("DELETE", "files?path=d/sub&recursive=true", None, None)],
    "move": [j("move", **{"from": "d/secret", "to": "out", "overwrite": True}),
             j("move", **{"from": "out", "to": "d/secret", "overwrite": True}),
             j("move", **{"from": "p/d", "to": "elsewhere"}), j("move", **{"from": "elsewhere", "to": "p/d"})],
    "copy": [j("copy", **{"from": "d/secret", "to": "copied", "overwrite": True}),
             j("copy", **{"from": "copied", "to": "p/d/secret", "overwrite": True}), ("GET", "files/content?path=copied", None, None)],
    "copy-tree": [j("copy", **{"from": "d", "to": "tree"}), ("GET", "files?path=tree&recursive=true", None, None),
                  ("DELETE", "files?path=tree&recursive=true", None, None), j("copy", **{"from": "p", "to": "d/tree"}),
                  ("DELETE", "files?path=d/tree&recursive=true", None, None)],
    "mkdir": [j("mkdir", path="d/made/x"), j("mkdir", path="p/d/sub/x", mode="0777"), ("DELETE", "files?path=d/made&recursive=true", None, None)],
    "chmod": [j("chmod", path="d/secret", mode="777"), j("chmod", path="p/d", mode="755"), j("chmod", path="d", mode="711")],
    "batch": [batch()],
    "import": [("POST", "files/import?path=d", None, TAR), ("POST", "files/import?path=p/d/new", None, TAR)],
}


@pytest.fixture(scope="module", params=["asleep", "awake"])
def arena(request, _shared):
    """A sandbox with a directory; where its processes run."""
    box = Sandbox.create(_shared)
    if request.param == "asleep":
        box.stop()
    yield box, request.param == "awake"
    box.purge(expect=(204, 404))


def one_call(box, client, method, path, body, raw):
    if method != "WATCH":
        return client.request(method, f"{box.v1}/{path}", json=body, raw=raw)
    with client.stream("GET", f"{box.v1}/{path}") as s:
        if s.status == 200:
            s.read(100)
        return None


def unpacked(body):
    if body[:2] != b"PK":
        return [body]
    with zipfile.ZipFile(io.BytesIO(body)) as z:
        return [z.read(n) for n in z.namelist()] + ["\n".join(z.namelist()).encode()]


def placed(path, place):
    """The call in an arena of its own: paths lead there, and so do those that are left out."""
    if "path=" in path:
        return path.replace("path=", f"path={place}/")
    if path.startswith(("files/export", "files/search", "files?recursive", "files?depth")):
        return f"{path}{'&' if '?' in path else '?'}path={place}"
    return path


def inside(body, place):
    if not body:
        return body
    if "files" in body:
        return {"files": [dict(f, path=f"{place}/{f['path']}") for f in body["files"]]}
    return {k: f"{place}/{v}" if k in ("path", "from", "to") else v for k, v in body.items()}


@pytest.mark.parametrize("route", ROUTES)
def test_no_route_is_led_astray(arena, canary, route):  # noqa: F811
    box, awake = arena
    root, secret = canary
    home = box.workspace / "workspace/app" / route
    lay_out(home, root)

    def hammer():
        client, seen = box.daemon.client(), {}
        end = time.monotonic() + SECONDS
        # Met in place, too: a route that only ever refused would prove little.
        while time.monotonic() < end or (not seen.keys() & {200, 201, 204} and time.monotonic() < end + 30 * SLOW):
            for method, path, body, raw in ROUTES[route]:
                reply = one_call(box, client, method, placed(path, route), inside(body, route), raw)
                status = reply.status if reply else 200
                seen[status] = seen.get(status, 0) + 1
                if reply:
                    assert status < 500, (path, reply)
                    for part in unpacked(reply.body):
                        assert secret.encode() not in part and b"deeper" not in part, path
        return seen

    stop = start(box, awake, home)
    try:
        results = together(*[hammer] * CALLERS)
    finally:
        stop()
    total = {}
    for seen in results:
        for status, n in seen.items():
            total[status] = total.get(status, 0) + n
    print(f"{route} {'awake' if awake else 'asleep'}: {sum(total.values())} calls in {SECONDS:g} s, {total}")
    assert total.keys() & {200, 201, 204}
    box.delete_file(route, recursive=True)


def lay_out(home, root):
    for base in home, home / "p":
        (base / "d").mkdir(parents=True)
        (base / "d/secret").write_text("mine")
        os.symlink(root, base / "l")
        os.symlink(root / "secret", base / "d/m")
    subprocess.run(["chown", "-Rh", "1000:1000", str(home)], check=True)


def start(box, awake, home):
    """The swappers run when this returns; call the result to end them."""
    if awake:
        s = box.exec_stream("python3", "-c", SWAP,
                            str(SWAPPERS), cwd=f"/home/sandbox/workspace/app/{home.name}")
        events = s.sse()
        while next(events)[0] != "stdout":
            pass
        return s.close
    p = subprocess.Popen(["python3", "-c", SWAP, str(SWAPPERS)], cwd=home, stdout=subprocess.PIPE)
    assert p.stdout.readline()

    def end():
        p.kill()
        p.communicate()

    return end
