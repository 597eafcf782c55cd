"""As fast as this machine asks: threads in a loop, no Odoo, nothing stored.

`python answer_loop.py ADDRESS COUNT THREADS` prints its figures as JSON.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

from answer_client import Clock, ask


def main(address, count, threads):
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda number: ask(address, number), range(threads)))  # warm
        clock = Clock()
        list(pool.map(lambda number: ask(address, number), range(count)))
        clock.tell(count)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
