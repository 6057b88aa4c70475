"""A server and a client whose packets may be lost: prints the port, the requests and the segments that were sent again."""
import http.client
import http.server
import sys
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        body = b"HTTP/1.1 200 OK\r\n\r\n" * (6000 if self.path == "/large" else 2)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer((sys.argv[1], 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = http.client.HTTPConnection(*server.server_address, source_address=(sys.argv[1], 0))
for number in range(60):
    client.request("GET", "/large" if number % 2 else "/small")
    client.getresponse().read()
client.close()
head, values = [line.split() for line in open("/proc/net/snmp") if line.startswith("Tcp:")]
print(server.server_address[1], 60, values[head.index("RetransSegs")])
