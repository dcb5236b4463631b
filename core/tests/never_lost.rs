//! Promise 1: an increment whose call has returned survives the SIGKILL of its process; none counts twice.
//!
//! One test function: the client is one per process, and the children are forks of this one.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;

use std::sync::atomic::Ordering::SeqCst;

use forks::{fork, Child, Ledger, Scratch};
use metrics::counter;
use promring::client::{Family, Value};

const WORKERS: usize = 128;
const SERIES: usize = 100;
const INCREMENTS: u64 = 1_000_000;
const KILLS: usize = 200;

fn total(family: &'static Family) -> u64 {
    family
        .collect()
        .iter()
        .map(|series| match series.value {
            Value::Number(value) => value as u64,
            ref other => panic!("not a counter: {other:?}"),
        })
        .sum()
}

/// Increments `n` times over all series; `ledger` follows each returned call.
fn work(ledger: &Ledger, at: usize, n: u64) {
    let family = counter("jobs_total", "queue");
    let names: Vec<String> = (0..SERIES).map(|i| format!("queue {i}")).collect();
    let series: Vec<_> =
        names.iter().map(|name| family.series(&[name]).expect("a series")).collect();
    let word = ledger.at(at);
    for i in 0..n {
        series[(i % SERIES as u64) as usize].inc(1.0);
        word.store(i + 1, SeqCst);
    }
}

#[test]
fn the_sum_is_the_ledgers_through_two_hundred_kills() {
    let scratch = Scratch::new("never-lost");
    scratch.configure();
    let family = counter("jobs_total", "queue");
    // Lives 0..WORKERS run to their end; KILLS further ones are killed at any moment.
    let ledger = Ledger::new(WORKERS + KILLS);
    let mut to_the_end: Vec<Child> = Vec::new();
    for i in 0..WORKERS {
        to_the_end.push(fork(|| work(&ledger, i, INCREMENTS)));
    }
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    for i in WORKERS..WORKERS + KILLS {
        let child = fork(|| work(&ledger, i, u64::MAX));
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let until = seed % 20_000;
        while ledger.at(i).load(SeqCst) < until {
            std::thread::yield_now();
        }
        child.kill();
    }
    for child in to_the_end {
        assert!(child.join(), "a worker failed");
    }
    let acknowledged = ledger.sum(0, WORKERS + KILLS);
    let counted = total(family);
    assert!(acknowledged <= counted, "lost {}", acknowledged - counted);
    assert!(counted - acknowledged <= KILLS as u64, "doubled {}", counted - acknowledged);
    println!("acknowledged {acknowledged}, counted {counted}, kills {KILLS}");
}
