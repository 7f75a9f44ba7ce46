# SPDX-License-Identifier: Apache-2.0
"""An ASGI application: `/keep` keeps a part of each request, any other path keeps nothing."""

KEPT = []


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"] == "/keep":
        KEPT.append(bytearray(10_000))
    body = b"%d" % sum(map(len, KEPT))
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
