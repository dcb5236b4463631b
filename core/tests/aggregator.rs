//! The aggregator as a child of a master: it listens, stands by, ends with its master, and comes back when killed.
//!
//! One test function: the client is one per process.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use forks::{eventually, fork, Ledger, Scratch};
use metrics::{counter, page, sample};
use promring::aggregator::{self, Start};
use promring::client;
use promring::config::{Config, Listen};

fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// A master that starts the aggregator and a worker that counts for ever; word 0: aggregator's pid,
/// word 1: increments acknowledged.
fn master(ledger: &Ledger) {
    match aggregator::start().expect("an aggregator") {
        Start::Started { pid } => ledger.at(0).store(u64::from(pid), SeqCst),
        other => panic!("{other:?}"),
    }
    assert!(matches!(aggregator::start(), Ok(Start::AlreadyStarted { .. })));
    let worker = fork(|| {
        let series = counter("visits_total", "").series(&[]).expect("a series");
        for n in 1.. {
            series.inc(1.0);
            ledger.at(1).store(n, SeqCst);
            client::tick();
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    worker.join();
}

#[test]
fn it_serves_comes_back_and_ends_with_its_master() {
    let scratch = Scratch::new("aggregator");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    client::detach_for_tests();
    client::configure(Config {
        segment: Some(scratch.path().join("segment")),
        listen: Listen::Tcp(format!("127.0.0.1:{port}")),
        ..Config::default()
    });
    client::attach();
    let ledger = Ledger::new(2);
    let server = fork(|| master(&ledger));

    let first = eventually("a page with all that was acknowledged before", || {
        let before = ledger.at(1).load(SeqCst) as f64;
        let counted = sample(&get(port, "/metrics")?, "visits_total")?;
        // A page that another scrape has just been answered with may be 100 ms old: then once more.
        (before > 0.0 && counted >= before).then_some((before, counted))
    });
    assert!(get(port, "/-/healthy").unwrap().starts_with("HTTP/1.1 200"));
    assert!(get(port, "/other").unwrap().starts_with("HTTP/1.1 404"));
    formats(port);
    eventually("requests at once that share pages", || scrapes_at_once(port));

    // SAFETY: the aggregator of our own server; no memory is touched.
    unsafe { libc::kill(ledger.at(0).load(SeqCst) as i32, libc::SIGKILL) };
    let again = eventually("another aggregator", || {
        sample(&get(port, "/metrics")?, "visits_total").filter(|n| *n > first.1)
    });
    assert!(again > first.1);

    server.kill(); // the worker dies with it (PR_SET_PDEATHSIG in `fork`)
    eventually("the port is free", || TcpListener::bind(("127.0.0.1", port)).ok());
    // The totals outlive the server's processes; the increment amid which it was killed may count or not.
    let in_doubt =
        sample(&page(), "visits_total").expect("the counter") - ledger.at(1).load(SeqCst) as f64;
    assert!((0.0..=1.0).contains(&in_doubt), "{in_doubt} more than were acknowledged");
}

fn ask(port: u16, headers: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\n{headers}\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    let body = answer.split_off(head + 4);
    (String::from_utf8(answer).unwrap().to_lowercase(), body)
}

/// Each format by its `Content-Type`, plain and compressed, one right after the other.
fn formats(port: u16) {
    const PROTOBUF: &str =
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    const KNOWN: [(&str, &str, &[u8]); 4] = [
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", b"# HELP visits"),
        (
            "text/plain;version=1.0.0;escaping=dots",
            "text/plain; version=1.0.0; charset=utf-8; escaping=dots",
            b"# HELP visits__total",
        ),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
            b"# TYPE visits counter",
        ),
        (
            PROTOBUF,
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
            b"\x0cvisits_total",
        ),
    ];
    for ((accept, content_type, holds), gzip) in
        (0..3).flat_map(|_| KNOWN).flat_map(|known| [(known, true), (known, false)])
    {
        let encoding = if gzip { "gzip" } else { "identity" };
        let wish = format!("Accept: {accept}\r\nAccept-Encoding: {encoding}\r\n");
        let (head, body) = ask(port, &wish);
        let line = format!("content-type: {content_type}\r\n").to_lowercase();
        assert!(head.contains(&line), "{head}");
        assert_eq!(head.contains("content-encoding: gzip\r\n"), gzip, "{head}");
        let inflate = || miniz_oxide::inflate::decompress_to_vec(&body[10..]).expect("deflate");
        let page = if gzip { inflate() } else { body };
        assert!(page.windows(holds.len()).any(|bytes| bytes == holds), "{accept}");
    }
}

/// Requests that wait together are answered with one page for each format, unless the machine stalls
/// between them: the pages tell how often was rendered.
fn scrapes_at_once(port: u16) -> Option<()> {
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut streams: Vec<TcpStream> =
        (0..30).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    streams.iter_mut().for_each(|stream| stream.write_all(request).unwrap());
    let counts = streams.iter_mut().map(|stream| {
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        sample(&page, "promring_scrapes_total").expect("their number").to_bits()
    });
    let different: std::collections::HashSet<u64> = counts.collect();
    (different.len() < 15).then_some(())
}
