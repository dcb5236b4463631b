//! Idle series leave the page after `series_ttl` and begin anew at zero; one that counts is never touched, and no count is lost to it.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;

use std::collections::HashMap;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use forks::{eventually, fork, Child, Ledger, Scratch};
use metrics::{counter, sample, spec};
use promring::client::{self, Family, FamilySpec, MetricType};
use promring::config::{Config, Listen};

fn configure(scratch: &Scratch) {
    client::detach_for_tests();
    assert!(client::configure(Config {
        segment: Some(scratch.path().join("segment")),
        listen: Listen::Off, // who scrapes looks for idle series
        series_ttl: 1,
        max_series_per_family: 8,
        ..Config::default()
    }));
}

/// The page with creation times.
fn page() -> String {
    let page = promring::aggregator::scrape("application/openmetrics-text;version=1.0.0");
    String::from_utf8(page.body).expect("UTF-8")
}

fn of_type(name: &str, metric_type: MetricType) -> &'static Family {
    let buckets = if metric_type == MetricType::Histogram { vec![1.0, 2.0] } else { Vec::new() };
    client::family(&FamilySpec { buckets, ..spec(name, metric_type, "path") }).expect("a family")
}

/// One after the other: a process has one segment.
#[test]
fn expiry() {
    what_counts_nothing_leaves_the_page_and_begins_anew();
    no_count_is_lost_at_the_border();
}

fn what_counts_nothing_leaves_the_page_and_begins_anew() {
    let scratch = Scratch::new("expiry");
    configure(&scratch);
    let visits = counter("visits_total", "path");
    let (sizes, times) =
        (of_type("sizes", MetricType::Histogram), of_type("times", MetricType::Summary));
    let idle = || visits.series(&["/"]).unwrap();
    assert!(fork(|| (0..3).for_each(|_| assert!(idle().inc(1.0)))).join());
    [sizes, times].iter().for_each(|family| assert!(family.series(&["/"]).unwrap().observe(3.0)));
    assert!(of_type("level", MetricType::Gauge).series(&["/"]).unwrap().set(4.0));
    assert!(counter("all_total", "").series(&[]).unwrap().inc(1.0));
    let full = page();
    let born = sample(&full, "visits_created{path=\"/\"}").expect("a creation time");
    for line in
        ["visits_total{path=\"/\"} 3", "sizes_count{path=\"/\"} 1", "times_sum{path=\"/\"} 3"]
    {
        assert!(full.contains(line), "{line} is not in {full}");
    }

    let busy = visits.series(&["/busy"]).unwrap();
    let mut counted = 0.0;
    let page_without = eventually("an end of the idle series", || {
        assert!(visits.series(&["/busy"]).unwrap().inc(1.0));
        counted += 1.0;
        let page = page();
        assert_eq!(
            sample(&page, "visits_total{path=\"/busy\"}"),
            Some(counted),
            "a series that counts"
        );
        let idle = ["visits_total", "sizes_count", "times_sum"];
        let shown = |name: &&str| sample(&page, &format!("{name}{{path=\"/\"}}")).is_some();
        (!idle.iter().any(shown)).then_some(page)
    });
    assert!(busy.is_live());
    assert!(page_without.contains("level{path=\"/\""), "a gauge is state");
    assert!(page_without.contains("all_total 1"), "it has no labels");

    // It comes back at zero, with a later creation time.
    assert!(fork(|| assert!(idle().inc(1.0))).join());
    let again = page();
    assert_eq!(sample(&again, "visits_total{path=\"/\"}"), Some(1.0));
    assert!(sample(&again, "visits_created{path=\"/\"}").unwrap() > born);
}

/// What a series showed last, by its creation time: a life.
type Lives = HashMap<(usize, u64), f64>;

/// Workers count in series that are idle for about as long as an idle series stays. What all lives of all series
/// have shown last is what was counted: between the last count and the removal there is a page.
fn no_count_is_lost_at_the_border() {
    let scratch = Scratch::new("border");
    configure(&scratch);
    let acknowledged = Ledger::new(N_WORKERS);
    let mut lives = Lives::new();
    let workers: Vec<Child> = (0..N_WORKERS).map(|me| fork(|| count(&acknowledged, me))).collect();
    eventually("twenty lives", || {
        note_lives(&mut lives);
        (lives.len() >= 20).then_some(())
    });
    workers.into_iter().for_each(Child::kill);
    let counted = acknowledged.sum(0, N_WORKERS);
    eventually("a page with all that was counted", || {
        note_lives(&mut lives);
        let shown = lives.values().sum::<f64>() as u64;
        assert!(shown <= counted + N_WORKERS as u64, "{shown} of {counted}: counted twice");
        (shown >= counted).then_some(())
    });
}

const N_WORKERS: usize = 3;
const N_SERIES: usize = 6;

/// A worker that counts now and then, in one series after the other, by a handle that it keeps or a new one.
fn count(acknowledged: &Ledger, me: usize) {
    let labels: Vec<String> = (0..N_SERIES).map(|i| format!("/{i}")).collect();
    let family = counter("visits_total", "path");
    let kept = family.series(&[&labels[me]]).unwrap();
    for turn in me.. {
        let series =
            if turn % 5 == 0 { kept } else { family.series(&[&labels[turn % N_SERIES]]).unwrap() };
        assert!(series.inc(1.0));
        acknowledged.at(me).fetch_add(1, SeqCst);
        std::thread::sleep(Duration::from_millis(300 + (turn * 137 % 500) as u64));
        // the load, nothing is waited for
    }
}

fn note_lives(lives: &mut Lives) {
    let page = page();
    for i in 0..N_SERIES {
        let value = sample(&page, &format!("visits_total{{path=\"/{i}\"}}"));
        let born = sample(&page, &format!("visits_created{{path=\"/{i}\"}}"));
        if let (Some(value), Some(born)) = (value, born) {
            lives.insert((i, born.to_bits()), value);
        }
    }
}
