//! NaN, infinities, negative amounts and wrong types never reach a total: refused, and counted by reason.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;

use forks::Scratch;
use metrics::{counter, page, sample, spec};
use promring::client::{self, FamilySpec, MetricType};

const NOT_NUMBERS: [f64; 3] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];

#[test]
fn what_would_poison_a_total_is_refused_and_counted() {
    let scratch = Scratch::new("refused");
    scratch.configure();
    let visits = counter("visits_total", "").series(&[]).unwrap();
    let histogram =
        FamilySpec { buckets: vec![1.0, 2.0], ..spec("sizes", MetricType::Histogram, "") };
    let sizes = client::family(&histogram).unwrap().series(&[]).unwrap();
    let times = client::family(&spec("times", MetricType::Summary, "")).unwrap();
    let times = times.series(&[]).unwrap();
    for value in NOT_NUMBERS {
        assert!(!visits.inc(value) && !sizes.observe(value) && !times.observe(value));
    }
    assert!(!visits.inc(-1.0) && !visits.inc(-f64::MIN_POSITIVE));
    for weight in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert!(!times.observe_weighted(1.0, weight));
    }
    assert!(!visits.observe(1.0) && !sizes.inc(1.0) && !visits.set(1.0) && !sizes.add(1.0));
    // What is legal, to its limits.
    assert!(visits.inc(0.0) && visits.inc(2.5) && sizes.observe(-3.0) && sizes.observe(f64::MAX));
    assert!(
        times.observe_weighted(4.0, 10.0) && times.observe(f64::MIN) && times.observe(f64::MAX)
    );

    let page = page();
    let reason = |name| {
        let line = format!("promring_refused_values_total{{reason=\"{name}\"}}");
        sample(&page, &line).expect("a reason")
    };
    // Negative infinity is not finite in the first place; a weight that is none is no finite number.
    assert_eq!(reason("not_finite"), 9.0 + 4.0);
    assert_eq!(reason("negative"), 2.0);
    assert_eq!(reason("wrong_type"), 4.0);
    assert_eq!(sample(&page, "visits_total"), Some(2.5));
    assert_eq!(sample(&page, "sizes_count"), Some(2.0));
    assert_eq!(sample(&page, "times_count"), Some(12.0));
    assert!(!page.contains("NaN") && !page.contains("Inf "), "{page}");
}
