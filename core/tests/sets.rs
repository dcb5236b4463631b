//! Sets: how many different values all processes have added in the window, in every format, and forgotten in time.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/messages.rs"]
mod messages;
#[path = "support/metrics.rs"]
mod metrics;
#[path = "support/strict.rs"]
mod strict;

use std::sync::atomic::Ordering;

use forks::{eventually, fork, Ledger, Scratch};
use messages::PROTOBUF;
use metrics::{counter, gauge, page, sample, spec, sum};
use promring::aggregator;
use promring::client::{self, Family, FamilySpec, GaugeMode, MetricType, Value};
use strict::Dialect;

fn configure(scratch: &Scratch, window: &str) {
    scratch.configure_with(&[("summary_window", window)]);
}

fn set(name: &str, labels: &str) -> &'static Family {
    let gauge = spec(name, MetricType::Gauge, labels);
    client::family(&FamilySpec { gauge_mode: GaugeMode::Unique, ..gauge }).expect("a set")
}

/// Adds `user <n>`.
fn add(family: &'static Family, labels: &[&str], users: impl Iterator<Item = u32>) {
    for user in users {
        assert!(family.series(labels).unwrap().add_to_set(format!("user {user}").as_bytes()));
    }
}

/// Within five standard errors: each segment has a seed of its own, and so other ones of its values collide.
fn about(found: f64, wanted: f64) -> bool {
    (found / wanted - 1.0).abs() < 5.0 * 0.0325
}

/// Of a few values so many may share a register.
fn few(found: Option<f64>, wanted: f64) -> bool {
    found.is_some_and(|found| ((wanted - 2.0).max(1.0)..=wanted).contains(&found))
}

/// One after the other: a process has one segment.
#[test]
fn sets_of_all_processes() {
    processes_add_overlapping_values_and_every_format_shows_their_union();
    processes_that_are_killed_harm_nothing();
    what_is_older_than_the_window_is_forgotten();
    removed_series_come_back_empty();
    what_is_no_set_takes_none();
}

fn processes_add_overlapping_values_and_every_format_shows_their_union() {
    let scratch = Scratch::new("sets");
    configure(&scratch, "86400");
    set("users", "plan");
    let children: Vec<_> = (0..4)
        .map(|child| {
            // 0 to 3999, 2000 to 5999, 4000 to 7999, 6000 to 9999, each twice.
            let users = move || child * 2_000..child * 2_000 + 4_000;
            fork(move || add(set("users", "plan"), &["free"], users().chain(users())))
        })
        .collect();
    add(set("users", "plan"), &["paid"], 0..7);
    assert!(children.into_iter().all(forks::Child::join));

    let text = page();
    let free = sample(&text, "users{plan=\"free\"}").expect("a number");
    assert!(about(free, 10_000.0), "{free}");
    assert!(few(sample(&text, "users{plan=\"paid\"}"), 7.0), "{text}");
    assert!(text.contains("# TYPE users gauge\n"), "{text}");
    let open_metrics = aggregator::scrape("application/openmetrics-text;version=1.0.0").body;
    let open_metrics = strict::read(&open_metrics, Dialect::OpenMetrics).expect("OpenMetrics");
    let family = open_metrics.iter().find(|f| f.name == "users").expect("the family");
    assert_eq!(family.type_word, "gauge");
    let messages = messages::read(&aggregator::scrape(PROTOBUF).body).expect("messages");
    let message = messages.iter().find(|f| f.name() == "users").expect("the family");
    for series in 0..2 {
        let value = message.metric[series].gauge.as_ref().expect("a gauge").value();
        assert_eq!(family.samples[series].value, value);
        let plan = &family.samples[series].labels[0].1;
        assert_eq!(sample(&text, &format!("users{{plan=\"{plan}\"}}")), Some(value));
        let asked = set("users", "plan").series(&[plan.as_str()]).unwrap();
        assert_eq!((asked.get(), asked.get_local()), (Value::Number(value), value));
    }
    let collected = set("users", "plan").collect();
    assert_eq!(collected.len(), 2);
    assert!(collected.iter().any(|s| s.value == Value::Number(free)));
}

fn processes_that_are_killed_harm_nothing() {
    let scratch = Scratch::new("sets-killed");
    configure(&scratch, "86400");
    let family = set("users", "");
    let added = Ledger::new(8);
    for child in 0..8 {
        let added = &added;
        let adder = fork(move || {
            for user in (0..500).cycle() {
                add(set("users", ""), &[], std::iter::once(user));
                added.at(child).fetch_add(1, Ordering::SeqCst);
            }
        });
        eventually("each user", || (added.at(child).load(Ordering::SeqCst) >= 500).then_some(()));
        adder.kill();
        let found = sample(&page(), "users").expect("a number");
        assert!(about(found, 500.0), "{found}");
    }
    let before = sample(&page(), "users");
    add(family, &[], 0..500);
    assert_eq!(sample(&page(), "users"), before, "they had all been there");
}

fn what_is_older_than_the_window_is_forgotten() {
    let scratch = Scratch::new("sets-window");
    configure(&scratch, "1");
    let family = set("users", "");
    add(family, &[], 0..200);
    eventually("an empty window", || (sample(&page(), "users")? == 0.0).then_some(()));
    eventually("what is new alone", || {
        add(family, &[], 1_000..1_003);
        few(sample(&page(), "users"), 3.0).then_some(())
    });
    eventually("an empty window again", || (sample(&page(), "users")? == 0.0).then_some(()));
}

fn removed_series_come_back_empty() {
    let scratch = Scratch::new("sets-removed");
    configure(&scratch, "86400");
    let family = set("users", "plan");
    add(family, &["free"], 0..100);
    add(family, &["paid"], 0..3);
    assert!(family.remove(&["free"]).unwrap());
    assert!(!page().contains("free"));
    add(family, &["free"], 0..2);
    assert!(few(sample(&page(), "users{plan=\"free\"}"), 2.0));
    family.clear();
    assert!(!page().contains("users{"));
    family.series(&["paid"]).unwrap();
    assert_eq!(sample(&page(), "users{plan=\"paid\"}"), Some(0.0));
}

fn what_is_no_set_takes_none() {
    let scratch = Scratch::new("sets-wrong");
    configure(&scratch, "600");
    let refused = || sum(&page(), "promring_refused_values_total");
    let series = set("users", "").series(&[]).unwrap();
    for wrong in [series.set(3.0), series.add(1.0), series.inc(1.0), series.observe(1.0)] {
        assert!(!wrong);
    }
    assert!(!counter("hits_total", "").series(&[]).unwrap().add_to_set(b"x"));
    assert!(!gauge(GaugeMode::Shared).series(&[]).unwrap().add_to_set(b"x"));
    assert_eq!(refused(), 6.0);
    assert_eq!(sample(&page(), "users"), Some(0.0));
    let shared =
        FamilySpec { gauge_mode: GaugeMode::Shared, ..spec("users", MetricType::Gauge, "") };
    let error = client::family(&shared).err().expect("another gauge").to_string();
    assert!(error.contains("unique"), "{error}");
}
