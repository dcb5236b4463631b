//! Threads that push at the same time, each into a place of its own: nothing lost, places handed on, children exact.

#[path = "support/forks.rs"]
mod forks;

use forks::{fork, Scratch};
use promring::client::{self, Family, FamilySpec, GaugeMode, MetricType, Value};

const THREADS: u64 = 8;
const INCREMENTS: u64 = 500_000;

fn family(name: &str, metric_type: MetricType) -> &'static Family {
    client::family(&FamilySpec {
        name: name.into(),
        help: "Of threads.".into(),
        unit: String::new(),
        metric_type,
        gauge_mode: GaugeMode::Sum,
        label_names: Vec::new(),
        buckets: Vec::new(),
        native: None,
    })
    .expect("a family")
}

/// So many threads count at the same time, to their end.
fn count_in_threads() {
    let (counter, gauge) =
        (family("steps_total", MetricType::Counter), family("level", MetricType::Gauge));
    let work = || {
        let (counter, gauge) = (counter.series(&[]).unwrap(), gauge.series(&[]).unwrap());
        for i in 0..INCREMENTS {
            counter.inc(1.0);
            if i % 64 == 0 {
                gauge.add(1.0);
            }
        }
    };
    // Joined, not scoped: a scope does not wait until a thread has handed its place on.
    let threads: Vec<_> = (0..THREADS).map(|_| std::thread::spawn(work)).collect();
    threads.into_iter().for_each(|thread| thread.join().expect("a thread's end"));
}

fn value(name: &str, metric_type: MetricType) -> f64 {
    match family(name, metric_type).series(&[]).unwrap().get() {
        Value::Number(value) => value,
        other => panic!("{other:?}"),
    }
}

/// Worker places that are or were claimed, from the page.
fn places() -> f64 {
    let page = String::from_utf8(promring::aggregator::scrape("").body.to_vec()).unwrap();
    let line = page.lines().find(|line| line.starts_with("promring_workers ")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn threads_count_exactly_and_hand_their_places_on() {
    let scratch = Scratch::new("threads");
    scratch.configure();
    client::allow_threads();
    let mut expected = 0;
    for _ in 0..3 {
        count_in_threads();
        expected += THREADS * INCREMENTS;
        assert_eq!(value("steps_total", MetricType::Counter), expected as f64);
    }
    assert_eq!(value("level", MetricType::Gauge), (3 * THREADS * INCREMENTS.div_ceil(64)) as f64);
    assert!(places() <= (THREADS + 1) as f64, "ended threads hand their places on: {}", places());
    let child = fork(count_in_threads);
    count_in_threads();
    assert!(child.join());
    expected += 2 * THREADS * INCREMENTS;
    assert_eq!(value("steps_total", MetricType::Counter), expected as f64);
}
