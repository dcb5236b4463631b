//! Series in which nothing is counted any more: found by what stands in their cells, removed after `series_ttl`.
//!
//! No event carries a time, so an increment costs nothing more for this. Whoever keeps the page – the aggregator, or
//! a process that answers scrapes where there is none – looks now and then at what every series has counted. Two
//! looks that find the same prove that nothing was counted in between, so several processes may look without
//! knowing of each other, and a new one only finds out later. `drain::Drainer::expire` does the removal: an
//! event that comes meanwhile either keeps its series, or is the first one of the series' next life.
//!
//! Gauges are state, not events, and stay until they are removed. So do series without labels, which their metric
//! has from the start, and those that were ever counted past a full ring: their counts could not be told apart.

use std::time::Duration;

use crate::drain::Drainer;
use crate::registry;
use crate::segment::Segment;

/// What one process knows of the series' idleness.
pub(crate) struct Idle {
    /// Ids are those of this segment.
    segment: Option<&'static Segment>,
    /// Monotonic time of the next look.
    next_ns: u64,
    /// By series id.
    seen: Vec<Seen>,
}

/// What a look has found, and since when looks have found the same.
#[derive(Clone, Copy, Default)]
struct Seen {
    counted: u64,
    generation: u32,
    since_ns: u64,
}

impl Idle {
    pub(crate) const fn new() -> Idle {
        Idle { segment: None, next_ns: 0, seen: Vec::new() }
    }

    /// Is it time for another look? They come eight times as often as the series' time is long.
    pub(crate) fn is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.next_ns
    }

    /// Looks at every series, and removes those that have been idle for so long; the lock is held. Returns how many.
    pub(crate) fn look(
        &mut self,
        segment: &'static Segment,
        drainer: &mut Drainer,
        ttl: Duration,
        now_ns: u64,
    ) -> usize {
        if self.segment.is_none_or(|known| !std::ptr::eq(known, segment)) {
            *self = Idle { segment: Some(segment), ..Idle::new() };
        }
        let ttl_ns = ttl.as_nanos() as u64;
        self.next_ns = now_ns + ttl_ns / 8;
        drainer.drain_all();
        let n_series = registry::n_series(segment);
        self.seen.resize(n_series as usize, Seen::default());
        let mut idle = Vec::new();
        for (id, seen) in (0..n_series).zip(&mut self.seen).skip(1) {
            registry::resume(segment, id); // suspended by somebody who died
            let Some(counts) = drainer.counts(id) else { continue };
            if registry::is_removed(segment, id) && !counts.are_none() {
                registry::revive(segment, id); // counted while it was being removed: its next life has begun
            }
            let Some(generation) = registry::can_idle(segment, id) else { continue };
            if counts.past_ring || (seen.counted, seen.generation) != (counts.hash, generation) {
                *seen = Seen { counted: counts.hash, generation, since_ns: now_ns };
            } else if now_ns - seen.since_ns >= ttl_ns {
                idle.push((id, counts));
            }
        }
        drainer.expire(&idle)
    }
}
