"""Receives StatsD's datagrams on a port it prints, and adds up their counts; answers when its input ends."""

import json
import select
import socket
import sys
import time


def main():
    """Receive until there is nothing more."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
        port.bind(("127.0.0.1", 0))
        print(port.getsockname()[1], flush=True)
        counted, waiting = 0, True
        while True:
            ready, _, _ = select.select([port, sys.stdin] if waiting else [port], [], [], None if waiting else 0)
            if port in ready:
                for line in port.recv(65_536).split(b"\n"):
                    if b"|c" in line:
                        counted += int(line.split(b"|", 1)[0].rsplit(b":", 1)[1])
            elif ready:
                waiting = False
            else:
                break
    print(json.dumps({"counted": counted, "cpu": time.process_time()}))


if __name__ == "__main__":
    main()
