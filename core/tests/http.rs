//! The listener before well-behaved, odd and hostile peers, byte for byte on the socket.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use promring::http::{self, Answer, Asked, Limits, Listener};

/// A listener on a thread of its own; ends with the test.
struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What every page is, unless the request wants a big one.
const PAGE: &str = "up 1\n";

fn answer(asked: &Asked) -> Answer {
    let body = match asked.accept.as_str() {
        "big" => vec![b'x'; 64 << 20].into(),
        "echo" => asked.accept_encoding.clone().into(),
        _ => PAGE.into(),
    };
    let content_encoding = (asked.accept_encoding == "gzip").then_some("gzip");
    Answer { content_type: "text/plain; version=0.0.4", content_encoding, body }
}

impl Server {
    fn start(limits: Limits) -> Server {
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let (address, stop) = (listener.local_addr(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let round = || match stopped.load(Ordering::SeqCst) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            };
            http::serve(listener, limits, answer, Duration::from_millis(20), round).unwrap();
        });
        Server { address, stop, thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap(); // a watchdog
        stream
    }

    /// Sends these bytes and reads until the server closes.
    fn ask(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            // What was sent beyond the request is not read: closing resets the connection.
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
            _ => String::from_utf8(answer).unwrap(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Status, head in lower case, body.
fn parts(answer: &str) -> (u16, String, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    (status, head.to_lowercase(), body)
}

#[track_caller]
fn expect(server: &Server, request: &str, status: u16) -> String {
    let answer = server.ask(request);
    assert_eq!(parts(&answer).0, status, "{request:?}\n{answer}");
    answer
}

#[test]
fn what_is_answered() {
    let server = Server::start(Limits::default());
    let answer = expect(&server, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200);
    let (_, head, body) = parts(&answer);
    assert_eq!(body, PAGE);
    for line in [
        "content-type: text/plain; version=0.0.4",
        "content-length: 5",
        "connection: close",
        "vary: accept, accept-encoding",
    ] {
        assert!(head.contains(line), "{line}: {head}");
    }
    assert!(!head.contains("content-encoding"), "{head}");
    let head_only = expect(&server, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200);
    assert!(parts(&head_only).1.contains("content-length: 5") && parts(&head_only).2.is_empty());
    let zipped =
        expect(&server, "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n", 200);
    assert!(parts(&zipped).1.contains("content-encoding: gzip"));
    let twice = "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: echo\r\nAccept-Encoding: br\r\nAccept-Encoding: gzip;q=0.5\r\n\r\n";
    assert_eq!(parts(&expect(&server, twice, 200)).2, "br,gzip;q=0.5");
    expect(&server, "GET /metrics?x=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 200);
    expect(&server, "GET http://x/metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200);
    for path in ["/-/healthy", "/-/ready"] {
        expect(&server, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"), 200);
    }
}

#[test]
fn http_1_0_without_a_host() {
    let server = Server::start(Limits::default());
    let answer = expect(&server, "GET /metrics HTTP/1.0\r\n\r\n", 200);
    assert!(parts(&answer).1.contains("content-length: 5"), "{answer}");
    assert_eq!(parts(&answer).2, PAGE);
}

#[test]
fn what_is_refused() {
    let server = Server::start(Limits::default());
    expect(&server, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404);
    expect(&server, "POST /other HTTP/1.1\r\nHost: x\r\n\r\n", 404);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
        let answer =
            expect(&server, &format!("{method} /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), 405);
        assert!(parts(&answer).1.contains("allow: get, head"), "{answer}");
    }
    expect(&server, "GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody", 400);
    let chunked = "GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    expect(&server, chunked, 400);
    let both = "GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n";
    expect(&server, both, 400);
    expect(&server, "GET /metrics HTTP/1.1\r\n\r\n", 400);
    expect(&server, "GET /metrics HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400);
    expect(&server, "GET /metrics HTTP/1.1\r\nHost: x\r\nBroken\r\n\r\n", 400);
    expect(&server, "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", 400); // TLS
    let long = "y".repeat(9_000);
    expect(&server, &format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n"), 431);
    expect(&server, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200); // and goes on
}

#[test]
fn of_pipelined_requests_the_first_is_answered() {
    let server = Server::start(Limits::default());
    let answer = server
        .ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\nGET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    assert_eq!(parts(&answer).2, PAGE);
}

#[test]
fn a_request_in_single_bytes() {
    let server = Server::start(Limits::default());
    let mut stream = server.connect();
    stream.set_nodelay(true).unwrap();
    for byte in b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" {
        stream.write_all(&[*byte]).unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(parts(&answer), (200, parts(&answer).1, PAGE));
}

/// Was it closed from the other side? Waits for it.
fn is_closed(mut stream: &TcpStream) -> bool {
    let mut byte = [0];
    match stream.read(&mut byte) {
        Ok(n) => n == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn half_open_connections_make_room() {
    // No time limit comes before the watchdog: it is the number that lets them go.
    let patient = Duration::from_secs(300);
    let (head_time, connection_time) = (patient, patient);
    let limits = Limits { connections: 8, head_time, connection_time, ..Limits::default() };
    let server = Server::start(limits);
    let silent: Vec<TcpStream> = (0..40).map(|_| server.connect()).collect();
    expect(&server, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200);
    // All but those that fit beside the one just answered had to go, the oldest first.
    assert!(silent[..32].iter().all(is_closed));
}

#[test]
fn who_sends_no_head_is_let_go() {
    let limits = Limits { head_time: Duration::from_millis(50), ..Limits::default() };
    let server = Server::start(limits);
    let mut stream = server.connect();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost:").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer); // ends, or the watchdog of `connect` says no
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert!(is_closed(&stream));
}

#[test]
fn who_never_reads_is_let_go() {
    let limits =
        Limits { connections: 4, connection_time: Duration::from_millis(300), ..Limits::default() };
    let server = Server::start(limits);
    let readers: Vec<TcpStream> = (0..4).map(|_| server.connect()).collect();
    for mut reader in &readers {
        reader.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: big\r\n\r\n").unwrap();
    }
    // They hold all the seats, and still another is answered.
    expect(&server, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200);
    for mut reader in &readers {
        while reader.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(10)); // until the server has closed
        }
        let mut got = Vec::new();
        let _ = reader.read_to_end(&mut got);
        assert!(got.len() < 64 << 20, "it was read to the end");
    }
}

#[test]
fn scrapes_go_on_amid_a_crowd() {
    let server = Server::start(Limits::default());
    let before = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut crowd = Vec::new();
    for i in 0..1_000 {
        let mut stream = server.connect();
        let big = "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: big\r\n\r\n";
        let head = if i % 50 == 0 { big } else { "GET /me" };
        let _ = stream.write_all(head.as_bytes()); // it may have been let go already
        crowd.push(stream);
        if i % 100 == 0 {
            expect(&server, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200);
        }
    }
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() - before - crowd.len();
    // The other tests of this process have some open, too; without a bound there would be a thousand.
    assert!(open < 500, "the listener holds {open} descriptors");
}

/// Two messages in one: the second must never be answered as a request of its own.
#[test]
fn nothing_is_smuggled() {
    let server = Server::start(Limits::default());
    let both = "GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
        0\r\n\r\nGET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = server.ask(both);
    assert!(!answer.contains("promring is up"), "{answer}");
}
