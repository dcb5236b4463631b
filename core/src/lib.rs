//! Exact, cheap Prometheus metrics for pre-fork servers: many processes count, one `/metrics` answers.
//!
//! ```text
//! app call -> binding -> client -+-> registry                  once per label set: a dense id
//!                                +-> worker -+-> ring -------------+     many processes
//!                                            +-> gauge cells --+   |
//! ---------------------- segment (layout) ---------------------+---+--------------------------
//!                                                              | drain     one holder of the lock at a time
//!                                                              | totals
//!                                                              +---+-> snapshot -> exposition -> http     any process
//! ```
//!
//! **Promised:** an increment whose call has returned survives SIGKILL of anything and is counted once;
//! no call blocks; the cost of a scrape does not grow with the number of workers; a full disk, a hostile
//! label or a scraper neither crash nor poison the app.
//!
//! **Not promised:** that anything outlives the machine, that an increment whose call had *not* returned
//! when its process was killed is counted or not, or protection from a malicious process of the same user.
//!
//! ```
//! use promring::client::{self, FamilySpec, GaugeMode, MetricType};
//! # let directory = std::env::temp_dir().join(format!("promring-doc-{}", std::process::id()));
//! # let mut config = promring::config::Config::default();
//! # config.segment = Some(directory.join("segment"));
//! # client::configure(config);
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
//! jobs.series(&["mail"])?.inc(1.0); // in any process, forked before or after
//! let page = promring::aggregator::scrape("");
//! assert!(String::from_utf8_lossy(&page.body).contains("jobs_total{queue=\"mail\"} 1\n"));
//! # std::fs::remove_dir_all(directory).unwrap();
//! # Ok::<(), promring::error::Error>(())
//! ```
//!
//! A program with a registry of the crate prometheus-client registers all of this there: module `collector`,
//! of the feature `prometheus-client`.
//!
//! To read on, in this order: [`client`], then the modules that `core/docs/architecture.md` lists.
#![deny(unsafe_code)]

#[cfg(not(loom))]
pub mod cli;
#[cfg(not(loom))]
pub mod client;
#[cfg(all(feature = "prometheus-client", not(loom)))]
pub mod collector;
#[cfg(not(loom))]
pub mod config;
#[cfg(not(loom))]
mod drain;
#[cfg(not(loom))]
pub mod error;
#[cfg(not(loom))]
mod exemplar;
#[cfg(not(loom))]
mod expiry;
#[cfg(not(loom))]
pub mod exposition;
#[cfg(not(loom))]
pub mod http;
mod layout;
#[cfg(not(loom))]
mod native;
#[cfg(not(loom))]
mod os;
#[cfg(not(loom))]
mod process;
#[cfg(not(loom))]
mod producer;
#[cfg(not(loom))]
mod registry;
mod ring;
#[cfg(not(loom))]
mod segment;
#[cfg(not(loom))]
pub mod snapshot;
mod sync;
#[cfg(not(loom))]
mod totals;
#[cfg(not(loom))]
mod window;
#[cfg(not(loom))]
mod worker;

#[cfg(not(loom))]
pub mod aggregator;

#[cfg(all(feature = "proof", not(loom)))]
#[doc(hidden)]
pub mod proof;

/// The version of promring: crate, gem and wheel carry the same.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the model checker needs to see of the ring; exists under `--cfg loom` only.
#[cfg(loom)]
#[allow(missing_docs)]
pub mod model {
    use crate::layout::Slot;
    use crate::ring;
    use crate::sync::AtomicU64;

    pub const RING_SLOTS: usize = crate::layout::RING_SLOTS;

    pub struct Ring([Slot; RING_SLOTS]);

    pub fn new_ring() -> Ring {
        Ring(std::array::from_fn(|_| Slot { value: AtomicU64::new(0), meta: AtomicU64::new(0) }))
    }
    pub fn put(ring: &Ring, position: u64, id: u32, value: f64) {
        let slot = ring::slot_of(&ring.0, position);
        ring::put(slot, ring::parity(position), ring::pack(id, 1.0), value);
    }
    pub fn peek(ring: &Ring, position: u64) -> Option<(u32, f64)> {
        ring::peek(&ring.0, position).map(|event| (event.id, event.value))
    }
    pub fn find_tail(ring: &Ring, head: u64) -> u64 {
        ring::find_tail(&ring.0, head)
    }
}
