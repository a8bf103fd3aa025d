"""The lower bound: one consumer reads a topic to its end and drops the messages.

``python -m benchmarks.peers.drain BROKER TOPIC`` prints how many messages there were.
"""

import sys

from benchmarks.peers.one_process import messages

if __name__ == "__main__":
    print(sum(map(len, messages(*sys.argv[1:3]))))
