//! Registry, totals and gauge cells copied out as plain data for one exposition.

use std::sync::Arc;

/// What a metric family is, as Prometheus defines it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum MetricType {
    /// Only ever grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations counted in buckets, with their sum.
    Histogram,
    /// Count and sum of observations.
    Summary,
}

impl MetricType {
    /// The word of the text format.
    pub fn as_str(self) -> &'static str {
        match self {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
            MetricType::Summary => "summary",
        }
    }
}

/// The families and series that are to be exposed, without their values.
///
/// Shared between scrapes: the same `Arc` comes back as long as nothing was registered or removed,
/// so whatever is derived from it (the cached line prefixes) can be kept beside its `version`.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Differs whenever anything else in here does.
    pub version: u64,
    /// In order of registration; self-metrics last.
    pub families: Vec<CatalogFamily>,
}

/// One metric family.
#[derive(Debug)]
pub struct CatalogFamily {
    /// As registered, any UTF-8.
    pub name: String,
    /// Help text, may be empty.
    pub help: String,
    /// Unit, may be empty.
    pub unit: String,
    /// Its type.
    pub metric_type: MetricType,
    /// Label names in the order of the series' values.
    pub label_names: Vec<String>,
    /// Finite upper bounds, ascending; empty unless a histogram. `+Inf` is implied.
    pub buckets: Vec<f64>,
    /// Its series in order of registration.
    pub series: Vec<CatalogSeries>,
}

/// One label set of a family.
#[derive(Debug)]
pub struct CatalogSeries {
    /// Label pairs beyond the family's own, put last: the overflow mark.
    pub extra_label: Option<(&'static str, String)>,
    /// One value per label name; empty for the overflow series.
    pub label_values: Vec<String>,
    /// Creation time, seconds since the Unix epoch.
    pub created_seconds: f64,
}

/// Values for one exposition.
///
/// `numbers` follows the catalog: for each family, for each series, in order:
/// counter `[value, 0]`; summary `[count, sum]`; histogram one `[count, sum]` per bucket,
/// **not** cumulative, `+Inf` last; gauge `[value, 1]`, or `[0, 0]` when the series has no merged
/// value (nothing set yet, or a per-worker mode whose samples stand in `per_worker`).
#[derive(Debug)]
pub struct Snapshot {
    /// What the numbers belong to.
    pub catalog: Arc<Catalog>,
    /// See above.
    pub numbers: Vec<[f64; 2]>,
    /// Samples of the gauge modes `all` and `liveall`, ordered by family and series.
    pub per_worker: Vec<WorkerSample>,
    /// True when another process held the drain lock all the time and the rings were only looked at.
    pub peeked: bool,
}

/// One worker's value of one gauge series.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerSample {
    /// Index into `catalog.families`.
    pub family: u32,
    /// Index into that family's `series`.
    pub series: u32,
    /// Name of the additional label, `pid` or `worker`.
    pub label_name: &'static str,
    /// Its value.
    pub label_value: String,
    /// The gauge's value in that worker.
    pub value: f64,
}
