"""Writes every frame of an interface to a file, each behind its length as four bytes, until it is ended."""

import socket
import struct
import sys

interface, path = sys.argv[1:]
ETH_P_ALL = 3
line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
line.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
line.bind((interface, ETH_P_ALL))
with open(path, "wb", buffering=0) as file:
    print("READY", flush=True)
    while True:
        frame = line.recv(1 << 17)
        file.write(struct.pack(">I", len(frame)) + frame)
