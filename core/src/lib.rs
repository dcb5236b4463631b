//! Exact, cheap Prometheus metrics for pre-fork servers.
#![deny(unsafe_code)]

#[cfg(not(loom))]
pub mod cli;
#[cfg(not(loom))]
pub mod client;
#[cfg(not(loom))]
pub mod config;
#[cfg(not(loom))]
mod drain;
#[cfg(not(loom))]
pub mod error;
#[cfg(not(loom))]
pub mod exposition;
#[cfg(not(loom))]
pub mod http;
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

/// What the model checker needs to see of the ring; exists under `--cfg loom` only.
#[cfg(loom)]
#[allow(missing_docs)]
pub mod model {
    use crate::layout::Slot;
    use crate::ring::{self, Event};
    use crate::sync::AtomicU64;

    pub const RING_SLOTS: usize = crate::layout::RING_SLOTS;

    pub struct Ring([Slot; RING_SLOTS]);

    pub fn new_ring() -> Ring {
        Ring(std::array::from_fn(|_| Slot { value: AtomicU64::new(0), meta: AtomicU64::new(0) }))
    }
    pub fn put(ring: &Ring, position: u64, id: u32, value: f64) {
        ring::put(&ring.0, position, Event { id, weight: 1.0, value });
    }
    pub fn peek(ring: &Ring, position: u64) -> Option<(u32, f64)> {
        ring::peek(&ring.0, position).map(|event| (event.id, event.value))
    }
    pub fn find_tail(ring: &Ring, head: u64) -> u64 {
        ring::find_tail(&ring.0, head)
    }
}
