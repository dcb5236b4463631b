//! Idle series leave the page after `series_ttl` and begin anew at zero; one that counts is never touched, and no count is lost to it.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use forks::{eventually, fork, Ledger, Scratch};
use metrics::{counter, sample, spec};
use promring::client::{self, Family, FamilySpec, MetricType};
use promring::config::{Config, Listen};

fn configure(scratch: &Scratch) {
    client::detach_for_tests();
    assert!(client::configure(Config {
        segment: Some(scratch.path().join("segment")),
        listen: Listen::Off, // who scrapes looks for idle series
        series_ttl: 1,
        max_series_per_family: 2,
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
    let (sizes, times) = (of_type("sizes", MetricType::Histogram), of_type("times", MetricType::Summary));
    let idle = || visits.series(&["/"]).unwrap();
    assert!(fork(|| (0..3).for_each(|_| assert!(idle().inc(1.0)))).join());
    [sizes, times].iter().for_each(|family| assert!(family.series(&["/"]).unwrap().observe(3.0)));
    assert!(of_type("level", MetricType::Gauge).series(&["/"]).unwrap().set(4.0));
    assert!(counter("all_total", "").series(&[]).unwrap().inc(1.0));
    let full = page();
    let born = sample(&full, "visits_created{path=\"/\"}").expect("a creation time");
    for line in ["visits_total{path=\"/\"} 3", "sizes_count{path=\"/\"} 1", "times_sum{path=\"/\"} 3"] {
        assert!(full.contains(line), "{line} is not in {full}");
    }

    let busy = visits.series(&["/busy"]).unwrap();
    let mut counted = 0.0;
    let page_without = eventually("an end of the idle series", || {
        assert!(visits.series(&["/busy"]).unwrap().inc(1.0));
        counted += 1.0;
        let page = page();
        assert_eq!(sample(&page, "visits_total{path=\"/busy\"}"), Some(counted), "a series that counts");
        let idle = ["visits_total", "sizes_count", "times_sum"];
        let shown = |name: &&str| sample(&page, &format!("{name}{{path=\"/\"}}")).is_some();
        (!idle.iter().any(shown)).then_some(page)
    });
    assert!(busy.is_live() && !idle_is_live(visits));
    assert_eq!(sample(&page_without, "level{path=\"/\",pid=\"".trim_end_matches(",pid=\"")), None);
    assert!(page_without.contains("level{path=\"/\""), "a gauge is state");
    assert!(page_without.contains("all_total 1"), "it has no labels");

    // Its room under the cap is free; and it comes back at zero, with a later creation time.
    assert!(visits.series(&["/third"]).unwrap().inc(1.0));
    assert_eq!(sample(&page(), "visits_total{path=\"/third\"}"), Some(1.0));
    assert!(fork(|| assert!(idle().inc(1.0))).join());
    let again = page();
    assert_eq!(sample(&again, "visits_total{path=\"/\"}"), Some(1.0));
    assert!(sample(&again, "visits_created{path=\"/\"}").unwrap() > born);
}
