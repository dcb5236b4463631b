//! Pages as an app has them: by the number of their lines.

use promring::snapshot::{Catalog, CatalogFamily, CatalogSeries, MetricType, Snapshot};

/// As an app has it: counters by path, method and status, durations in 11 buckets, some gauges. Two,
/// which differ in every value.
pub fn snapshots(lines: usize) -> [Snapshot; 2] {
    let series = |n: usize, labels: usize| -> Vec<CatalogSeries> {
        let values = |i: usize| {
            let method = ["GET", "POST", "PUT", "DELETE"][i % 4];
            let path = format!("/api/v1/resource-{}/items", i / 20);
            let code = ["200", "201", "302", "404", "500"][i / 4 % 5];
            [path.as_str(), method, code][..labels].iter().map(ToString::to_string).collect()
        };
        let one = |i| CatalogSeries {
            extra_label: None,
            label_values: values(i),
            created_seconds: 1_764_000_000.0 + i as f64 / 1_000.0,
        };
        (0..n).map(one).collect()
    };
    let family = |name: &str, metric_type, labels: usize, n, buckets: &[f64]| CatalogFamily {
        name: name.into(),
        help: format!("What {name} is."),
        unit: String::new(),
        metric_type,
        label_names: ["path", "method", "code"][..labels].iter().map(ToString::to_string).collect(),
        buckets: buckets.to_vec(),
        native: None,
        info: false,
        series: series(n, labels),
    };
    let bounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
    // Paths alone repeat: a histogram has one series for each method and path.
    let families = vec![
        family("http_server_requests_total", MetricType::Counter, 3, lines / 2, &[]),
        family(
            "http_server_duration_seconds",
            MetricType::Histogram,
            3,
            lines * 2 / 5 / 14,
            &bounds,
        ),
        family("queue_depth", MetricType::Gauge, 3, lines / 10, &[]),
    ];
    let catalog = std::sync::Arc::new(Catalog { version: 1, families });
    [1u64, 2].map(|seed| Snapshot {
        catalog: std::sync::Arc::clone(&catalog),
        numbers: numbers(&catalog, seed),
        per_worker: Vec::new(),
        exemplars: Vec::new(),
        natives: Vec::new(),
        peeked: false,
    })
}

fn numbers(catalog: &Catalog, seed: u64) -> Vec<[f64; 2]> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut all = Vec::new();
    for family in &catalog.families {
        for _ in 0..family.series.len() * (family.buckets.len() + 1) {
            let size = 1 << (random() % 18); // few are large
            let count = (random() % size) as f64;
            all.push(match family.metric_type {
                MetricType::Histogram => [count, count * 0.123],
                _ => [count, 1.0],
            });
        }
    }
    all
}
