"""The preview edge of a Daemon, as visitors see it.

    e = Edge(sandbox)              # port 3000 of it, without any Traefik
    e.get("/")                     # a Reply; one connection a thread, kept alive
    with e.raw() as r: ...         # a bare connection, see sandboxd.Raw; e.head() makes requests
    with e.upgrade("/ws") as ws: ws.send(b"x"); ws.recv(1)
"""
import base64
import contextlib
import hashlib
import os
import socket

from sandboxd import PATIENCE, SLOW, Client, Raw


def edge_port(daemon):
    return int(daemon.env["SANDBOXED_EDGE_BIND"].rsplit(":", 1)[1])


def host_of(sandbox, port=3000):
    domain = sandbox.daemon.env.get("PREVIEW_DOMAIN", "localhost")
    return f"s-{sandbox.id.lower()}-{port}.preview.{domain}"


class Edge:
    def __init__(self, sandbox, port=3000, host=None, headers=None, timeout=90):
        self.at = edge_port(sandbox.daemon)
        self.host = host or host_of(sandbox, port)
        self.headers = headers or {}
        self._client = Client(self.at, timeout=timeout * SLOW)

    def request(self, method, path="/", headers=None, **kw):
        return self._client.request(method, path,
                                    headers={"Host": self.host, **self.headers, **(headers or {})},
                                    **kw)

    def get(self, path="/", **kw):
        return self.request("GET", path, **kw)

    def post(self, path="/", **kw):
        return self.request("POST", path, **kw)

    def stream(self, path, headers=None):
        return self._client.stream("GET", path,
                                   headers={"Host": self.host, **self.headers, **(headers or {})})

    def raw(self, timeout=30):
        return Raw(self.at, timeout)

    def head(self, method="GET", path="/", *lines):
        lines = [f"{k}: {v}" for k, v in self.headers.items()] + list(lines)
        return "".join(f"{line}\n" for line in [f"{method} {path} HTTP/1.1", f"Host: {self.host}",
                                                *lines]) + "\n"

    def upgrade(self, path="/ws", *lines, timeout=60):
        return WebSocket(self, path, lines, timeout)

    def close(self):
        self._client.close()


class WebSocket:
    """The handshake of a WebSocket, then bare bytes. status: of the answer."""

    def __init__(self, edge, path, lines, timeout):
        key = base64.b64encode(os.urandom(16)).decode()
        self.sock = socket.create_connection(("127.0.0.1", edge.at), timeout=timeout * SLOW)
        self.sock.sendall(edge.head("GET", path, "Connection: Upgrade", "Upgrade: websocket",
                                    f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13",
                                    *lines).replace("\n", "\r\n").encode())
        self._file = self.sock.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        self.headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(":")
            self.headers[name.lower()] = value.strip()
        if self.status == 101:
            want = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
            assert self.headers["sec-websocket-accept"] == base64.b64encode(want).decode()

    def send(self, data):
        self.sock.sendall(data)

    def recv(self, size):
        return self._file.read(size)

    def closed(self, timeout=5):
        """Does the peer close within the time?"""
        self.sock.settimeout(timeout * PATIENCE)
        try:
            while self._file.read1(65536):
                pass
            return True
        except (ConnectionResetError, BrokenPipeError):
            return True
        except (socket.timeout, TimeoutError):
            return False

    def close(self):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self._file.close()
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
