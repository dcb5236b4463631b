"""gRPC servers with py-grpc-prometheus, several processes on one port: app_grpc.py PORT WORKERS PAGE_PORT."""

import multiprocessing
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from prometheus_client import Counter, start_http_server
from py_grpc_prometheus.prometheus_server_interceptor import PromServerInterceptor

DONE = Counter("app_done", "What the app counts itself.")


def work(request, context):
    """Answer who did it."""
    DONE.inc(exemplar={"trace_id": str(os.getpid())})
    return str(os.getpid()).encode()


def serve(port, page_port):
    """Serve until SIGTERM; the one that is given a port for it shows the library's page."""
    server = grpc.server(
        ThreadPoolExecutor(2),
        interceptors=[PromServerInterceptor(enable_handling_time_histogram=True)],
        options=[("grpc.so_reuseport", 1)],
    )
    handlers = {"Do": grpc.unary_unary_rpc_method_handler(work)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("Work", handlers)])
    server.add_insecure_port(f"127.0.0.1:{port}")
    if page_port:
        start_http_server(page_port, "127.0.0.1")
    signal.signal(signal.SIGTERM, lambda *_: server.stop(5))
    server.start()
    server.wait_for_termination()


def main():
    """Run the workers, and end them when told to."""
    port, workers, page_port = map(int, sys.argv[1:])
    spawn = multiprocessing.get_context("spawn")
    made = [spawn.Process(target=serve, args=(port, 0 if number else page_port)) for number in range(workers)]
    for process in made:
        process.start()
    signal.signal(signal.SIGTERM, lambda *_: [process.terminate() for process in made])
    for process in made:
        process.join()


if __name__ == "__main__":
    main()
