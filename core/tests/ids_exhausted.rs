//! Ids run out – of families, of series after many removals, of workers' places: it is said and counted, and what there is goes on, exact.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;

use std::sync::atomic::Ordering::SeqCst;

use forks::{eventually, fork, Child, Ledger, Scratch};
use metrics::{counter, page, sample, spec, sum};
use promring::client::{self, MetricType};
use promring::config::{Config, Listen};

/// Places there can be, of workers and of who reads the page.
const PLACES: usize = 1024;
/// More families than there can be.
const FAMILIES: usize = 10_000;

/// One after the other: a process has one segment.
#[test]
fn ids_run_out() {
    families_run_out();
    series_run_out_although_some_were_removed();
    places_run_out();
}

fn configure(scratch: &Scratch, max_series: u32) {
    client::detach_for_tests();
    assert!(client::configure(Config {
        segment: Some(scratch.path().join("segment")),
        listen: Listen::Off,
        max_series,
        ..Config::default()
    }));
}

/// One family too many is refused, in every process, and says so; the others count.
fn families_run_out() {
    let scratch = Scratch::new("families");
    configure(&scratch, 100);
    let family = |i: usize| {
        let spec = spec(&format!("family_{i}_total"), MetricType::Counter, "");
        client::family(&spec)
    };
    let (n, refusal) =
        (0..FAMILIES).find_map(|i| Some((i, family(i).err()?))).expect("an end of the families");
    assert!(refusal.to_string().contains("register fewer metrics"), "{refusal}");
    let count = || {
        assert!(family(n - 1).unwrap().series(&[]).unwrap().inc(1.0));
        assert!(family(n + 1).is_err(), "another one");
    };
    count();
    assert!(fork(count).join());
    assert_eq!(sample(&page(), &format!("family_{}_total", n - 1)), Some(2.0));
}

/// A removed series keeps its id for the next time; whoever comes when all ids are given out overflows.
fn series_run_out_although_some_were_removed() {
    let scratch = Scratch::new("series");
    configure(&scratch, 50);
    let visits = counter("visits_total", "path");
    let visit = |i: usize| assert!(visits.series(&[&format!("/{i}")]).unwrap().inc(1.0));
    for i in 0..120 {
        visit(i);
        let shown = sample(&page(), &format!("visits_total{{path=\"/{i}\"}}"));
        assert_eq!(shown, (i < 50).then_some(1.0), "series {i}");
        assert_eq!(visits.remove(&[&format!("/{i}")]).unwrap(), i < 50);
    }
    visit(7);
    let shown = page();
    assert_eq!(sample(&shown, "visits_total{path=\"/7\"}"), Some(1.0), "it has an id");
    assert_eq!(sample(&shown, "visits_total{promring_overflow=\"true\"}"), Some(70.0));
    let counted = "promring_overflowed_label_sets_total{reason=\"cap\"}";
    assert_eq!(sample(&shown, counted), Some(70.0));
}

/// More workers at a time than there are places: those without one count, too, past the rings.
fn places_run_out() {
    let scratch = Scratch::new("places");
    configure(&scratch, 10);
    let visits = counter("visits_total", "path").series(&["/"]).unwrap();
    assert!(visits.inc(1.0)); // who is to look after the dead has a place
    let n = PLACES + 20;
    let ledger = Ledger::new(1);
    let work = || {
        assert!(visits.inc(1.0));
        ledger.at(0).fetch_add(1, SeqCst);
        std::thread::park(); // killed here
    };
    let workers: Vec<Child> = (0..n).map(|_| fork(work)).collect();
    eventually("all workers", || (ledger.sum(0, 1) == n as u64).then_some(()));
    let shown = page();
    assert_eq!(sum(&shown, "visits_total"), (n + 1) as f64);
    assert_eq!(sample(&shown, "promring_workers"), Some(PLACES as f64));
    let past_rings = sample(&shown, "promring_direct_adds_total").expect("a number");
    assert!(past_rings >= 20.0, "{past_rings} were counted past the rings");
    workers.into_iter().for_each(Child::kill);

    // Their places are free again once somebody has looked, and nothing was counted twice.
    eventually("free places", || {
        (sample(&page(), "promring_workers")? < PLACES as f64).then_some(())
    });
    assert!(fork(|| assert!(visits.inc(1.0))).join());
    assert_eq!(sum(&page(), "visits_total"), (n + 2) as f64);
    assert_eq!(sample(&page(), "promring_direct_adds_total"), Some(past_rings), "a place is free");
}
