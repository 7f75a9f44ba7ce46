# SPDX-License-Identifier: Apache-2.0
"""A service that keeps the answers of requests: `bounded` keeps 500, `growing` keeps all.

An answer is many small objects, which Python takes from arenas of its own.
"""

import sys
from collections import deque


def remember(kept: deque[list[str]], number: int) -> int:
    answer = [f"{number}:{index}" for index in range(50)]
    kept.append(answer)
    return sum(map(sys.getsizeof, answer))


def main() -> None:
    kept: deque[list[str]] = deque()
    number = held = 0
    for line in sys.stdin:
        for _ in range(int(line)):
            held += remember(kept, number)
            number += 1
            if sys.argv[1] == "bounded" and len(kept) > 500:
                held -= sum(map(sys.getsizeof, kept.popleft()))
        print("held", held, flush=True)


main()
