//! A Rust program that counts and answers its own /metrics: `cargo run --example serve -- 127.0.0.1:9394`.

use promring::aggregator;
use promring::client::{self, FamilySpec, GaugeMode, MetricType, Native};

fn spec(name: &str, unit: &str, metric_type: MetricType, labels: &[&str]) -> FamilySpec {
    let buckets = match metric_type {
        MetricType::Histogram => vec![0.00005, 0.005, 0.1, 1.0, 2.5, 1_000_000.0],
        _ => Vec::new(),
    };
    FamilySpec {
        name: name.into(),
        help: format!("What is called \"{name}\"."),
        unit: unit.into(),
        metric_type,
        gauge_mode: GaugeMode::MostRecent,
        label_names: labels.iter().map(ToString::to_string).collect(),
        buckets,
        native: None,
    }
}

fn main() -> Result<(), promring::error::Error> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9394".into());

    let orders = client::family(&spec("orders_total", "", MetricType::Counter, &["kind", "note"]))?;
    orders.series(&["book", "plain"])?.inc(3.0);
    orders.series(&["café", "a \"quoted\" \\ and\na second line"])?.inc(0.1);
    orders.series(&["large", ""])?.inc(1e22);
    // A counter by a name that OpenMetrics knows no counter by, and names that need quotes.
    client::family(&spec("visits", "", MetricType::Counter, &[]))?.series(&[])?.inc(7.0);
    let dotted = spec("queue.depth", "", MetricType::Gauge, &["queue.name"]);
    client::family(&dotted)?.series(&["mail"])?.set(-12.5);
    client::family(&spec("never", "", MetricType::Gauge, &[]))?.series(&[])?.set(f64::NAN);
    client::family(&spec("endless", "", MetricType::Gauge, &[]))?.series(&[])?.set(f64::INFINITY);

    let took = client::family(&spec("took_seconds", "seconds", MetricType::Histogram, &["path"]))?;
    for value in [0.00001, 0.05, 0.05, 0.7, 3.0] {
        took.series(&["/"])?.observe(value);
    }
    let sizes = client::family(&spec("size_bytes", "bytes", MetricType::Summary, &["path"]))?;
    for value in [100.0, 200.5] {
        sizes.series(&["/"])?.observe(value);
    }
    // Quantiles of what was observed, and of nothing.
    let spans = spec("spans_seconds", "seconds", MetricType::Summary, &["path"]);
    let quantiles = vec![0.5, 0.99];
    let spans = FamilySpec { buckets: quantiles, native: Some(Native::new(3)), ..spans };
    let spans = client::family(&spans)?;
    for n in 1..=100 {
        spans.series(&["/"])?.observe(f64::from(n) / 100.0);
    }
    spans.series(&["/none"])?;
    // How many different values came, and of nothing.
    let users = spec("users", "", MetricType::Gauge, &["plan"]);
    let users = client::family(&FamilySpec { gauge_mode: GaugeMode::Unique, ..users })?;
    for user in ["ada", "bob", "ada"] {
        users.series(&["free"])?.add_to_set(user.as_bytes());
    }
    users.series(&["paid"])?;
    // Exponential buckets beside classic ones, and alone; what led to an observation.
    let wait = spec("native_seconds", "seconds", MetricType::Histogram, &[]);
    let wait = FamilySpec { native: Some(Native::new(3)), ..wait };
    let alone = Native::new(2).within(1.0, 1e9);
    let (buckets, native) = (Vec::new(), Some(alone));
    let alone = spec("native_bytes", "bytes", MetricType::Histogram, &[]);
    let alone = FamilySpec { buckets, native, ..alone };
    let (wait, alone) = (client::family(&wait)?.series(&[])?, client::family(&alone)?.series(&[])?);
    for n in 1..=1_000 {
        wait.observe(f64::from(n) / 100.0);
        alone.observe(f64::from(n) * 100.0);
    }
    let trace = [("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736"), ("span_id", "00f067aa0ba902b7")];
    took.series(&["/"])?.observe_with_exemplar(0.7, &trace, None)?;
    orders.series(&["book", "plain"])?.inc_with_exemplar(2.0, &trace, None)?;
    alone.observe_with_exemplar(100.0, &trace, None)?;
    aggregator::serve(&address)
}
