# SPDX-License-Identifier: Apache-2.0
"""The services: sixteen that hold no more with each request, sixteen that do."""

from __future__ import annotations

from confusion.postgres import postgres
from confusion.prefork import Prefork
from confusion.service import Service
from confusion.spoken import Idle, spoken
from confusion.stores import memcached, redis
from confusion.web import nginx, uvicorn

HEALTHY: tuple[Service, ...] = (
    Service("nginx, reloads", False, nginx),
    Service("redis, SET and DEL", False, redis(grows=False)),
    Service("memcached, same keys", False, memcached(grows=False)),
    Service("PostgreSQL", False, postgres(leaks=False)),
    Service("uvicorn", False, uvicorn("/")),
    Service("node", False, spoken("service.js", "bounded")),
    Service("JVM", False, spoken("Service.java", "bounded", options=["-Xmx64m"])),
    Service("C++ LRU cache", False, spoken("cache.cpp", "lru")),
    Service("Rust", False, spoken("service.rs", "bounded")),
    Service("Go", False, spoken("service.go", "bounded")),
    Service("Python", False, spoken("service.py", "bounded")),
    Service("prefork", False, spoken("prefork.c", kind=Prefork)),
    Service("config at start", False, spoken("growth.c", "config", first_seen=True)),
    Service("idle", False, spoken("growth.c", "threads", kind=Idle)),
    Service("threads", False, spoken("growth.c", "threads")),
    Service("libc's tables", False, spoken("growth.c", "tables", first_seen=True)),
)

LEAKING: tuple[Service, ...] = (
    Service("redis, new keys", True, redis(grows=True), "redis|jemalloc|sds|zmalloc"),
    Service("memcached, new keys", True, memcached(grows=True), "memcached|slab|item"),
    Service("PostgreSQL, PREPARE", True, postgres(leaks=True), "postgres|AllocSet"),
    Service("uvicorn, keeps", True, uvicorn("/keep"), "python|PyByteArray"),
    Service("node, keeps", True, spoken("service.js", "growing"), "anonymous|mapped"),
    Service(
        "JVM, keeps",
        True,
        spoken("Service.java", "growing", options=["-Xmx2g"]),
        "anonymous|mapped",
    ),
    Service("C++ map", True, spoken("cache.cpp", "map"), "remember"),
    Service("Rust, keeps", True, spoken("service.rs", "growing"), "remember"),
    Service("Go, keeps", True, spoken("service.go", "growing"), "anonymous|mapped"),
    Service("Python, arenas", True, spoken("service.py", "growing"), "anonymous|mapped|map"),
    Service("prefork, workers", True, spoken("prefork.c", "leak", kind=Prefork), "serve_request"),
    Service("growing realloc", True, spoken("growth.c", "realloc"), "grow_buffer"),
    Service("growing mmap", True, spoken("growth.c", "mmap"), "map_more|anonymous|mapped"),
    Service("descriptors", True, spoken("growth.c", "files"), "descriptor", "descriptors"),
    Service("library", True, spoken("plugin.c"), "store_request"),
    Service("strdup and the like", True, spoken("handed.c"), "lose_"),
)
