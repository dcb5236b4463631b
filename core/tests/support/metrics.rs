//! Families by one line each, and samples of the page this process would show.
#![allow(dead_code)] // not every test file uses every helper

use promring::client::{self, Family, FamilySpec, GaugeMode, MetricType};

/// A family without buckets; `label_names` in one word, separated by blanks.
pub fn spec(name: &str, metric_type: MetricType, label_names: &str) -> FamilySpec {
    FamilySpec {
        name: name.into(),
        help: "Help.".into(),
        unit: String::new(),
        metric_type,
        gauge_mode: GaugeMode::All,
        label_names: label_names.split_whitespace().map(String::from).collect(),
        buckets: Vec::new(),
        native: None,
    }
}

/// A counter family of the attached segment.
pub fn counter(name: &str, label_names: &str) -> &'static Family {
    client::family(&spec(name, MetricType::Counter, label_names)).expect("a counter")
}

/// A gauge family of that mode, named after it.
pub fn gauge(mode: GaugeMode) -> &'static Family {
    let name = format!("level_{}", mode.as_str());
    let spec = FamilySpec { gauge_mode: mode, ..spec(&name, MetricType::Gauge, "") };
    client::family(&spec).expect("a gauge")
}

/// The page as text.
pub fn page() -> String {
    String::from_utf8(promring::aggregator::scrape("").body).expect("UTF-8")
}

/// The value of the sample with that name and labels.
pub fn sample(page: &str, name: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// The sum over all samples of a family.
pub fn sum(page: &str, name: &str) -> f64 {
    let value = |line: &str| {
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?;
        rest.rsplit(' ').next()?.parse::<f64>().ok()
    };
    page.lines().filter_map(value).sum()
}
