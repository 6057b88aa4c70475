#!/usr/bin/env python3
"""A real HTTP server with several busy routes, of which one keeps what each request allocates; and the clients that ask it.

  http_service.py serve ADDRESS_FILE KEPT_BYTES   listens on a free port of 127.0.0.1 and writes it to the file
  http_service.py ask ADDRESS_FILE SECONDS        asks, with a load that changes from route to route, until the server is gone
"""
import http.client, http.server, math, os, random, sys, threading, time

ROUTES = ["/api/users/{}", "/api/orders/{}", "/api/search", "/health"]


def serve(address_file, kept_bytes):
    kept = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            work = bytearray(random.randrange(4_000, 40_000))
            if kept_bytes and self.path.startswith("/api/users/"):
                kept.append(b"\x5a" * kept_bytes)
            body = str(len(work)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with open(address_file + ".part", "w") as f:
        f.write(str(server.server_address[1]))
    os.rename(address_file + ".part", address_file)
    server.serve_forever()


def ask(address_file, seconds):
    while not os.path.exists(address_file):
        time.sleep(0.05)
    port = int(open(address_file).read())
    end = time.monotonic() + seconds

    def client(number, path):
        # Each route has its own rhythm, so that they can be told apart.
        dice = random.Random(number)
        period = 23 + 17 * number
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            while time.monotonic() < end:
                rate = 14 * (1.2 + math.sin(2 * math.pi * time.monotonic() / period + number)) + dice.random()
                connection.request("GET", path.format(dice.randrange(1, 100_000)))
                connection.getresponse().read()
                time.sleep(dice.expovariate(rate))
        except (OSError, http.client.HTTPException):
            pass

    threads = [threading.Thread(target=client, args=(i, path)) for i, path in enumerate(ROUTES)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


if sys.argv[1] == "serve":
    serve(sys.argv[2], int(sys.argv[3]))
else:
    ask(sys.argv[2], float(sys.argv[3]))
