"""A hub that hands every frame on after a fixed delay, for kernels that have no netem.

python -m tests.support.link_delay SECONDS PORT...  forward between interfaces until it is ended
python -m tests.support.link_delay checksums PORT   fill check sums in before the kernel sends
"""

from __future__ import annotations

import array
import collections
import fcntl
import select
import socket
import struct
import sys
import time

_ETH_P_ALL = 0x0003
_SIOCETHTOOL, _ETHTOOL_STXCSUM = 0x8946, 0x17


def fill_checksums(interface: str) -> None:
    """Turn off check sum offload: a frame read from a socket would carry none."""
    value = array.array("B", struct.pack("II", _ETHTOOL_STXCSUM, 0))
    request = struct.pack("16sP", interface.encode(), value.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, _SIOCETHTOOL, request)


def forward(seconds: float, interfaces: list[str]) -> None:
    """Send every frame to all other interfaces, ``seconds`` after it came."""
    ports = []
    for interface in interfaces:
        port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        port.bind((interface, 0))
        ports.append(port)
    waiting: collections.deque[tuple[float, socket.socket, bytes]] = collections.deque()
    while True:
        patience = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for port in select.select(ports, [], [], patience)[0]:
            frame, sender = port.recvfrom(65_536)
            if sender[2] != socket.PACKET_OUTGOING:
                waiting.append((time.monotonic() + seconds, port, frame))
        while waiting and waiting[0][0] <= time.monotonic():
            _, origin, frame = waiting.popleft()
            for port in ports:
                if port is not origin:
                    port.send(frame)


if __name__ == "__main__":
    if sys.argv[1] == "checksums":
        fill_checksums(sys.argv[2])
    else:
        forward(float(sys.argv[1]), sys.argv[2:])
