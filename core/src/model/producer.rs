//! Stands for `producer` in a model: a push with the shipped `ring::put`, at a position that is a number.
//!
//! The shipped module is addresses in a page of zero bytes that the kernel wipes in forked children; zero bytes are no
//! value of an atomic of loom's.

use crate::layout::{PlaceHeader, Slot, RING_SLOTS};
use crate::ring;
use crate::sync::private::AtomicU64;
use crate::sync::Ordering;

/// Position of the next event and the one where the run ends: one process's own words, which no model has a part in.
pub(crate) struct Producer {
    header: &'static PlaceHeader,
    slots: &'static [Slot; RING_SLOTS],
    claimed: u64,
    next: AtomicU64,
    end: AtomicU64,
}

#[derive(Clone, Copy)]
pub(crate) enum Memory {
    KeptInForks,
}

impl Producer {
    pub(crate) fn of(
        header: &'static PlaceHeader,
        slots: &'static [Slot; RING_SLOTS],
        claimed: u64,
        tail: u64,
        _: Memory,
    ) -> &'static Producer {
        let (next, end) = (AtomicU64::new(tail), AtomicU64::new(tail));
        Box::leak(Box::new(Producer { header, slots, claimed, next, end }))
    }

    pub(crate) fn push(&self, packed: u64, value: u64) -> bool {
        let next = self.tail();
        if next >= self.end.load(Ordering::Relaxed)
            || self.header.state.load(Ordering::Relaxed) != self.claimed
        {
            return false;
        }
        ring::put(ring::slot_of(self.slots, next), ring::parity(next), packed, value);
        self.next.store(next + 1, Ordering::Relaxed);
        true
    }

    pub(crate) fn tail(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    pub(crate) fn run(&self, tail: u64, room: u64) {
        self.next.store(tail, Ordering::Relaxed);
        self.end.store((tail + room).min(ring::next_lap(tail)), Ordering::Relaxed);
    }
}
