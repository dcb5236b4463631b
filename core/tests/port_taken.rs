//! An aggregator that finds its port taken says so once, with the holder; the app's own endpoint goes on, and the port is tried again.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use forks::{eventually, fork, Ledger, Scratch};
use metrics::{counter, page, sample};
use promring::client;
use promring::config::{Config, Listen};
use promring::{aggregator, http};

/// The lines that a file has so far.
fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(String::from).collect()
}

fn scrape(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    page.contains("visits_total 1\n").then_some(page)
}

#[test]
fn it_is_said_once_and_tried_again() {
    let scratch = Scratch::new("port-taken");
    let path = scratch.path().join("stderr");
    let stderr = std::fs::File::create(&path).expect("a file");
    let notices = || lines(&path);
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    client::detach_for_tests();
    // The app's own sink is not the aggregator's: its process has nothing of the app to run.
    client::set_log(|line| panic!("a notice of the app: {line}"));
    client::configure(Config {
        segment: Some(scratch.path().join("segment")),
        listen: Listen::Tcp(format!("127.0.0.1:{port}")),
        ..Config::default()
    });
    let ledger = Ledger::new(1);
    let server = fork(|| {
        // SAFETY: neither touches memory; the copies of the test's descriptors are this process's, and the
        // socket is not used in it.
        unsafe {
            libc::close(holder.as_raw_fd());
            libc::dup2(stderr.as_raw_fd(), 2);
        }
        let visits = counter("visits_total", "");
        aggregator::start().expect("an aggregator, though it cannot listen yet");
        visits.series(&[]).expect("a series").inc(1.0);
        ledger.at(0).store(1, std::sync::atomic::Ordering::SeqCst);
        loop {
            std::thread::park();
        }
    });
    let said = eventually("a notice", || notices().into_iter().next());
    let holder_pid = std::process::id();
    let expected = format!(
        "promring: cannot listen on 127.0.0.1:{port}: the port is held by pid {holder_pid} ("
    );
    assert!(said.starts_with(&expected), "{said}");
    eventually("the app has counted", || {
        (ledger.at(0).load(std::sync::atomic::Ordering::SeqCst) == 1).then_some(())
    });
    assert!(page().contains("visits_total 1\n"), "the app's own endpoint answers");
    // Ten of its rounds cover more than one further attempt, of which it says nothing.
    let drains = || sample(&page(), "promring_drains_total").expect("a count");
    let (before, mut own) = (drains(), 0.0);
    eventually("ten rounds", || {
        own += 1.0;
        (drains() >= before + own + 10.0).then_some(())
    });
    drop(holder);
    eventually("the page on the port", || scrape(port));
    assert_eq!(notices().len(), 1, "{:?}", notices());
    assert!(http::Listener::bind(&format!("127.0.0.1:{port}")).is_err());
    server.kill();
    eventually("the aggregator's end", || TcpListener::bind(("127.0.0.1", port)).ok());
}
