"""A WebSocket client small enough to break the rules with (RFC 6455)."""
import base64
import hashlib
import json
import os
import socket
import struct
import time

from sandboxd import PATIENCE

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Refused(Exception):
    def __init__(self, status, body):
        super().__init__(status, body)
        self.status, self.body = status, body


class WebSocket:
    def __init__(self, port, path, headers=None, timeout=15.0 * PATIENCE):
        self.key = base64.b64encode(os.urandom(16)).decode()
        send = {"Host": f"127.0.0.1:{port}", "Upgrade": "websocket", "Connection": "keep-alive, Upgrade",
                "Sec-WebSocket-Key": self.key, "Sec-WebSocket-Version": "13"}
        send.update(headers or {})
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        lines = [f"GET {path} HTTP/1.1"] + [f"{k}: {v}" for k, v in send.items() if v is not None]
        self.sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.buffer = bytearray()
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        self.head = head.decode()
        status = int(self.head.split()[1])
        if status != 101:
            self.sock.settimeout(2)
            raise Refused(status, rest.decode("utf8", "replace"))
        self.buffer = bytearray(rest)
        want = base64.b64encode(hashlib.sha1((self.key + GUID).encode()).digest()).decode()
        assert f"sec-websocket-accept: {want}" in self.head.lower().replace(want.lower(), want), self.head

    def _more(self):
        data = self.sock.recv(65536)
        if not data:
            raise EOFError("the server closed")
        self.buffer += data

    def send(self, opcode, data, fin=True, mask=True, rsv=0, length=None):
        key = os.urandom(4)
        n = len(data) if length is None else length
        head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
        bit = 0x80 if mask else 0
        if n < 126:
            head += bytes([bit | n])
        elif n < 65536:
            head += bytes([bit | 126]) + struct.pack(">H", n)
        else:
            head += bytes([bit | 127]) + struct.pack(">Q", n)
        body = bytes(c ^ key[i % 4] for i, c in enumerate(data)) if mask else data
        self.sock.sendall(head + (key if mask else b"") + body)

    def type(self, text):
        self.send(BINARY, text.encode() if isinstance(text, str) else text)

    def resize(self, cols, rows):
        self.send(TEXT, json.dumps({"resize": {"cols": cols, "rows": rows}}).encode())

    def recv(self, timeout=15.0 * PATIENCE):
        """(opcode, payload) of the next frame; answers pings."""
        self.sock.settimeout(timeout)
        while True:
            while len(self.buffer) < 2:
                self._more()
            op, n, at = self.buffer[0] & 15, self.buffer[1] & 127, 2
            assert not self.buffer[1] & 0x80, "a server does not mask"
            if n >= 126:
                size = 2 if n == 126 else 8
                while len(self.buffer) < 2 + size:
                    self._more()
                n, at = int.from_bytes(self.buffer[2:2 + size], "big"), 2 + size
            while len(self.buffer) < at + n:
                self._more()
            data = bytes(self.buffer[at:at + n])
            del self.buffer[:at + n]
            if op != PING:
                return op, data
            self.send(PONG, data)
            return PING, data

    def until(self, wanted, deadline_s=20.0):
        """Output up to and with the bytes `wanted`; text frames are kept in .notes."""
        seen, end = b"", time.monotonic() + deadline_s * PATIENCE
        wanted = wanted.encode() if isinstance(wanted, str) else wanted
        while wanted not in seen:
            assert time.monotonic() < end, (wanted, seen)
            op, data = self.recv(max(0.01, end - time.monotonic()))
            if op == TEXT:
                self.notes = getattr(self, "notes", []) + [json.loads(data)]
            elif op == BINARY:
                seen += data
            elif op == CLOSE:
                raise EOFError((seen, data))
        return seen

    def closed(self):
        """The close code: the peer ended it."""
        while True:
            try:
                op, data = self.recv()
            except (EOFError, ConnectionError):
                return None
            if op == CLOSE:
                return int.from_bytes(data[:2], "big")

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
