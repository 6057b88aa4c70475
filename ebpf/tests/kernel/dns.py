"""A name server and a client of it, in a network namespace of their own: argument 1 is their address."""
import socket
import struct
import sys
import threading

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], 53))


def serve():
    while True:
        query, peer = server.recvfrom(512)
        name = query[13:13 + query[12]]
        rcode = {b"missing": 3, b"broken": 2}.get(name, 0)
        if name != b"mute":
            server.sendto(query[:2] + struct.pack(">HHHHH", 0x8180 | rcode, 1, 0, 0, 0) + query[12:], peer)


threading.Thread(target=serve, daemon=True).start()
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number, name in enumerate(["good"] * 5 + ["missing"] * 2 + ["broken", "mute"]):
    labels = b"".join(bytes([len(part)]) + part.encode() for part in [name, "Shop", "test"])
    query = struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 28, 1)
    client.sendto(query, (sys.argv[1], 53))
    if name != "mute":
        client.recv(512)
