//! Exact, cheap Prometheus metrics for pre-fork servers.
#![deny(unsafe_code)]

#[cfg(not(loom))]
pub mod client;
#[cfg(not(loom))]
pub mod config;
#[cfg(not(loom))]
mod drain;
#[cfg(not(loom))]
pub mod error;
mod layout;
#[cfg(not(loom))]
mod os;
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
mod worker;

#[cfg(not(loom))]
pub mod aggregator;

/// The version of promring: crate, gem and wheel carry the same.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
