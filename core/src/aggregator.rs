//! scrape() for any process, and the aggregator's role under a lock: drain, listen, self-metrics.
//!
//! By default the server's master starts the aggregator as a small child process of its own: no
//! thread in the master, none of the server's sockets held, nothing that could stall it. A second one
//! (of a master that is being upgraded) stands by until the role's lock byte is free. When the
//! aggregator is killed, a worker that notices – it looks once per request and whenever it drains –
//! starts another one, detached, which watches the same master.

use std::sync::{Mutex, PoisonError};

use crate::client;
use crate::config::Listen;
use crate::error::Error;
use crate::os::{self, Forked};
use crate::segment::{Carrier, Segment, LOCK_ROLE};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// What a scrape answers.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its bytes.
    pub body: Vec<u8>,
}

/// What [`start`] did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Start {
    /// A child process holds the role, or stands by for it.
    Started {
        /// Its pid.
        pid: u32,
    },
    /// This process had started one already.
    AlreadyStarted {
        /// Its pid.
        pid: u32,
    },
    /// There is nothing to start: listening is off, or the segment is this process's alone.
    Off,
}

/// How often the aggregator drains and looks whether its master lives.
const ROUND_MS: u64 = 250;
/// An aggregator that has not made a round for so long may be gone.
const SILENT_NS: u64 = 4 * ROUND_MS * 1_000_000;

pub(crate) fn look_after() {}
