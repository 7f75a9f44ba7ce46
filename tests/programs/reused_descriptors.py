# SPDX-License-Identifier: Apache-2.0
"""Uses sockets whose numbers come from sockets that were closed a moment before.

Each sends its inode. Prints a line for each: the inode and what it may be called.
"""

import ctypes
import os
import random
import socket
import sys
import time

ROUNDS = 59
PIDFD_GETFD = 438

libc = ctypes.CDLL(None, use_errno=True)


def name(sock):
    return "{}:{}".format(*sock.getsockname())


def tell(sock, kinds):
    inode = os.fstat(sock.fileno()).st_ino
    print(inode, *kinds(inode), flush=True)
    sock.send(b"inode %d." % inode)


def received(ends):
    socket.send_fds(ends[0], [b"x"], [ends[1].fileno()])
    return socket.recv_fds(ends[1], 1, 1)[1][0]


def fetched(ends):
    own = os.pidfd_open(os.getpid())
    # The lowest number is that of the closed socket, which the pidfd has taken.
    os.dup2(own, 100)
    os.close(own)
    return libc.syscall(PIDFD_GETFD, 100, ends[1].fileno(), 0)


def one(listening, ends, again):
    sock = socket.create_connection(listening.getsockname())
    other, peer = listening.accept()
    number = sock.fileno()
    local = "{}:{}".format(*peer)
    tell(sock, lambda inode: [f"TCP:[{inode}]", f"TCP:[{local}->{name(listening)}]"])
    time.sleep(random.random() * 0.03)
    sock.close()
    assert again(ends) == number
    taken = socket.socket(fileno=number)
    inodes = [os.fstat(each.fileno()).st_ino for each in ends]
    tell(taken, lambda inode: [f"UNIX-STREAM:[{inode}->{inodes[0]}]"])
    time.sleep(random.random() * 0.06)
    taken.close()
    other.close()
    ends[0].recv(100)


def main():
    again = {"received": received, "fetched": fetched}[sys.argv[1]]
    listening = socket.create_server(("127.0.0.1", 0))
    ends = socket.socketpair()
    for _ in range(ROUNDS):
        one(listening, ends, again)


main()
