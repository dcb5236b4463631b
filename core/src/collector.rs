//! promring's families in a registry of the crate [`prometheus_client`]; feature `prometheus-client`.
//!
//! For Rust programs that have such a registry, and for libraries that take one: what promring counts, in all
//! processes of the app, stands on its page beside what the program counts by itself. Each encoding of the
//! registry drains and reads like any other scrape.
//!
//! ```
//! use prometheus_client::{encoding::text, metrics::gauge::Gauge, registry::Registry};
//! use promring::client::{self, FamilySpec, GaugeMode, MetricType};
//! use promring::collector::Collector;
//! # let directory = std::env::temp_dir().join(format!("promring-doc-registry-{}", std::process::id()));
//! # let mut config = promring::config::Config::default();
//! # config.segment = Some(directory.join("segment"));
//! # client::configure(config);
//!
//! let mut registry = Registry::default();
//! let threads: Gauge = Gauge::default(); // of this process alone
//! registry.register("threads", "Threads of the pool", threads.clone());
//! registry.register_collector(Box::new(Collector::new())); // of all processes of the app
//!
//! threads.set(4);
//! let jobs = client::family(&FamilySpec {
//!     name: "jobs_total".into(),
//!     help: "Jobs done.".into(),
//!     unit: String::new(),
//!     metric_type: MetricType::Counter,
//!     gauge_mode: GaugeMode::All,
//!     label_names: vec!["queue".into()],
//!     buckets: vec![],
//!     native: None,
//! })?;
//! jobs.series(&["mail"])?.inc(1.0);
//!
//! let mut page = String::new();
//! text::encode(&mut page, &registry)?;
//! assert!(page.contains("threads 4\n"));
//! assert!(page.contains("jobs_total{queue=\"mail\"} 1.0\n"));
//! # std::fs::remove_dir_all(directory)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Samples are called as on promring's own pages, and have the same values. What the crate has no place for
//! is told in another way or not at all:
//!
//! * **Counters** whose name does not end with `_total`: the crate would append it. They go out as gauges, by
//!   their own names, and `rate()` takes them as before.
//! * **Summaries**: the gauges `x_sum` and `x_count`, and `x` for quantiles.
//! * **Names and labels** beyond `[a-zA-Z_:][a-zA-Z0-9_:]*`: the crate does not quote them, so they are escaped,
//!   scheme `underscores`.
//! * **Help texts** with quotes, backslashes or line feeds: the crate writes them as they are, which would break
//!   the page, so they come escaped; in its protobuf the escapes are seen.
//! * **Counts** of sampled observations have fractions; the crate's are whole, so they are rounded.
//! * **Exemplars** of counters are passed on. Those of buckets cannot be: the crate makes them itself.
//! * **Creation times** are passed on with exponential buckets, in protobuf; the crate has them nowhere else.
//! * **Compression, negotiation** and the rest of [`crate::aggregator::scrape`] are the program's affair, and so
//!   are two families of one name, promring's and the program's.
//!
//! The price is the crate's: some 130 ns a line, where [`crate::exposition::Renderer`] takes 10.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;

use crate::aggregator;
use crate::exposition;

/// All that the app's `/metrics` shows, as a collector for [`prometheus_client::registry::Registry`].
///
/// It holds nothing: the page is read when it is encoded, from the segment that this process is attached to
/// (`client::attach`; an encoding attaches, too). So it may be registered before or after a fork,
/// and in any process of the app.
///
/// Registered below a prefix or with labels ([`sub_registry_with_prefix`], [`with_labels`]) the families carry
/// them like any other metric.
///
/// [`sub_registry_with_prefix`]: prometheus_client::registry::Registry::sub_registry_with_prefix
/// [`with_labels`]: prometheus_client::registry::Registry::with_labels
#[derive(Debug, Clone, Copy, Default)]
pub struct Collector(());

impl Collector {
    /// One for [`register_collector`](prometheus_client::registry::Registry::register_collector).
    pub fn new() -> Collector {
        Collector::default()
    }
}

impl prometheus_client::collector::Collector for Collector {
    /// # Errors
    /// Those of the encoder alone; reading the segment has none.
    fn encode(&self, encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        aggregator::with_snapshot(true, |snapshot, _| {
            exposition::encode_into_registry(snapshot, encoder)
        })
    }
}
