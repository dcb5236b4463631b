//! Summaries with quantiles over a sliding window: chosen by name, over all processes, in every format, and forgotten in time.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/messages.rs"]
mod messages;
#[path = "support/metrics.rs"]
mod metrics;
#[path = "support/strict.rs"]
mod strict;

use std::time::{Duration, Instant};

use forks::{eventually, fork, Scratch};
use messages::PROTOBUF;
use metrics::{page, sample, spec};
use promring::aggregator;
use promring::client::{self, Family, FamilySpec, MetricType, Native, Value};
use strict::Dialect;

fn configure(scratch: &Scratch, rules: &str, window: &str) {
    scratch.configure_with(&[("summary_quantiles", rules), ("summary_window", window)]);
}

fn summary(name: &str, labels: &str) -> &'static Family {
    client::family(&spec(name, MetricType::Summary, labels)).expect("a summary")
}

/// One after the other: a process has one segment.
#[test]
fn summaries_with_quantiles() {
    processes_add_up_and_every_format_shows_it();
    a_summary_has_none_unless_it_is_asked_for();
    what_is_older_than_the_window_is_forgotten_but_counted();
    a_removed_series_comes_back_empty();
    a_removed_series_has_no_notes_left();
    programs_choose_them_without_configuration();
}

fn processes_add_up_and_every_format_shows_it() {
    let scratch = Scratch::new("quantiles");
    configure(&scratch, "took_*=0.5/0.9/0.99", "86400");
    summary("took_seconds", "path");
    let mut values: Vec<f64> =
        (0..5_000).map(|n| (f64::from(n * 2_477 % 5_000) / 500.0 - 7.0).exp2()).collect();
    let children: Vec<_> = (0..3)
        .map(|child| {
            let own: Vec<f64> = values.iter().skip(child).step_by(3).copied().collect();
            fork(move || {
                let series = summary("took_seconds", "path").series(&["/"]).unwrap();
                own.iter().for_each(|value| assert!(series.observe(*value)));
            })
        })
        .collect();
    assert!(children.into_iter().all(forks::Child::join));
    values.sort_by(f64::total_cmp);

    let text = page();
    let open_metrics = aggregator::scrape("application/openmetrics-text;version=1.0.0").body;
    let open_metrics = strict::read(&open_metrics, Dialect::OpenMetrics).expect("OpenMetrics");
    let family = open_metrics.iter().find(|f| f.name == "took_seconds").expect("the family");
    assert_eq!(family.type_word, "summary");
    let messages = messages::read(&aggregator::scrape(PROTOBUF).body).expect("messages");
    let message = messages.iter().find(|f| f.name() == "took_seconds").expect("the family");
    let message = message.metric[0].summary.as_ref().expect("a summary");
    for (i, quantile) in [0.5, 0.9, 0.99].into_iter().enumerate() {
        let found = sample(&text, &format!("took_seconds{{path=\"/\",quantile=\"{quantile:?}\"}}"));
        let found = found.unwrap_or_else(|| panic!("no {quantile} in {text}"));
        let wanted = values[(quantile * 5_000.0) as usize - 1];
        assert!(
            (1.0 / 1.0443..1.0443).contains(&(found / wanted)),
            "{quantile}: {found}, {wanted}"
        );
        assert_eq!(family.samples[i].value, found);
        assert_eq!(family.samples[i].labels[1], ("quantile".into(), format!("{quantile:?}")));
        assert_eq!(
            (message.quantile[i].quantile(), message.quantile[i].value()),
            (quantile, found)
        );
    }
    assert_eq!(sample(&text, "took_seconds_count{path=\"/\"}"), Some(5_000.0));
    assert_eq!(message.sample_count(), 5_000);
    let sum: f64 = values.iter().sum();
    assert!((message.sample_sum() / sum - 1.0).abs() < 1e-12);
    let Value::Summary { count, .. } =
        summary("took_seconds", "path").series(&["/"]).unwrap().get()
    else {
        panic!("no summary")
    };
    assert_eq!(count, 5_000.0);
}

fn a_summary_has_none_unless_it_is_asked_for() {
    let scratch = Scratch::new("quantiles-none");
    configure(&scratch, "took_*=0.5", "600");
    summary("size_bytes", "").series(&[]).unwrap().observe(3.0);
    let text = page();
    assert!(!text.contains("quantile"), "{text}");
    assert_eq!(sample(&text, "size_bytes_sum"), Some(3.0));
    // Whoever registered it first has decided.
    let plain = FamilySpec {
        buckets: vec![0.5],
        native: Some(Native::new(3)),
        ..spec("size_bytes", MetricType::Summary, "")
    };
    client::family(&plain).unwrap().series(&[]).unwrap().observe(4.0);
    assert!(!page().contains("quantile"));
    assert_eq!(sample(&page(), "size_bytes_count"), Some(2.0));
}

fn what_is_older_than_the_window_is_forgotten_but_counted() {
    let scratch = Scratch::new("quantiles-window");
    configure(&scratch, "took=0.5", "1");
    let series = summary("took", "").series(&[]).unwrap();
    (0..100).for_each(|_| assert!(series.observe(1.0)));
    let median = || sample(&page(), "took{quantile=\"0.5\"}").expect("a median");
    eventually("an empty window", || median().is_nan().then_some(()));
    assert_eq!(sample(&page(), "took_count"), Some(100.0));
    // A few new ones outweigh the many that are forgotten.
    eventually("a median of what is new", || {
        series.observe(64.0);
        (60.0..68.0).contains(&median()).then_some(())
    });
    assert!(sample(&page(), "took_count") > Some(100.0));
}

/// What was noted of its life before is not subtracted from this one's counts.
fn a_removed_series_has_no_notes_left() {
    let scratch = Scratch::new("quantiles-notes");
    configure(&scratch, "took=0.5", "2");
    let family = summary("took", "path");
    let median = || sample(&page(), "took{path=\"/\",quantile=\"0.5\"}").expect("a median");
    // A trial in which the machine stood still for a window shows nothing.
    eventually("a trial within the window", || {
        (0..5).for_each(|_| assert!(family.series(&["/"]).unwrap().observe(1.0)));
        eventually("notes of all", || median().is_nan().then_some(()));
        let started = Instant::now();
        assert!(family.remove(&["/"]).unwrap());
        family.series(&["/"]).unwrap().observe(1.0);
        let found = median();
        let in_time = started.elapsed() < Duration::from_secs(1);
        assert!(!in_time || (0.9..1.1).contains(&found), "{found}");
        in_time.then_some(())
    });
}

fn a_removed_series_comes_back_empty() {
    let scratch = Scratch::new("quantiles-removed");
    configure(&scratch, "took=0/1", "86400");
    let family = summary("took", "path");
    family.series(&["/"]).unwrap().observe(1.0);
    assert!(page().contains("took{path=\"/\",quantile=\"1.0\"}"));
    assert!(family.remove(&["/"]).unwrap());
    assert!(!page().contains("took{"));
    family.series(&["/"]).unwrap().observe(100.0);
    let text = page();
    let least = sample(&text, "took{path=\"/\",quantile=\"0.0\"}").expect("the least");
    assert!(least > 90.0, "{text}");
    assert_eq!(sample(&text, "took_count{path=\"/\"}"), Some(1.0));
}

fn programs_choose_them_without_configuration() {
    let scratch = Scratch::new("quantiles-api");
    scratch.configure();
    let sizes = |buckets: &[f64], native| FamilySpec {
        buckets: buckets.to_vec(),
        native,
        ..spec("sizes", MetricType::Summary, "")
    };
    let native = Some(Native::new(5).within(1.0, 1e9));
    for (wrong, reason) in [
        (sizes(&[0.5], None), "exponential"),
        (sizes(&[0.5, 0.5], native), "ascending"),
        (sizes(&[1.5], native), "from 0 to 1"),
        (sizes(&[f64::NAN], native), "from 0 to 1"),
        (sizes(&[], native), "no histogram"),
    ] {
        let error = client::family(&wrong).err().expect("refused").to_string();
        assert!(error.contains(reason), "{error}");
    }
    let series = client::family(&sizes(&[0.25, 0.75], native)).unwrap().series(&[]).unwrap();
    (1..=1_000).for_each(|n| assert!(series.observe(f64::from(n) * 1e5)));
    let text = page();
    for quantile in [0.25, 0.75] {
        let found = sample(&text, &format!("sizes{{quantile=\"{quantile:?}\"}}")).expect("a value");
        assert!((1.0 / 1.0109..1.0109).contains(&(found / (quantile * 1e8))), "{found}");
    }
}
