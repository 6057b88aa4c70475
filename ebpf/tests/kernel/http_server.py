"""An HTTP/1.1 server that keeps connections alive: prints its port, serves until standard input ends."""
import http.server
import socket
import sys
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self, status, body=b""):
        self.send_response(status)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(body)

    def do_GET(self):
        path = self.path.split("?")[0]
        if path.startswith("/api/"):
            self.answer(200, b"x" * 120)
        elif path == "/empty":
            self.answer(204)
        elif path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for n in (1, 300, 5000):
                self.wfile.write(b"%x\r\n%s\r\n" % (n, b"HTTP/1.1 500 no\r\n\r\n"[:n].ljust(n, b"y")))
            self.wfile.write(b"0\r\n\r\n")
        elif path == "/fail":
            self.answer(503, b"no")
        else:
            self.answer(404, b"not here")

    do_HEAD = do_DELETE = do_GET

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(201, b"made")

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET


server = Server((sys.argv[1], 0), Handler)
print(server.server_address[1], flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
