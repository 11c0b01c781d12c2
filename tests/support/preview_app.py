"""A web application for previews, as one piece of text to be given to python3 -c in a sandbox.

    GET  /               "app PORT boot N", N a number of its start
    GET  /seen/...       JSON: target and headers as they came
    POST /sum            JSON: length and SHA-256 of the body
    GET  /sse?n=N        N events, one every 50 ms
    GET  /turns?n=N      N events, all but the first after a GET /turn each
    GET  /zeros          48 MiB of them
    GET  /ws             an upgrade (WebSocket handshake); then every byte comes back
"""

CODE = r'''
import base64, hashlib, http.server, json, os, socket, sys, threading, time
PORT, HOST = int(sys.argv[1]), sys.argv[2]
BOOT = os.urandom(4).hex()
TURNS = threading.Semaphore(0)

class App(http.server.BaseHTTPRequestHandler):
    disable_nagle_algorithm = True
    wbufsize = 65536 # head and body in one piece: whole or not at all when the app is killed
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def handle_expect_100(self):
        going_on = super().handle_expect_100()
        self.wfile.flush() # the client waits for it
        return going_on

    def reply(self, body, kind="text/plain", status=200):
        body = body if isinstance(body, bytes) else body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                while size:
                    data = self.rfile.read(min(size, 65536))
                    size -= len(data)
                    yield data
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return
        left = int(self.headers.get("Content-Length", 0))
        while left:
            data = self.rfile.read(min(left, 65536))
            left -= len(data)
            yield data

    def do_POST(self):
        total, digest = 0, hashlib.sha256()
        for data in self.body():
            total += len(data)
            digest.update(data)
        self.reply(json.dumps({"bytes": total, "sha256": digest.hexdigest(), "port": PORT}),
                   "application/json")

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path.startswith("/seen/"):
            self.reply(json.dumps({"target": self.path, "headers": self.headers.items()}),
                       "application/json")
        elif path == "/turn":
            TURNS.release()
            self.reply("")
        elif path in ("/sse", "/turns"):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.flush()
            for n in range(int(query[2:])):
                if n and path == "/turns":
                    TURNS.acquire()
                data = b"data: %d\n\n" % n
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()
                if path == "/sse":
                    time.sleep(0.05)
            self.wfile.write(b"0\r\n\r\n")
            self.wfile.flush()
        elif path == "/zeros":
            self.reply(bytes(48 << 20), "application/octet-stream")
        elif path == "/ws":
            key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", accept)
            self.end_headers()
            self.wfile.flush()
            while data := self.rfile.read1(65536):
                self.connection.sendall(data)
            self.close_connection = True
        else:
            self.reply("app %d boot %s\n" % (PORT, BOOT))

class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

Server((HOST, PORT), App).serve_forever()
'''


def service(port, host="0.0.0.0", name=None):
    """The declaration of a service that runs it."""
    return {"name": name or f"app{port}", "port": port,
            "cmd": ["python3", "-c", CODE, str(port), host]}
