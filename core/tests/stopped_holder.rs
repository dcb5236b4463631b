//! The holder of the drain lock is stopped (SIGSTOP): nobody waits for it, nothing is lost, every page stays exact.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;

use std::sync::atomic::Ordering::SeqCst;

use forks::{fork, Ledger, Scratch};
use metrics::{counter, page, sample};
use promring::client;

/// More events than a ring has slots: the rest goes past it, to the shared cells.
const BURST: u64 = 3_000;

#[test]
fn a_stopped_holder_stops_nobody() {
    let scratch = Scratch::new("stopped-holder");
    scratch.configure();
    client::attach();
    let busy = Ledger::new(1);
    // It copies many cells under the lock all the time, so it is often stopped while it holds it.
    let holder = fork(|| {
        let family = counter("filler_total", "number");
        for i in 0..9_000 {
            family.series(&[&i.to_string()]).unwrap();
        }
        let series = family.series(&["0"]).unwrap();
        loop {
            series.get();
            busy.at(0).fetch_add(1, SeqCst);
        }
    });
    while busy.at(0).load(SeqCst) < 10 {
        std::thread::yield_now();
    }
    let hits = counter("hits_total", "").series(&[]).unwrap();
    let (mut counted, mut peeks) = (0, 0.0);
    while peeks < 5.0 {
        holder.signal(libc::SIGSTOP);
        for _ in 0..BURST {
            assert!(hits.inc(1.0));
        }
        counted += BURST;
        let page = page();
        assert_eq!(sample(&page, "hits_total"), Some(counted as f64), "while it stands still");
        peeks = sample(&page, "promring_peeks_total").unwrap();
        // Another process begins, counts and ends meanwhile.
        assert!(fork(|| assert!(counter("hits_total", "").series(&[]).unwrap().inc(1.0))).join());
        counted += 1;
        holder.signal(libc::SIGCONT);
        let before = busy.at(0).load(SeqCst);
        while busy.at(0).load(SeqCst) < before + 2 {
            std::thread::yield_now();
        }
    }
    let page = page();
    assert_eq!(sample(&page, "hits_total"), Some(counted as f64), "after it went on");
    assert!(sample(&page, "promring_direct_adds_total").unwrap() > 0.0);
}
