//! Native histograms: exponential buckets beside classic ones or alone, exact over processes, wherever the events went.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/messages.rs"]
mod messages;
#[path = "support/metrics.rs"]
mod metrics;

use forks::{fork, Scratch};
use messages::PROTOBUF;
use metrics::{page, sample, spec};
use promring::client::{self, Family, FamilySpec, MetricType, Native, Value};

fn histogram(name: &str, buckets: &[f64], native: Option<Native>) -> FamilySpec {
    FamilySpec { buckets: buckets.to_vec(), native, ..spec(name, MetricType::Histogram, "") }
}

/// The one series of a family, as a scraper of protobuf gets it.
fn message(name: &str) -> messages::Histogram {
    let families = messages::read(&promring::aggregator::scrape(PROTOBUF).body).expect("messages");
    let family = families.into_iter().find(|family| family.name() == name).expect("the family");
    family.metric[0].histogram.clone().expect("a histogram")
}

/// The bucket of schema 3 that a value belongs to, by the definition.
fn bucket(value: f64) -> i32 {
    (value.log2() * 8.0).ceil() as i32
}

/// One after the other: a process has one segment.
#[test]
fn native_histograms() {
    processes_add_up_to_both_kinds_of_buckets();
    sampled_observations_are_fractions();
    a_family_may_have_exponential_buckets_alone();
    names_choose_them_by_configuration();
    whoever_registers_first_decides();
}

fn processes_add_up_to_both_kinds_of_buckets() {
    let scratch = Scratch::new("native");
    scratch.configure();
    let native = Native::around(3, &[0.1, 1.0, 10.0]);
    let took = || client::family(&histogram("took", &[0.1, 1.0, 10.0], Some(native))).unwrap();
    took();
    let values: Vec<f64> = (0..5_000).map(|n| 1.002f64.powi(n - 1_500) * 0.37).collect();
    let children: Vec<_> = (0..3)
        .map(|_| {
            let values = values.clone();
            fork(move || {
                let series = took().series(&[]).unwrap();
                values.iter().for_each(|value| assert!(series.observe(*value)));
            })
        })
        .collect();
    assert!(children.into_iter().all(forks::Child::join));
    took().series(&[]).unwrap().observe(0.0);

    let shown = message("took");
    let mut wanted: Vec<(i32, f64)> = Vec::new();
    for value in &values {
        match wanted.last_mut().filter(|(last, _)| *last == bucket(*value)) {
            Some((_, count)) => *count += 3.0,
            None => wanted.push((bucket(*value), 3.0)),
        }
    }
    assert_eq!((shown.schema(), shown.zero_count(), shown.sample_count()), (3, 1, 15_001));
    assert_eq!((shown.positive(), shown.negative()), (wanted, vec![]));
    let sum = 3.0 * values.iter().sum::<f64>();
    assert!((shown.sample_sum() / sum - 1.0).abs() < 1e-12, "{} {sum}", shown.sample_sum());
    let below = |bound: f64| 1 + 3 * values.iter().filter(|value| **value <= bound).count() as u64;
    let cumulative: Vec<u64> = shown.bucket.iter().map(|b| b.cumulative_count()).collect();
    assert_eq!(cumulative, [0.1, 1.0, 10.0].map(below));

    // The text formats have the classic buckets, and so has the API.
    let text = page();
    assert_eq!(sample(&text, "took_bucket{le=\"1.0\"}"), Some(below(1.0) as f64));
    assert_eq!(sample(&text, "took_count"), Some(15_001.0));
    let Value::Histogram { counts, .. } = took().series(&[]).unwrap().get() else { panic!() };
    assert_eq!((counts.len(), counts.iter().sum::<f64>()), (4, 15_001.0));
    let histogram = took().series(&[]).unwrap().native_histogram().unwrap();
    assert_eq!((histogram.positive, histogram.zero_count), (shown.positive(), 1.0));

    // A removed series comes back with empty buckets.
    took().remove(&[]).unwrap();
    took().series(&[]).unwrap().observe(0.5);
    assert_eq!((message("took").positive(), message("took").sample_count()), (vec![(-8, 1.0)], 1));
}

fn sampled_observations_are_fractions() {
    let scratch = Scratch::new("native-sampled");
    scratch.configure();
    let family = client::family(&histogram("took", &[1.0], Some(Native::new(3)))).unwrap();
    family.series(&[]).unwrap().observe_weighted(0.5, 2.5);
    family.series(&[]).unwrap().observe_weighted(-0.5, 2.5);
    let shown = message("took");
    assert_eq!(shown.sample_count_float, Some(5.0), "a whole sum of fractions");
    assert_eq!(shown.zero_count_float, Some(0.0));
    assert_eq!(shown.schema(), -3, "what is negative is not resolved: (2^-8, 1] holds it");
    assert_eq!((shown.positive(), shown.negative()), (vec![(0, 2.5)], vec![(0, 2.5)]));
}

fn a_family_may_have_exponential_buckets_alone() {
    let scratch = Scratch::new("native-alone");
    scratch.configure();
    let bytes = Native::new(2).within(1.0, 1e6);
    let family = client::family(&histogram("bytes", &[], Some(bytes))).unwrap();
    let series = family.series(&[]).unwrap();
    for value in [6.0, 1_000.0, 1e9] {
        series.observe_with_exemplar(value, &[("trace_id", "a")], Some(value)).unwrap();
    }
    let shown = message("bytes");
    assert!(shown.bucket.is_empty() && shown.zero_threshold() == 1.0);
    assert_eq!(shown.sample_count(), 3);
    let lowered = shown.positive();
    assert_eq!(lowered.len(), 3, "beyond the window it is resolved less: {shown:?}");
    assert!(shown.schema() < 2 && lowered.iter().all(|(_, count)| *count == 1.0), "{shown:?}");
    let values: Vec<f64> = shown.exemplars.iter().map(|e| e.value()).collect();
    assert_eq!(values, [1e9, 1_000.0, 6.0], "the newest first");

    let open_metrics = promring::aggregator::scrape("application/openmetrics-text");
    let text = String::from_utf8(open_metrics.body).unwrap();
    let wanted = "bytes_bucket{le=\"+Inf\"} 3 # {trace_id=\"a\"} 1000000000 1000000000\n\
                  bytes_sum 1000001006\nbytes_count 3\n";
    assert!(text.contains(wanted), "{text}");
}

fn names_choose_them_by_configuration() {
    let scratch = Scratch::new("native-configured");
    scratch.configure_with(&[("native_histograms", "http_*=3,db=5:only")]);
    let observed = |name: &str| {
        let family: &'static Family = client::family(&histogram(name, &[1.0], None)).unwrap();
        family.series(&[]).unwrap().observe(1.1);
        let shown = message(name);
        (shown.schema, shown.bucket.len())
    };
    assert_eq!(observed("http_seconds"), (Some(3), 1));
    assert_eq!(observed("db"), (Some(5), 0));
    assert_eq!(sample(&page(), "db_bucket{le=\"1.0\"}"), Some(0.0), "text has no others");
    assert_eq!(observed("other"), (None, 1));
}

fn whoever_registers_first_decides() {
    let scratch = Scratch::new("native-first");
    scratch.configure();
    client::attach(); // or the segment would be abandoned when the other has ended
    let with = |native| client::family(&histogram("took", &[1.0], native));
    // A process that is configured otherwise: of a deploy before, say.
    assert!(fork(|| assert!(with(Some(Native::new(3)))
        .unwrap()
        .series(&[])
        .unwrap()
        .observe(0.7)))
    .join());
    let family = with(None).unwrap();
    family.series(&[]).unwrap().observe(0.7);
    assert_eq!(family.spec().native, Some(Native::new(3)));
    assert_eq!(message("took").positive(), [(bucket(0.7), 2.0)]);
    let other = client::family(&histogram("took", &[2.0], None));
    assert_eq!(other.err().expect("other classic buckets").code(), "family_conflict");
    let bad = client::family(&histogram("bad", &[1.0], Some(Native::new(12))));
    let error = bad.err().expect("no such schema");
    assert_eq!(error.code(), "buckets");
    assert!(error.to_string().contains("a schema that is not from -4 to 8"), "{error}");
}
