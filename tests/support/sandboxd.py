"""Drives a real sandboxd against a real Docker Engine, for the black-box tests and the bench.

    d = Daemon()                       # a fresh data directory in /tmp, a free loopback port, auth off
    d.start()                          # returns when /readyz says 200
    c = d.client()                     # keep-alive HTTP client; Client is safe to share among threads
    c.post("/sandbox", {"ports": []}, expect=201).json()["id"]
    d.kill9(); d.start()               # same data directory, same port
    d.stop()                           # TERM, must exit 0
    d.close()                          # purge, check that nothing is left in the Engine, remove

Everything here is standard library. Nothing waits by sleeping a guessed time: use until.
"""
import contextlib
import http.client
import itertools
import json as jsonlib
import os
import pathlib
import random
import re
import secrets
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("SANDBOXD_BIN") or str(ROOT / "build/release/sandboxd")
ENGINE_SOCKET = "/var/run/docker.sock"
IMAGE = "sandboxd-test:latest"
IMAGE_MUSL = "sandboxd-test-musl:latest"
IMAGE_BARE = "sandboxd-test-bare:latest"
# Test data directories have this prefix; leftovers.py removes nothing that does not lead to one.
DATA_PREFIX = "/tmp/sandboxed-test-"
# Sanitizer builds are slower: multiply time limits by this.
SLOW = float(os.environ.get("SANDBOXED_TEST_SLOW", "1"))
# What is promised of a quiet machine may take so many times longer on a busy one: no assertion
# measures, it tells what comes from what does not.
PATIENCE = 4 * SLOW
SANITIZER_REPORT = re.compile(
    r"ERROR: AddressSanitizer|ERROR: LeakSanitizer|WARNING: ThreadSanitizer|runtime error: "
    r"|AddressSanitizer:DEADLYSIGNAL|UndefinedBehaviorSanitizer")


def until(probe, deadline_s=10.0, what="condition", every_s=0.01):
    """Calls probe until it returns something true, which is returned; AssertionError after the
    deadline (multiplied by PATIENCE). Exceptions of the probe pass through."""
    end = time.monotonic() + deadline_s * PATIENCE
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {deadline_s * PATIENCE:g} s")
        time.sleep(every_s)


def process_began(pid):
    """When a process began, as the kernel's text: with the pid it names one process for good. None
    when there is none."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2:].split()
    return None if fields[0] == "Z" else fields[19]


def make_dir():
    """A fresh /tmp/sandboxed-test-XXXXXXXX with a note of its owner, so that leftovers.py can tell
    whether somebody still uses it. The caller removes it."""
    path = tempfile.mkdtemp(prefix=DATA_PREFIX)
    pathlib.Path(path, "owner").write_text(f"{os.getpid()} {process_began(os.getpid())}\n")
    return path


def new_id():
    """A fresh sandbox id: 26 Crockford letters, upper-case."""
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    value = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    return "".join(alphabet[(value >> shift) & 31] for shift in range(125, -1, -5))


def together(*calls):
    """Runs the callables at the same time, each in a thread that waits at a barrier first.
    Returns their results in order; the first exception is raised."""
    gate = threading.Barrier(len(calls))

    def run(call):
        gate.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [f.result() for f in [pool.submit(run, c) for c in calls]]


_claims, _ports = [], [] # sockets that stand for ranges of ports; what is left of the last range


def _claim_ports():
    """Claims a hundred ports below the kernel's ephemeral range, where no outgoing connection takes
    one. A name of the kernel's stands for them: it is ours alone, until this process ends."""
    for first in random.SystemRandom().sample(range(20000, 32000, 100), 120):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0sandboxed-test-ports-{first}")
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        _ports.extend(range(first, first + 100))
        return
    raise RuntimeError("no free port")


def free_port():
    """A loopback port that nobody is given again, here or in another test process, however long it
    stays unused."""
    while True:
        if not _ports:
            _claim_ports()
        port = _ports.pop()
        with socket.socket() as s, contextlib.suppress(OSError):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", port))
            return port


# --- HTTP ---


class Reply:
    """status; headers (http.client.HTTPMessage: reply.headers["X-Request-Id"], any case); body."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")

    def json(self):
        try:
            return jsonlib.loads(self.body)
        except ValueError:
            raise AssertionError(f"{self.status}, not JSON: {self.body[:500]!r}") from None

    @property
    def code(self):
        """error.code of a /v1 error."""
        return self.json()["error"]["code"]

    def expect(self, *statuses):
        if self.status not in statuses:
            raise AssertionError(f"status {self.status}, expected {statuses}: {self.body[:1000]!r}")
        return self

    def __repr__(self):
        return f"<Reply {self.status} {self.body[:200]!r}>"


class Client:
    """One keep-alive connection per thread. Paths are sent as they are given (quote them yourself).

    json= is encoded and sets Content-Type; raw= is bytes, a file, or an iterable of bytes (then
    chunked). expect= is a status or a tuple of them that must be met."""

    def __init__(self, port, token=None, timeout=60.0, host="127.0.0.1"):
        self.host, self.port, self.token, self.timeout = host, port, token, timeout
        self._local = threading.local()

    def _headers(self, json, headers):
        out = {}
        if self.token:
            out["Authorization"] = "Bearer " + self.token
        if json is not None:
            out["Content-Type"] = "application/json"
        out.update(headers or {})
        return out

    def _connection(self):
        conn = getattr(self._local, "conn", None)
        if conn is not None and conn.sock is not None:
            # Readable before we asked anything: the peer has closed it.
            if select.select([conn.sock], [], [], 0)[0]:
                conn.close()
        if conn is None:
            conn = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
            self._local.conn = conn
        return conn

    def request(self, method, path, json=None, raw=None, headers=None, expect=None):
        if json is not None:
            raw = jsonlib.dumps(json).encode()
        conn = self._connection()
        try:
            conn.request(method, path, body=raw, headers=self._headers(json, headers))
            r = conn.getresponse()
            reply = Reply(r.status, r.headers, r.read())
        except BaseException:
            conn.close()
            raise
        if expect is not None:
            reply.expect(*(expect if isinstance(expect, tuple) else (expect,)))
        return reply

    def get(self, path, **kw):
        return self.request("GET", path, **kw)

    def post(self, path, json=None, **kw):
        return self.request("POST", path, json=json, **kw)

    def put(self, path, json=None, **kw):
        return self.request("PUT", path, json=json, **kw)

    def delete(self, path, **kw):
        return self.request("DELETE", path, **kw)

    def stream(self, method, path, json=None, raw=None, headers=None):
        """A Stream on a connection of its own: the reply is read as it arrives."""
        if json is not None:
            raw = jsonlib.dumps(json).encode()
        conn = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
        conn.request(method, path, body=raw, headers=self._headers(json, headers))
        return Stream(conn)

    def close(self):
        conn = getattr(self._local, "conn", None)
        if conn is not None:
            conn.close()


class Stream:
    """A reply that is still coming. Use as a context manager; leaving it drops the connection."""

    def __init__(self, conn):
        self._conn = conn
        self._sock = conn.sock # http.client lets go of it when the reply closes the connection
        self._reply = conn.getresponse()
        self.status, self.headers = self._reply.status, self._reply.headers

    def read(self, size=-1):
        """Up to size bytes, as soon as there are any; b"" at the end. -1: all of it."""
        return self._reply.read() if size < 0 else self._reply.read1(size)

    def lines(self):
        while True:
            line = self._reply.readline()
            if not line:
                return
            yield line.decode("utf-8", "surrogateescape").rstrip("\r\n")

    def ndjson(self):
        """Objects of application/x-ndjson, one by one."""
        for line in self.lines():
            if line:
                yield jsonlib.loads(line)

    def sse(self):
        """(event, data) pairs of text/event-stream; data is decoded JSON. Comments are skipped."""
        event, data = "message", []
        for line in self.lines():
            if not line:
                if data:
                    yield event, jsonlib.loads("\n".join(data))
                event, data = "message", []
            elif line.startswith("event:"):
                event = line[6:].strip()
            elif line.startswith("data:"):
                data.append(line[5:].removeprefix(" "))

    def close(self):
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._reply.close()
        self._conn.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Raw:
    """A bare TCP connection for requests that no HTTP library would send.

        with Raw(d.port) as r:
            r.send(b"GET /healthz HTTP/1.1\\r\\nHost : x\\r\\n\\r\\n")
            reply = r.reply()          # a Reply, or None: closed without an answer
            assert r.closed()          # the peer closes within the timeout
    """

    def __init__(self, port, timeout=10.0, host="127.0.0.1"):
        self.sock = socket.create_connection((host, port), timeout=timeout * PATIENCE)
        self._reader = self.sock.makefile("rb") # one buffer for all replies in a row

    def makefile(self, _mode): # what HTTPResponse asks of a socket
        return self._Shared(self._reader)

    class _Shared:
        """The reader, which a finished reply must not close."""

        def __init__(self, reader):
            self._reader = reader

        def __getattr__(self, name):
            return getattr(self._reader, name)

        def close(self):
            pass

    def send(self, data):
        """Sends bytes; text is sent as Latin-1 with bare \\n turned into \\r\\n."""
        if isinstance(data, str):
            data = data.replace("\r\n", "\n").replace("\n", "\r\n").encode("latin-1")
        self.sock.sendall(data)
        return self

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def reply(self, method="GET"):
        """The next reply, or None when the peer has closed; a socket.timeout when it is silent."""
        r = http.client.HTTPResponse(self, method=method)
        try:
            r.begin()
            return Reply(r.status, r.headers, r.read())
        except http.client.RemoteDisconnected:
            return None
        except (ConnectionResetError, BrokenPipeError):
            return None
        finally:
            r.close()

    def closed(self):
        """True when the peer closes; False when it is still open after the timeout."""
        try:
            while self._reader.read1(65536):
                pass
            return True
        except ConnectionResetError:
            return True
        except socket.timeout:
            return False

    def close(self):
        self._reader.close()
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def raw_exchange(daemon, data, timeout=5.0):
    """Sends bytes on a fresh connection and reads until the peer closes or is silent for the
    timeout: (list of Reply, closed). For requests that a library would not send."""
    with Raw(daemon.port, timeout) as r:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            r.send(data)
        replies = []
        try:
            while (reply := r.reply()) is not None:
                replies.append(reply)
            return replies, True
        except socket.timeout:
            return replies, False


# --- the Engine, over its Unix socket ---


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=60.0):
        super().__init__("engine", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """The Docker Engine API, for the floor of measurements and for disturbances by hand."""

    def __init__(self, path=ENGINE_SOCKET):
        self.path = path

    def call(self, method, path, json=None, expect=None, query=None):
        """One call on a fresh connection; query is a dict whose dict values become JSON."""
        if query:
            path += "?" + urllib.parse.urlencode(
                {k: jsonlib.dumps(v) if isinstance(v, dict) else v for k, v in query.items()})
        conn = UnixConnection(self.path)
        try:
            body = None if json is None else jsonlib.dumps(json)
            conn.request(method, path, body=body, headers={"Content-Type": "application/json"})
            r = conn.getresponse()
            reply = Reply(r.status, r.headers, r.read())
        finally:
            conn.close()
        if expect is not None:
            reply.expect(*(expect if isinstance(expect, tuple) else (expect,)))
        return reply

    def containers(self, instance=None, sandbox=None):
        """List entries of all containers (stopped ones too) of an instance and/or sandbox id."""
        labels = [f"sandboxed.instance={instance}" if instance else "sandboxed.instance"]
        if sandbox:
            labels.append(f"sandboxed.id={sandbox.upper()}")
        return self.call("GET", "/containers/json", expect=200,
                         query={"all": 1, "filters": {"label": labels}}).json()

    def networks(self, instance=None):
        label = f"sandboxed.instance={instance}" if instance else "sandboxed.instance"
        return self.call("GET", "/networks", expect=200,
                         query={"filters": {"label": [label]}}).json()

    def inspect(self, container):
        """The inspect object, or None when there is no such container."""
        r = self.call("GET", f"/containers/{container}/json", expect=(200, 404))
        return r.json() if r.status == 200 else None

    def kill(self, container, signal_name="SIGKILL"):
        return self.call("POST", f"/containers/{container}/kill", query={"signal": signal_name},
                         expect=(204, 404, 409))

    def stop(self, container, grace_s=1):
        return self.call("POST", f"/containers/{container}/stop", query={"t": grace_s},
                         expect=(204, 304, 404))

    def remove(self, container):
        return self.call("DELETE", f"/containers/{container}", query={"force": 1, "v": 1},
                         expect=(204, 404, 409))

    def rename(self, container, name):
        return self.call("POST", f"/containers/{container}/rename", query={"name": name},
                         expect=204)

    def pause(self, container):
        return self.call("POST", f"/containers/{container}/pause", expect=204)

    def unpause(self, container):
        return self.call("POST", f"/containers/{container}/unpause", expect=204)

    def create(self, name, spec):
        """Creates a container from an API spec; returns its id."""
        return self.call("POST", "/containers/create", spec, query={"name": name},
                         expect=201).json()["Id"]

    def start(self, container):
        return self.call("POST", f"/containers/{container}/start", expect=(204, 304))

    def exec(self, container, argv, user=""):
        """docker exec by the API, output read to its end: (exit code, bytes of both streams)."""
        spec = {"Cmd": argv, "AttachStdout": True, "AttachStderr": True, "User": user}
        eid = self.call("POST", f"/containers/{container}/exec", spec, expect=201).json()["Id"]
        data = self.call("POST", f"/exec/{eid}/start", {"Detach": False}, expect=200).body
        out = b""
        while len(data) >= 8: # stream frames: kind, three zeros, length, bytes
            size = int.from_bytes(data[4:8], "big")
            out += data[8:8 + size]
            data = data[8 + size:]
        return self.call("GET", f"/exec/{eid}/json", expect=200).json()["ExitCode"], out


# --- the daemon ---


def instance_of(data_dir):
    """The instance name kept in a data directory's database, or None."""
    db = pathlib.Path(data_dir) / "state/sandboxd.db"
    if not db.exists():
        return None
    try:
        con = sqlite3.connect(f"file:{db}?mode=ro", uri=True, timeout=5)
        try:
            row = con.execute("SELECT value FROM meta WHERE name = 'instance'").fetchone()
        finally:
            con.close()
        return row[0] if row else None
    except sqlite3.Error:
        return None


def engine_clean(instance, engine=None):
    """Removes every container, network and nft table of one instance. Returns what was there, as
    "kind name" lines."""
    engine = engine or Engine()
    gone = []
    for c in engine.containers(instance):
        gone.append("container " + ",".join(c["Names"] or [c["Id"][:12]]))
        engine.remove(c["Id"])
    for n in engine.networks(instance):
        gone.append("network " + n["Name"])
        engine.call("DELETE", f"/networks/{n['Id']}", expect=(204, 403, 404))
    if subprocess.run(["nft", "delete", "table", "inet", f"sandboxed_{instance}"],
                      stderr=subprocess.DEVNULL, check=False).returncode == 0:
        gone.append(f"nft table sandboxed_{instance}")
    return gone


_all_daemons = [] # those not closed yet; conftest looks through their logs after each test


class Daemon:
    """One sandboxd with a data directory of its own. Settings are given as keyword arguments, as in
    Daemon(SANDBOXD_PIDS="64"); None takes a default of ours out. Nothing else of the caller's
    environment reaches it, except PATH and the sanitizers' options.

    dir: /tmp/sandboxed-test-XXXXXX, data_dir: dir/data, log_path: dir/stderr.log (all starts)."""

    def __init__(self, binary=None, **env):
        self.binary = os.path.abspath(binary or BINARY)
        self.dir = make_dir()
        self.data_dir = self.dir + "/data"
        self.log_path = self.dir + "/stderr.log"
        self.port = free_port()
        self._client = self.client()
        self._instance = None
        self.process = None
        self.expect_exit = True # set while it must be running: a crash is then noticed
        self.checked = 0        # bytes of the log that were searched for sanitizer reports
        self.env = {k: v for k, v in os.environ.items()
                    if k in ("PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS",
                             "LSAN_OPTIONS")}
        settings = {
            "SANDBOXED_API_BIND": f"127.0.0.1:{self.port}",
            "SANDBOXED_EDGE_BIND": f"127.0.0.1:{free_port()}",
            "SANDBOXED_DATA_DIR": self.data_dir,
            "SANDBOXD_API_AUTH_DISABLED": "true",
            "SANDBOXD_IMAGE": IMAGE,
            "SANDBOXD_IMAGES": f"{IMAGE_MUSL},{IMAGE_BARE}",
            "SANDBOXD_STOP_GRACE": "1s",
        } | env
        self.env.update({k: str(v) for k, v in settings.items() if v is not None})
        _all_daemons.append(self)

    # life

    def spawn(self):
        """Starts the process without waiting for it to be ready."""
        assert self.process is None or self.process.poll() is not None, "it runs already"
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([self.binary, "serve"], env=self.env, cwd="/",
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        pathlib.Path(self.dir, "pid").write_text(f"{self.process.pid}\n")
        self.expect_exit = False
        return self

    def start(self, deadline_s=30.0):
        """Starts it and waits until /readyz answers 200. Returns self."""
        self.spawn()
        self.wait_ready(deadline_s)
        return self

    def wait_ready(self, deadline_s=30.0):
        last = "no connection"

        def probe():
            nonlocal last
            if self.process.poll() is not None:
                self.expect_exit = True
                raise AssertionError(
                    f"sandboxd ended with {self.process.returncode}:\n{self.log_tail()}")
            try:
                r = self.client(timeout=5).get("/readyz")
            except (OSError, http.client.HTTPException):
                return False
            last = f"{r.status} {r.text}"
            return r.status == 200

        try:
            until(probe, deadline_s, "ready", every_s=0.005)
        except AssertionError as e:
            raise AssertionError(f"{e} (last /readyz: {last})\n{self.log_tail()}") from None
        assert self.instance, "no instance name in the database"

    def running(self):
        return self.process is not None and self.process.poll() is None

    def stop(self, deadline_s=30.0, expect=0):
        """TERM and wait; the exit status must be 0 (expect=None: anything). Returns it."""
        if not self.running():
            return None
        self.expect_exit = True
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(deadline_s * SLOW)
        except subprocess.TimeoutExpired:
            # ABRT leaves stacks behind where a sanitizer is linked in.
            self.process.send_signal(signal.SIGABRT)
            self.process.wait(10)
            raise AssertionError(f"no end {deadline_s:g} s after TERM\n{self.log_tail()}") from None
        assert expect is None or status == expect, f"exit status {status}\n{self.log_tail()}"
        return status

    def kill9(self):
        if self.running():
            self.expect_exit = True
            self.process.kill()
            self.process.wait()

    def restart(self, hard=False):
        """Stops it (hard: kill -9) and starts it again on the same data directory and port."""
        self.kill9() if hard else self.stop()
        return self.start()

    # looking at it

    def client(self, token=None, timeout=60.0):
        return Client(self.port, token=token, timeout=timeout * SLOW)

    @property
    def address(self):
        return "127.0.0.1", self.port

    def call(self, method, path, json=None, **kw):
        """One request by a client of its own, without a token; see Client.request."""
        return self._client.request(method, path, json=json, **kw)

    def get(self, path, **kw):
        return self.call("GET", path, **kw)

    def post(self, path, json=None, **kw):
        return self.call("POST", path, json=json, **kw)

    def put(self, path, json=None, **kw):
        return self.call("PUT", path, json=json, **kw)

    def delete(self, path, **kw):
        return self.call("DELETE", path, **kw)

    @property
    def instance(self):
        """The value of the label sandboxed.instance of everything it makes. Remembered, for a test may
        spoil the database."""
        self._instance = instance_of(self.data_dir) or self._instance
        return self._instance

    def containers(self, sandbox=None):
        """Its containers as the Engine lists them; one sandbox's only when its id is given."""
        instance = self.instance
        return Engine().containers(instance, sandbox) if instance else []

    def container(self, sandbox):
        """Id of the one container of a sandbox."""
        found = self.containers(sandbox)
        assert len(found) == 1, f"containers of {sandbox}: {found}"
        return found[0]["Id"]

    def workspace(self, sandbox):
        """Host path of a workspace (= /home/sandbox of the box)."""
        return pathlib.Path(self.data_dir, "workspaces", sandbox)

    def rss_kib(self):
        return int(re.search(r"VmRSS:\s+(\d+)", self._proc("status")).group(1))

    def rss_slack(self, kib):
        """A bound on growth: kib, or more where a sanitizer keeps freed memory back (ASan: 256 MB)."""
        return kib if SLOW == 1 else kib + 256 * 1024

    def fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def _proc(self, name):
        return pathlib.Path(f"/proc/{self.process.pid}/{name}").read_text()

    def log(self):
        """All that it has written to stderr, over all its starts."""
        path = pathlib.Path(self.log_path)
        return path.read_text(errors="replace") if path.exists() else ""

    def log_tail(self, lines=40):
        return "\n".join(self.log().splitlines()[-lines:])

    def check(self):
        """Raises when it ended by itself or a sanitizer reported since the last check."""
        text = self.log()
        fresh, self.checked = text[self.checked:], len(text)
        if m := SANITIZER_REPORT.search(fresh):
            raise AssertionError("sanitizer report:\n" + fresh[m.start():m.start() + 8000])
        if not self.expect_exit and not self.running():
            self.expect_exit = True # said once
            raise AssertionError(
                f"sandboxd ended by itself, status {self.process.returncode}:\n{self.log_tail()}")

    # the end

    def _tokens(self):
        if self.env.get("SANDBOXD_API_AUTH_DISABLED", "").lower() not in ("", "0", "no", "false"):
            return [None]
        pairs = self.env.get("SANDBOXD_API_TOKENS", "").split(",")
        return [re.split("[:=]", p.strip(), maxsplit=1)[1] for p in pairs if re.search("[:=]", p)]

    def purge_all(self):
        """Purges every sandbox of every tenant by the API."""
        for token in self._tokens():
            c = self.client(token)
            with ThreadPoolExecutor(4) as pool:
                ids = [s["id"] for s in list_all(c)]
                for r in pool.map(lambda i: c.delete(f"/v1/sandboxes/{i}"), ids):
                    r.expect(204, 404)

    def close(self):
        """Purges, stops, checks that the Engine holds no container of it, removes everything."""
        if self in _all_daemons:
            _all_daemons.remove(self)
        problems = []
        try:
            if self.running():
                try:
                    self.purge_all()
                    if left := self.containers():
                        names = [c["Names"] for c in left]
                        problems.append(f"containers left after the purge: {names}")
                    self.stop()
                except (AssertionError, OSError, http.client.HTTPException) as e:
                    problems.append(str(e))
            try:
                self.check()
            except AssertionError as e:
                problems.append(str(e))
        finally:
            self.kill9()
            if instance := self.instance:
                engine_clean(instance)
            shutil.rmtree(self.dir, ignore_errors=True)
        assert not problems, "\n".join(problems)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def list_all(client, query=""):
    """All objects of GET /v1/sandboxes, page by page."""
    cursor, out = None, []
    for _ in itertools.count():
        q = f"limit=1000{'&' + query if query else ''}"
        if cursor:
            q += "&cursor=" + urllib.parse.quote(cursor, safe="")
        page = client.get("/v1/sandboxes?" + q, expect=200).json()
        out += page["sandboxes"]
        cursor = page["next_cursor"]
        if not cursor:
            return out


class Sandbox:
    """One sandbox by its id; thin: each method is one request, named after it."""

    def __init__(self, daemon, sandbox_id, client=None):
        self.daemon, self.id = daemon, sandbox_id
        self.client = client or daemon.client()
        self.v1 = f"/v1/sandboxes/{self.id}"

    @classmethod
    def create(cls, daemon, client=None, **fields):
        """POST /v1/sandboxes, must be 201; self.created is the reply's object."""
        client = client or daemon.client()
        made = client.post("/v1/sandboxes", fields, expect=201).json()
        self = cls(daemon, made["id"], client)
        self.created = made
        return self

    def get(self):
        return self.client.get(self.v1, expect=200).json()

    @property
    def status(self):
        return self.get()["status"]

    def start(self, expect=200):
        return self.client.post(self.v1 + "/start", expect=expect)

    def stop(self, expect=200):
        return self.client.post(self.v1 + "/stop", expect=expect)

    def purge(self, expect=204):
        return self.client.delete(self.v1, expect=expect)

    def exec(self, *cmd, expect=200, **fields):
        """Runs a command to its end; returns the reply's object ({stdout, stderr, exit_code, ...}).
        One argument is a shell line."""
        line = cmd[0] if len(cmd) == 1 else list(cmd)
        return self.client.post(f"/sandbox/{self.id}/exec", {"cmd": line, **fields},
                                expect=expect).json()

    def exec_stream(self, *cmd, accept="text/event-stream", **fields):
        """The same, streamed: a Stream."""
        line = cmd[0] if len(cmd) == 1 else list(cmd)
        return self.client.stream("POST", f"/sandbox/{self.id}/exec", {"cmd": line, **fields},
                                  headers={"Accept": accept})

    def put_file(self, path, data, expect=(200, 201)):
        return self.client.put(f"{self.v1}/files?path={urllib.parse.quote(path, safe='')}",
                               raw=data, expect=expect,
                               headers={"Content-Type": "application/octet-stream"})

    def get_file(self, path, expect=200):
        return self.client.get(
            f"{self.v1}/files/content?path={urllib.parse.quote(path, safe='')}", expect=expect)

    def delete_file(self, path, recursive=False, expect=204):
        q = f"path={urllib.parse.quote(path, safe='')}" + ("&recursive=true" if recursive else "")
        return self.client.delete(f"{self.v1}/files?{q}", expect=expect)

    @property
    def container(self):
        return self.daemon.container(self.id)

    @property
    def workspace(self):
        return self.daemon.workspace(self.id)
