"""Bytes that this process has received over TCP, counted by the kernel: what Gloo's sockets carried, headers of its
messages included. Nothing is derived from shapes. Linux only.
"""

from __future__ import annotations

import os
import socket
import stat
import struct

_BYTES_RECEIVED = 128  # offset of tcpi_bytes_received in struct tcp_info, linux/tcp.h


def received_bytes() -> int:
    """Payload bytes received so far on all TCP connections that are open now.

    Raises:
        RuntimeError: the kernel does not count them.
    """
    return sum(_received(fd) for fd in _sockets())


def _sockets() -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                found.append(int(name))
        except OSError:  # closed meanwhile, such as the listing's own descriptor
            continue
    return found


def _received(fd: int) -> int:
    with socket.socket(fileno=os.dup(fd)) as connection:
        if (
            connection.family not in (socket.AF_INET, socket.AF_INET6)
            or connection.type != socket.SOCK_STREAM
        ):
            return 0
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    if len(info) < _BYTES_RECEIVED + 8:
        raise RuntimeError(f"the kernel's struct tcp_info has {len(info)} bytes, without tcpi_bytes_received")
    return struct.unpack_from("Q", info, _BYTES_RECEIVED)[0]
