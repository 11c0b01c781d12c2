"""A proxy before the Engine's socket that can be told to misbehave, and remembers what was asked.

    proxy = EngineProxy(tmp_path / "engine.sock")
    proxy.start()
    proxy.on("POST /containers/create", drop_after, times=1)
    ... a daemon with DOCKER_HOST=unix://<proxy.path> ...
    proxy.stop()

Every request is read whole, passed on, and its reply read whole before an action decides what the
client sees of it; only the event stream flows through as it comes. A thread a connection.
"""

import http.client
import os
import re
import select
import socket
import threading

ENGINE_SOCKET = "/var/run/docker.sock"


class UnixHTTPConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=120):
        super().__init__("engine", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Exchange:
    """One request and what may be done about it."""

    def __init__(self, proxy, sock, method, target, headers, body):
        self.proxy, self.sock = proxy, sock
        self.method, self.target, self.headers, self.body = method, target, headers, body

    def forward(self):
        """Lets the Engine do it; the whole reply as bytes, its length stated."""
        conn = UnixHTTPConnection(self.proxy.upstream)
        try:
            skipped = ("host", "content-length", "transfer-encoding", "connection", "expect")
            headers = {k: v for k, v in self.headers if k.lower() not in skipped}
            conn.request(self.method, self.target, self.body or None, headers)
            reply = conn.getresponse()
            data = reply.read()
            lines = [f"HTTP/1.1 {reply.status} {reply.reason}"]
            lines += [
                f"{k}: {v}"
                for k, v in reply.getheaders()
                if k.lower() not in ("content-length", "transfer-encoding", "connection")
            ]
            if reply.status not in (204, 304):
                lines.append(f"Content-Length: {len(data)}")
            return "\r\n".join(lines).encode() + b"\r\n\r\n" + data
        finally:
            conn.close()

    def send(self, data):
        self.sock.sendall(data)

    def hang_up(self):
        raise ConnectionAbortedError


# --- actions: what happens to a request that a rule names ---


def drop_before(x):
    """The request is lost."""
    x.hang_up()


def drop_after(x):
    """The work is done, the reply is lost."""
    x.forward()
    x.hang_up()


def cut_reply(x):
    """The work is done, half of the reply arrives."""
    reply = x.forward()
    x.send(reply[: len(reply) // 2])
    x.hang_up()


def garbage(x):
    """Nothing is done; the reply is not HTTP."""
    x.send(b"\x00\xff\x7f nonsense \r\n\r\n" * 64)
    x.hang_up()


def garbage_json(x):
    """The work is done; the reply is well-formed HTTP around nonsense."""
    x.forward()
    x.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{\"Id\": [1")


def error_after(x):
    """The work is done, the reply claims that it failed."""
    x.forward()
    body = b'{"message":"played fault"}'
    x.send(b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\n"
           b"Content-Length: %d\r\n\r\n%s" % (len(body), body))


def hang(x):
    """Never answers; ends when the client gives up or the proxy is told to behave."""
    while not x.proxy.stopping and x.proxy.rule_for(x.method, x.target) is not None:
        if select.select([x.sock], [], [], 0.05)[0]:
            break
    x.hang_up()


def delay(seconds):
    """The work is done and answered, late."""

    def late(x):
        x.proxy.tick.wait(seconds)
        x.send(x.forward())

    return late


class Rule:
    def __init__(self, pattern, action, times):
        self.pattern, self.action, self.times = re.compile(pattern), action, times
        self.hits = 0


class EngineProxy:
    def __init__(self, path, upstream=ENGINE_SOCKET):
        self.path, self.upstream = str(path), upstream
        self.requests = []  # (method, target, body), in order of arrival
        self.stopping = False
        self.events_frozen = False
        self.tick = threading.Event()  # set when stopping: wakes who waits
        self._rules = []
        self._lock = threading.Lock()
        self._listener = None
        self._open = set()
        self._threads = []

    @property
    def docker_host(self):
        return "unix://" + self.path

    def start(self):
        self.accept()
        return self

    def stop(self):
        self.stopping = True
        self.tick.set()
        self.refuse()
        for t in self._threads:
            t.join(5)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    # --- faults ---

    def on(self, pattern, action, times=None):
        """pattern: regular expression over "METHOD /path" without the version prefix."""
        rule = Rule(pattern, action, times)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self):
        with self._lock:
            self._rules = []
        self.events_frozen = False

    def refuse(self):
        """The Engine is away: its socket refuses and open connections are cut."""
        with self._lock:
            listener, self._listener = self._listener, None
            cut = list(self._open)
        if listener:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for s in cut:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def accept(self):
        """The Engine is back."""
        if os.path.exists(self.path):
            os.unlink(self.path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(self.path)
        listener.listen(128)
        with self._lock:
            self._listener = listener
        self._thread(self._accept_loop, listener)

    def count(self, pattern):
        """How many requests so far match; pattern as in on()."""
        rx = re.compile(pattern)
        with self._lock:
            return sum(1 for m, t, _ in self.requests if rx.search(f"{m} {plain(t)}"))

    def rule_for(self, method, target, take=False):
        with self._lock:
            for rule in self._rules:
                if rule.times is not None and rule.hits >= rule.times:
                    continue
                if rule.pattern.search(f"{method} {plain(target)}"):
                    rule.hits += take
                    return rule
        return None

    # --- the plumbing ---

    def _thread(self, fn, *args):
        t = threading.Thread(target=fn, args=args, daemon=True)
        self._threads.append(t)
        t.start()

    def _accept_loop(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                if self._listener is not listener: # refused while it was on its way here
                    sock.close()
                    return
                self._open.add(sock)
            self._thread(self._serve, sock)

    def _serve(self, sock):
        reader = sock.makefile("rb")
        try:
            while self._one(sock, reader):
                pass
        except (OSError, ValueError, http.client.HTTPException):
            pass  # either side went away, or an action hung up
        finally:
            with self._lock:
                self._open.discard(sock)
            reader.close()
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()

    def _one(self, sock, reader):
        line = reader.readline()
        if not line:
            return False
        method, target, _ = line.decode("latin-1").split()
        headers = []
        while (h := reader.readline().rstrip(b"\r\n")):
            k, v = h.decode("latin-1").split(":", 1)
            headers.append((k.strip(), v.strip()))
        known = {k.lower(): v for k, v in headers}
        body = b""
        if known.get("expect", "").lower() == "100-continue":
            sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "chunked" in known.get("transfer-encoding", ""):
            while (size := int(reader.readline().split(b";")[0], 16)):
                body += reader.read(size)
                reader.readline()
            reader.readline()
        elif "content-length" in known:
            body = reader.read(int(known["content-length"]))
        with self._lock:
            self.requests.append((method, target, body))
        x = Exchange(self, sock, method, target, headers, body)
        rule = self.rule_for(method, target, take=True)
        if rule:
            rule.action(x)
        elif plain(target).startswith("/events"):
            self._stream_events(sock, line, headers)
            return False
        else:
            x.send(x.forward())
        return True

    def _stream_events(self, sock, line, headers):
        up = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with up:
            up.connect(self.upstream)
            up.sendall(line + b"".join(f"{k}: {v}\r\n".encode() for k, v in headers) + b"\r\n")
            while not self.stopping:
                ready, _, _ = select.select([up, sock], [], [], 0.1)
                if sock in ready and not sock.recv(4096):
                    return
                if up in ready and not self.events_frozen:
                    data = up.recv(65536)
                    if not data:
                        return
                    sock.sendall(data)
                elif up in ready:
                    self.tick.wait(0.05)


def plain(target):
    """The path of a request without the API version."""
    return re.sub(r"^/v\d+\.\d+(?=/)", "", target)
