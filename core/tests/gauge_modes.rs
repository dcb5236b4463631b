//! Gauges in all ten modes of prometheus_client, through the death of a worker and the recycling of its place.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use forks::{crowd, fork, Child, Ledger, Scratch};
use metrics::{counter, gauge, page, sample};
use promring::client::GaugeMode;

const MODES: [&str; 10] = [
    "all",
    "liveall",
    "sum",
    "livesum",
    "max",
    "livemax",
    "min",
    "livemin",
    "mostrecent",
    "livemostrecent",
];

/// A worker that sets every gauge and then waits to be killed.
fn worker(value: f64) -> Child {
    let ready = Ledger::new(1);
    let child = fork(|| {
        for mode in MODES {
            let series = gauge(GaugeMode::parse(mode).unwrap()).series(&[]).unwrap();
            assert!(series.set(value));
        }
        ready.at(0).store(1, SeqCst);
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    while ready.at(0).load(SeqCst) == 0 {
        std::thread::yield_now();
    }
    child
}

/// Merged values by mode; for the per-worker modes, the sorted values of all workers.
fn shown() -> Vec<(&'static str, Vec<f64>)> {
    let page = page();
    let of = |mode: &&'static str| {
        let name = format!("level_{mode}");
        let per_worker = page.lines().filter_map(|line| {
            line.strip_prefix(&name)?.strip_prefix("{pid=")?.rsplit_once(' ')?.1.parse().ok()
        });
        let mut values: Vec<f64> = sample(&page, &name).into_iter().chain(per_worker).collect();
        values.sort_by(f64::total_cmp);
        (*mode, values)
    };
    MODES.iter().map(of).collect()
}

#[track_caller]
fn expect(wanted: [(&str, &[f64]); 10]) {
    let end = Instant::now() + Duration::from_secs(20); // a watchdog: the kernel frees locks at once
    let wanted: Vec<(&str, Vec<f64>)> = wanted.iter().map(|(m, v)| (*m, v.to_vec())).collect();
    while shown() != wanted {
        assert!(Instant::now() < end, "shown {:?}\nwanted {wanted:?}", shown());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn ten_modes_through_death_and_recycling() {
    let scratch = Scratch::new("gauge-modes");
    scratch.configure();
    for mode in MODES {
        gauge(GaugeMode::parse(mode).unwrap());
    }
    let _crowd = crowd(|| assert!(counter("jobs_total", "kind").series(&["x"]).unwrap().inc(1.0)));
    let (first, second) = (worker(5.0), worker(3.0));
    expect([
        ("all", &[3.0, 5.0]),
        ("liveall", &[3.0, 5.0]),
        ("sum", &[8.0]),
        ("livesum", &[8.0]),
        ("max", &[5.0]),
        ("livemax", &[5.0]),
        ("min", &[3.0]),
        ("livemin", &[3.0]),
        ("mostrecent", &[3.0]),
        ("livemostrecent", &[3.0]),
    ]);
    first.kill();
    let one_dead: [(&str, &[f64]); 10] = [
        ("all", &[3.0, 5.0]),
        ("liveall", &[3.0]),
        ("sum", &[8.0]),
        ("livesum", &[3.0]),
        ("max", &[5.0]),
        ("livemax", &[3.0]),
        ("min", &[3.0]),
        ("livemin", &[3.0]),
        ("mostrecent", &[3.0]),
        ("livemostrecent", &[3.0]),
    ];
    expect(one_dead);
    // The next worker reaps the dead one as it begins, and the one after it takes that place.
    let third = worker(1.0);
    let fourth = worker(2.0);
    expect([
        ("all", &[1.0, 2.0, 3.0]),
        ("liveall", &[1.0, 2.0, 3.0]),
        ("sum", &[11.0]),
        ("livesum", &[6.0]),
        ("max", &[5.0]),
        ("livemax", &[3.0]),
        ("min", &[1.0]),
        ("livemin", &[1.0]),
        ("mostrecent", &[2.0]),
        ("livemostrecent", &[2.0]),
    ]);
    for child in [second, third, fourth] {
        child.kill();
    }
    for _ in 0..20 {
        worker(0.0).kill(); // sums get nothing more, however often places change hands
    }
    let page = page();
    assert_eq!(sample(&page, "level_sum"), Some(11.0));
    assert_eq!(sample(&page, "level_max"), Some(5.0));
    assert_eq!(sample(&page, "level_min"), Some(0.0));
    assert_eq!(sample(&page, "level_livesum"), None);
}
