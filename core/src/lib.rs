//! Exact, cheap Prometheus metrics for pre-fork servers.
#![deny(unsafe_code)]

pub mod error;
pub mod snapshot;

/// The version of promring: crate, gem and wheel carry the same.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
