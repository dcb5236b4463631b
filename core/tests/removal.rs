//! `remove` and `clear` across processes: a series is hidden everywhere, comes back at zero, and loses nothing that was counted since.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;

use std::sync::atomic::Ordering::SeqCst;

use forks::{fork, Child, Ledger, Scratch};
use metrics::{counter, page, sample};
use promring::client;

const NAME: &str = "visits_total{path=\"/\"}";

/// Runs `work` in a process of its own.
fn elsewhere(work: impl FnOnce()) {
    assert!(fork(work).join());
}

/// A worker that counts one visit, whenever the ledger's next turn is its own.
fn worker(turns: &Ledger, me: usize) -> Child {
    fork(|| {
        for turn in 1.. {
            while turns.at(me).load(SeqCst) < 2 * turn - 1 {
                std::thread::yield_now();
            }
            let series = counter("visits_total", "path").series(&["/"]).unwrap();
            assert!(series.inc(1.0));
            turns.at(me).store(2 * turn, SeqCst);
        }
    })
}

fn take_turn(turns: &Ledger, who: usize) {
    let next = turns.at(who).load(SeqCst) + 1;
    turns.at(who).store(next, SeqCst);
    while turns.at(who).load(SeqCst) == next {
        std::thread::yield_now();
    }
}

#[test]
fn a_removed_series_comes_back_at_zero_and_stays_exact() {
    let scratch = Scratch::new("removal");
    scratch.configure();
    client::attach();
    let turns = Ledger::new(2);
    let _workers = [worker(&turns, 0), worker(&turns, 1)];
    let family = counter("visits_total", "path");
    for round in 0..50 {
        take_turn(&turns, 0);
        take_turn(&turns, 1);
        assert_eq!(sample(&page(), NAME), Some(2.0), "round {round}");
        // Nothing was drained since the last counts when a third process removes it.
        take_turn(&turns, 1);
        elsewhere(|| match round % 3 {
            0 => assert!(counter("visits_total", "path").remove(&["/"]).unwrap()),
            1 => counter("visits_total", "path").clear(),
            _ => {
                let removed = counter("visits_total", "path").remove_matching(&[("path", "/")]);
                assert_eq!(removed, 1);
            }
        });
        // The first count after the removal, and no drain in between: it must not be wiped out later.
        take_turn(&turns, 0);
        assert_eq!(sample(&page(), NAME), Some(1.0), "round {round}");
        assert!(family.remove(&["/"]).unwrap());
        assert_eq!(sample(&page(), NAME), None, "round {round}");
        assert!(!family.remove(&["/"]).unwrap());
    }
}
