//! The listener against strangers: unknown paths, other methods, large heads, bodies, half-open crowds, readers that never read.

#[path = "support/forks.rs"]
mod forks;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::time::Duration;

use forks::{fork, Child};
use promring::http::{serve, Answer, Listener};

/// A page too large for a socket's buffers.
const PAGE_BYTES: usize = 16 << 20;

fn listener() -> (SocketAddr, Child) {
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr();
    let server = fork(move || {
        let body = hyper::body::Bytes::from(vec![b'x'; PAGE_BYTES]);
        let answer = move |_: &str| Answer { content_type: "text/plain", body: body.clone() };
        let round = || ControlFlow::Continue(());
        serve(listener, answer, Duration::from_millis(50), round).unwrap();
    });
    (address, server)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// The status of what is answered, 0 when the connection just ends.
fn ask(address: SocketAddr, request: &[u8]) -> u16 {
    let mut stream = connect(address);
    let _ = stream.write_all(request); // it may be refused before it is all sent
    let mut answer = [0; 12];
    match stream.read_exact(&mut answer) {
        Ok(()) => std::str::from_utf8(&answer[9..]).unwrap().parse().unwrap(),
        Err(error) => {
            assert_ne!(error.kind(), ErrorKind::WouldBlock, "neither answered nor closed");
            0
        }
    }
}

#[test]
fn strangers_are_answered_and_do_not_stop_scrapes() {
    let (address, server) = listener();
    let scrape = || ask(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(scrape(), 200);
    for (request, status) in [
        ("GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        ("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        ("GET /metrics?name=x HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        ("GET /etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        ("GET /metrics/../x HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405),
        ("DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        ("GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 400),
        ("GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("nonsense\r\n\r\n", 400),
    ] {
        assert_eq!(ask(address, request.as_bytes()), status, "{request:?}");
    }
    let large =
        format!("GET /metrics HTTP/1.1\r\nHost: x\r\nCookie: {}\r\n\r\n", "c".repeat(60_000));
    assert_eq!(ask(address, large.as_bytes()), 431);
    // Two messages in one: the second must never be answered as another request.
    let smuggled = b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
        0\r\n\r\nGET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut stream = connect(address);
    stream.write_all(smuggled).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(!answer.contains("promring is up"), "{answer}");

    // A crowd that never finishes its heads, and readers that never read.
    let mut crowd: Vec<TcpStream> = Vec::new();
    for i in 0..1_000 {
        let mut stream = connect(address);
        let head: &[u8] =
            if i % 3 == 0 { b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" } else { b"GET /me" };
        let _ = stream.write_all(head);
        crowd.push(stream);
        if i % 100 == 0 {
            assert_eq!(scrape(), 200, "amid a crowd of {i}");
        }
    }
    assert_eq!(scrape(), 200);
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
    assert!(open < 100, "{open} descriptors are open in the listener");
    drop(crowd);
    assert_eq!(scrape(), 200);
}
