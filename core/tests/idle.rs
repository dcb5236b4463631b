//! Pages of an app in which nothing happens: the same bytes, in every format, from whichever process.
//!
//! What counts the scrapes themselves cannot stay; the setting `scrape_metrics` leaves it out, and
//! nothing else changes. One test function: the client is one per process.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering::SeqCst;

use forks::{eventually, fork, Ledger, Scratch};
use metrics::{counter, gauge, page, sample, spec};
use promring::client::{self, FamilySpec, GaugeMode, MetricType, Native};
use promring::config::{Config, Listen};
use promring::{aggregator, exposition::Escaping};

const PROTOBUF: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
/// All that a scrape changes.
const OF_SCRAPES: [&str; 4] = [
    "promring_drains_total",
    "promring_drain_seconds_total",
    "promring_scrapes_total",
    "promring_scrape_seconds_total",
];

/// Something of every kind, then nothing any more.
fn count(worker: usize) {
    let orders = counter("orders_total", "kind note");
    let trace = [("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736")];
    for n in 0..50 {
        let series = orders.series(&["book", &format!("{n}\n\"é\"")]).expect("a series");
        series.inc(0.1 + worker as f64);
        series.inc_with_exemplar(1.0, &trace, None).expect("an exemplar");
    }
    for mode in [GaugeMode::All, GaugeMode::LiveSum, GaugeMode::MostRecent, GaugeMode::Max] {
        gauge(mode).series(&[]).expect("a series").set(worker as f64 / 3.0);
    }
    for (name, metric_type, native) in [
        ("queue.depth", MetricType::Gauge, None),
        ("took_seconds", MetricType::Histogram, Some(Native::new(3))),
        ("waited_seconds", MetricType::Histogram, None),
        ("size_bytes", MetricType::Summary, None),
    ] {
        let buckets = match metric_type {
            MetricType::Histogram => vec![0.005, 0.1, 1.0],
            _ => Vec::new(),
        };
        let family = FamilySpec { buckets, native, ..spec(name, metric_type, "dotted.label") };
        let series = client::family(&family).expect(name).series(&["a"]).expect(name);
        for n in 1..100 {
            match metric_type {
                MetricType::Gauge => series.set(0.1),
                _ => series.observe(f64::from(n) / 70.0),
            };
        }
    }
    aggregator::tick(); // as at the end of a request: `process_*` is reported
}

/// A server that shows nothing of scrapes, and its two workers; word 0: workers that have counted.
fn server(config: Config, ledger: &Ledger) {
    client::configure(Config { scrape_metrics: false, ..config });
    client::attach();
    aggregator::start().expect("an aggregator");
    let work = |worker| {
        move || {
            count(worker);
            ledger.at(0).fetch_add(1, SeqCst);
            loop {
                std::thread::park();
            }
        }
    };
    let workers = [0, 1].map(|worker| fork(work(worker)));
    for worker in workers {
        worker.join();
    }
}

fn get(port: u16, accept: &str, encoding: &str) -> Option<(String, Vec<u8>)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let wish = format!("Accept: {accept}\r\nAccept-Encoding: {encoding}");
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\n{wish}\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let body = answer.split_off(head + 4);
    Some((String::from_utf8(answer).ok()?, body))
}

/// A page that was rendered for this request: one that two scrapes share would prove nothing.
fn rendered(port: u16, accept: &str, encoding: &str) -> Vec<u8> {
    let scrapes = || sample(&page(), "promring_scrapes_total").expect("their number");
    eventually("a page of its own", || {
        let before = scrapes();
        let (head, body) = get(port, accept, encoding)?;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(head.contains("content-encoding: gzip"), encoding == "gzip", "{head}");
        (scrapes() - before == 2.0).then_some(body)
    })
}

fn inflated(page: &[u8]) -> Vec<u8> {
    miniz_oxide::inflate::decompress_to_vec(&page[10..page.len() - 8]).expect("deflate")
}

/// Without the families that count scrapes; OpenMetrics calls them by their names without `_total`, and `_created`.
fn steady(page: &str) -> String {
    let of_scrapes = |line: &&str| {
        let words = line.trim_start_matches("# ").split(' ').take(2);
        OF_SCRAPES
            .iter()
            .any(|name| words.clone().any(|word| word.starts_with(name.trim_end_matches("_total"))))
    };
    page.lines().filter(|line| !of_scrapes(line)).map(|line| format!("{line}\n")).collect()
}

#[test]
fn pages_of_an_idle_app_are_the_same() {
    let scratch = Scratch::new("idle");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    client::detach_for_tests();
    let config = Config {
        segment: Some(scratch.path().join("segment")),
        listen: Listen::Tcp(format!("127.0.0.1:{port}")),
        target_info: vec![("service".into(), "shop".into())],
        ..Config::default()
    };
    let ledger = Ledger::new(1);
    let running = fork(|| server(config.clone(), &ledger));
    eventually("both workers to have counted", || (ledger.at(0).load(SeqCst) == 2).then_some(()));
    client::configure(config);
    client::attach();
    page(); // this process has its place now
    eventually("the aggregator", || get(port, "", "identity"));

    let schemes = |format: &'static str| {
        Escaping::ALL
            .map(|escaping| format!("{format};version=1.0.0;escaping={}", escaping.as_str()))
    };
    let texts = ["text/plain", "application/openmetrics-text"].map(schemes);
    for accept in ["text/plain;version=0.0.4", PROTOBUF]
        .map(String::from)
        .iter()
        .chain(texts.iter().flatten())
    {
        let first = rendered(port, accept, "identity");
        assert!(first.windows(6).any(|bytes| bytes == b"orders"), "{accept}");
        assert!(first == rendered(port, accept, "identity"), "{accept} differs");
        let zipped: Vec<_> = (0..4).map(|_| rendered(port, accept, "gzip")).collect();
        for zipped in &zipped {
            assert!(inflated(zipped) == first, "{accept}, gzip, is not the plain page");
        }
        assert!(zipped[2] == zipped[3], "{accept}, gzip, differs");
    }

    // The setting's default shows the four families, last, and nothing else moves.
    let (before, after) = (page(), page());
    assert_ne!(before, after);
    let theirs = String::from_utf8(rendered(port, "", "identity")).expect("UTF-8");
    for name in OF_SCRAPES {
        assert!(sample(&after, name).is_some() && sample(&theirs, name).is_none(), "{name}");
    }
    for name in ["process_cpu_seconds_total", "promring_refused_values_total{reason=\"negative\"}"]
    {
        assert!(sample(&theirs, name).is_some(), "{name} is missing");
    }
    assert_eq!(steady(&before), steady(&after));
    for accept in ["", "application/openmetrics-text;version=1.0.0"] {
        let ours = String::from_utf8(aggregator::scrape(accept).body).expect("UTF-8");
        let theirs = String::from_utf8(rendered(port, accept, "identity")).expect("UTF-8");
        assert_eq!(steady(&ours), theirs, "another process shows something else");
    }
    running.kill();
    eventually("the port is free", || TcpListener::bind(("127.0.0.1", port)).ok());
}
