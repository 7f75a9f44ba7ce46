#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# strace 6.1-0.1 (Debian 12) prints bytes that were never received, for a TCP recv() with
# MSG_TRUNC.
#
# With MSG_TRUNC, TCP discards the data and returns its length; the buffer is not written. strace
# prints as many bytes of the buffer as the call returned, so it shows what the program had there
# before. The peer sent `private`.
#
# Seen:
#> recvfrom(N, "OLD CON", 7, MSG_TRUNC, NULL, NULL) = 7
#> the buffer after the call: OLD CONTENT
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
(cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download strace=6.1-0.1 libunwind8=1.6.2-3)
for package in "$dir"/*.deb; do
	dpkg -x "$package" "$dir/root"
done

cat >"$dir/receive.py" <<'PY'
import socket

server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
connection, _ = server.accept()
client.sendall(b"private")
buffer = bytearray(b"OLD CONTENT")
connection.recv_into(buffer, 7, socket.MSG_TRUNC)
print("the buffer after the call:", buffer.decode())
PY
LD_LIBRARY_PATH=$(echo "$dir"/root/usr/lib/*-linux-gnu) "$dir/root/usr/bin/strace" \
	-e trace=recvfrom -e signal=none -e quiet=exit -o "$dir/trace" \
	env -u LD_LIBRARY_PATH python3 "$dir/receive.py" >"$dir/printed"
sed 's/recvfrom([0-9]*/recvfrom(N/' "$dir/trace" "$dir/printed" | tee "$dir/seen"

sed -n 's/^#> //p' "$0" | diff - "$dir/seen"
