//! Exemplars: kept by any process, shown by all, the last one, in its bucket, in the formats that have them.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/messages.rs"]
mod messages;
#[path = "support/metrics.rs"]
mod metrics;

use forks::{fork, Scratch};
use messages::PROTOBUF;
use metrics::{counter, spec};
use promring::client::{self, Family, FamilySpec, MetricType};

const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0";

fn histogram() -> &'static Family {
    let spec = FamilySpec { buckets: vec![1.0, 2.0], ..spec("sizes", MetricType::Histogram, "") };
    client::family(&spec).expect("a histogram")
}

/// The lines of the OpenMetrics page with an exemplar.
fn traced() -> Vec<String> {
    let page = promring::aggregator::scrape(OPENMETRICS).body;
    let page = String::from_utf8(page).expect("UTF-8");
    page.lines().filter(|line| line.contains(" # ")).map(String::from).collect()
}

/// One after the other: a process has one segment.
#[test]
fn exemplars() {
    an_exemplar_of_one_process_is_on_the_page_of_another();
    what_cannot_be_an_exemplar_is_refused_and_its_value_counted();
    a_storm_of_exemplars_is_thinned_out_and_counted();
}

fn an_exemplar_of_one_process_is_on_the_page_of_another() {
    let scratch = Scratch::new("exemplars");
    scratch.configure();
    let visits = counter("visits_total", "path").series(&["/"]).unwrap();
    let sizes = histogram().series(&[]).unwrap();
    assert!(visits.inc_with_exemplar(2.0, &[("trace_id", "first")], Some(1764000000.5)).unwrap());
    assert!(fork(|| {
        let visits = counter("visits_total", "path").series(&["/"]).unwrap();
        visits.inc_with_exemplar(3.0, &[("trace_id", "a \"b\"")], Some(1764000001.25)).unwrap();
        let sizes = histogram().series(&[]).unwrap();
        sizes.observe_with_exemplar(1.5, &[("trace_id", "c"), ("span", "")], Some(2.0)).unwrap();
        sizes.observe_with_exemplar(7.0, &[], Some(3.0)).unwrap();
    })
    .join());
    let wanted = [
        "visits_total{path=\"/\"} 5 # {trace_id=\"a \\\"b\\\"\"} 3 1764000001.25",
        "sizes_bucket{le=\"2.0\"} 1 # {trace_id=\"c\",span=\"\"} 1.5 2",
        "sizes_bucket{le=\"+Inf\"} 2 # {} 7 3",
    ];
    assert_eq!(traced(), wanted);
    assert_eq!(visits.exemplar(0).unwrap().value, 3.0);
    assert_eq!(sizes.exemplar(0), None);
    let collected = histogram().collect();
    let buckets: Vec<usize> = collected[0].exemplars.iter().map(|(bucket, _)| *bucket).collect();
    assert_eq!(buckets, [1, 2]);

    let families = messages::read(&promring::aggregator::scrape(PROTOBUF).body).unwrap();
    let named = |name: &str| families.iter().find(|family| family.name() == name).unwrap();
    let counter_ = named("visits_total").metric[0].counter.clone().unwrap();
    let exemplar = counter_.exemplar.expect("an exemplar");
    assert_eq!((exemplar.label[0].value(), exemplar.value()), ("a \"b\"", 3.0));
    let buckets = &named("sizes").metric[0].histogram.as_ref().unwrap().bucket;
    let values: Vec<Option<f64>> =
        buckets.iter().map(|b| b.exemplar.as_ref().map(|e| e.value())).collect();
    assert_eq!(values, [None, Some(1.5), Some(7.0)], "of +Inf, too, which has no bucket else");

    let text = String::from_utf8(promring::aggregator::scrape("").body).unwrap();
    assert!(text.contains("visits_total{path=\"/\"} 5\n") && !text.contains(" # {"), "{text}");

    // A removed series comes back without it.
    counter("visits_total", "path").remove(&["/"]).unwrap();
    counter("visits_total", "path").series(&["/"]).unwrap().inc(1.0);
    assert_eq!(traced(), wanted[1..]);
}

fn what_cannot_be_an_exemplar_is_refused_and_its_value_counted() {
    let scratch = Scratch::new("exemplars-refused");
    scratch.configure();
    let visits = counter("visits_total", "").series(&[]).unwrap();
    let long = "x".repeat(121);
    let refused = visits.inc_with_exemplar(1.0, &[("trace_id", &long)], None);
    let error = refused.expect_err("129 characters");
    assert_eq!(error.code(), "exemplar");
    assert!(error.to_string().contains("129 characters, 128 at most"), "{error}");
    assert!(!visits.inc_with_exemplar(-1.0, &[("trace_id", "a")], None).unwrap());
    assert!(!visits.inc_with_exemplar(f64::NAN, &[("trace_id", "a")], None).unwrap());
    let times = client::family(&spec("times", MetricType::Summary, "")).unwrap();
    let error = times.series(&[]).unwrap().observe_with_exemplar(1.0, &[("trace_id", "a")], None);
    assert_eq!(error.expect_err("a summary has none").code(), "wrong_type");
    let text = metrics::page();
    assert_eq!(metrics::sample(&text, "visits_total"), Some(1.0));
    assert_eq!(metrics::sample(&text, "times_count"), Some(1.0));
    assert_eq!(traced(), [""; 0]);
}

fn a_storm_of_exemplars_is_thinned_out_and_counted() {
    let scratch = Scratch::new("exemplars-storm");
    scratch.configure();
    let visits = counter("visits_total", "").series(&[]).unwrap();
    let n = 20_000;
    let kept = (0..n).filter(|_| visits.keep_exemplar(1.0, &[("trace_id", "a")], None).unwrap());
    let kept = kept.count();
    assert!((16..n / 2).contains(&kept), "{kept} of {n}");
    let _ = visits.inc_with_exemplar(1.0, &[("trace_id", "b")], None).unwrap();
    assert_eq!(metrics::sample(&metrics::page(), "visits_total"), Some(1.0));
}
