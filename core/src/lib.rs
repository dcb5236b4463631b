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
// A model runs a part of what the library does.
#![cfg_attr(loom, allow(dead_code, unused_imports, missing_docs))]

#[cfg(not(loom))]
pub mod aggregator;
#[cfg(not(loom))]
pub mod cli;
#[cfg(not(loom))]
pub mod client;
#[cfg(all(feature = "prometheus-client", not(loom)))]
pub mod collector;
#[cfg(not(loom))]
pub mod config;
mod drain;
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
#[cfg(loom)]
#[doc(hidden)]
pub mod model;
mod native;
#[cfg_attr(loom, path = "model/os.rs")]
mod os;
#[cfg(not(loom))]
mod process;
#[cfg_attr(loom, path = "model/producer.rs")]
mod producer;
#[cfg(all(feature = "proof", not(loom)))]
#[doc(hidden)]
pub mod proof;
mod registry;
mod ring;
#[cfg_attr(loom, path = "model/segment.rs")]
mod segment;
mod sets;
#[cfg(not(loom))]
pub mod snapshot;
mod sync;
mod totals;
mod window;
mod worker;

/// The version of promring: crate, gem and wheel carry the same.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
