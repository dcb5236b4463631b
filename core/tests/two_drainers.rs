//! Two processes drain all the time while others count and die: each event is in the totals exactly once.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;

use std::sync::atomic::Ordering::SeqCst;

use forks::{fork, Child, Ledger, Scratch};
use metrics::{counter, page, sample, spec};
use promring::client::{self, FamilySpec, MetricType, Series};

const WORKERS: usize = 4;
const EVENTS: u64 = 300_000;

fn sizes() -> &'static Series {
    let spec =
        FamilySpec { buckets: vec![1.0, 2.0, 4.0], ..spec("sizes", MetricType::Histogram, "") };
    client::family(&spec).unwrap().series(&[]).unwrap()
}

/// Scrapes until told to stop; a counter that went back, or a torn observation, fails it.
fn drainer(stop: &Ledger) {
    let mut last = 0.0;
    while stop.at(0).load(SeqCst) == 0 {
        let page = page();
        let hits = sample(&page, "hits_total").unwrap_or(0.0);
        assert!(hits >= last, "{last} and then {hits}");
        last = hits;
        let (count, sum) = (sample(&page, "sizes_count"), sample(&page, "sizes_sum"));
        assert_eq!(sum.unwrap_or(0.0), 3.0 * count.unwrap_or(0.0), "torn");
    }
}

#[test]
fn every_event_is_drained_once() {
    let scratch = Scratch::new("two-drainers");
    scratch.configure();
    client::attach();
    let stop = Ledger::new(1);
    let drainers = [fork(|| drainer(&stop)), fork(|| drainer(&stop))];
    let work = || {
        let (hits, sizes) = (counter("hits_total", "").series(&[]).unwrap(), sizes());
        for _ in 0..EVENTS {
            assert!(hits.inc(1.0) && sizes.observe(3.0));
        }
    };
    let workers: Vec<Child> = (0..WORKERS).map(|_| fork(work)).collect();
    workers.into_iter().for_each(|worker| assert!(worker.join()));
    stop.at(0).store(1, SeqCst);
    drainers.into_iter().for_each(|drainer| assert!(drainer.join(), "a drainer saw it wrong"));
    let page = page();
    let all = (WORKERS as u64 * EVENTS) as f64;
    assert_eq!(sample(&page, "hits_total"), Some(all));
    assert_eq!(sample(&page, "sizes_count"), Some(all));
    assert_eq!(sample(&page, "sizes_sum"), Some(3.0 * all));
}
