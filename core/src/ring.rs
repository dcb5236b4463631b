//! The single-producer ring of 16-byte slots: push, take, find the tail. No unsafe, no system calls.
//!
//! Positions grow for ever; `position & mask` is the slot, and the *lap* `position / slots` decides
//! the parity bit a fresh slot carries: 1 in lap 0, 0 in lap 1, and so on. A zeroed ring therefore
//! holds no fresh slot, a push touches one cache line, and nobody needs a shared tail: whoever reads
//! walks from the head while the parity fits.
//!
//! ```text
//! push(position, event):                       take(position):
//!     slot.value <- value      relaxed             meta  <- slot.meta     acquire   (partner: push)
//!     slot.meta  <- meta       release             stale parity: nothing there
//!     THE PUBLICATION POINT                        value <- slot.value    relaxed
//! ```
//! A producer killed before the publication point has not returned from its call, and its half
//! written slot is overwritten by the next owner of the ring. Two producers in one ring would lose
//! events: that there is one is the caller's promise (the interpreter's global lock keeps it).

use crate::layout::{Slot, ID_MASK, PARITY_BIT, RING_SLOTS, WEIGHT_SHIFT};
use crate::sync::Ordering;

const MASK: u64 = RING_SLOTS as u64 - 1;

/// What one call of the app left behind, unpacked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Event {
    /// Which series, 31 bits.
    pub of: Of,
    /// How often the observation counts (1/rate of a sampled StatsD call), else 1.
    pub weight: f32,
    /// Amount or observation.
    pub value: f64,
}

/// How an event names its series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Of {
    /// By its id.
    Series(u32),
    /// By its cell: a whole amount of a counter.
    Counter(u32),
}

/// In the place of a weight, and of no weight's bits: a whole amount of a counter, the commonest event. It names
/// the counter's cell and its value is an integer, so that whoever drains it has nothing to look up and nothing
/// to convert. Where it is pushed the cell is known, and the amount, mostly, when the program is compiled.
const WHOLE: u64 = 0xffff_ffff;

/// Series id and weight as a slot's `meta` has them, without the parity; the slot's value is an f64's bits.
#[inline]
pub(crate) fn pack(id: u32, weight: f32) -> u64 {
    (u64::from(id) & ID_MASK) | (u64::from(weight.to_bits()) << WEIGHT_SHIFT)
}

/// The same of a whole amount of the counter with this cell; the slot's value is the amount.
#[inline]
pub(crate) fn pack_whole(cell: u32) -> u64 {
    (u64::from(cell) & ID_MASK) | (WHOLE << WEIGHT_SHIFT)
}

/// Did [`pack_whole`] make it?
#[inline]
pub(crate) fn is_whole(packed: u64) -> bool {
    packed >> WEIGHT_SHIFT == WHOLE
}

/// Did [`pack`] make it, with weight 1?
#[inline]
pub(crate) fn weighs_one(packed: u64) -> bool {
    packed >> WEIGHT_SHIFT == u64::from(1f32.to_bits())
}

impl Event {
    /// What [`pack`] or [`pack_whole`] made, and the value; the parity is left out.
    #[inline]
    pub(crate) fn unpack(meta: u64, value: u64) -> Event {
        let of = (meta & ID_MASK) as u32;
        match meta >> WEIGHT_SHIFT {
            WHOLE => Event { of: Of::Counter(of), weight: 1.0, value: value as f64 },
            weight => {
                let (weight, value) = (f32::from_bits(weight as u32), f64::from_bits(value));
                Event { of: Of::Series(of), weight, value }
            }
        }
    }
}

/// The parity bit that slots of this position's lap carry.
#[inline]
pub(crate) fn parity(position: u64) -> u64 {
    if (position / RING_SLOTS as u64) & 1 == 0 {
        PARITY_BIT
    } else {
        0
    }
}

/// The first position of the next lap.
pub(crate) fn next_lap(position: u64) -> u64 {
    (position | MASK).wrapping_add(1)
}

/// Writes an event into the slot of its position: what [`pack`] or [`pack_whole`] made, the value that goes with
/// it, and the [`parity`] of the position. The slot must have been taken (see the head) a lap ago.
#[inline]
pub(crate) fn put(slot: &Slot, of_lap: u64, packed: u64, value: u64) {
    slot.value.store(value, Ordering::Relaxed); // ordered by the store below
    slot.meta.store(packed | of_lap, Ordering::Release); // partner: the acquire load in `peek`
}

/// The slot of a position.
#[inline]
pub(crate) fn slot_of(slots: &[Slot; RING_SLOTS], position: u64) -> &Slot {
    &slots[(position & MASK) as usize]
}

/// The event of `position`, if it has been pushed.
#[inline]
pub(crate) fn peek(slots: &[Slot; RING_SLOTS], position: u64) -> Option<Event> {
    let slot = slot_of(slots, position);
    let meta = slot.meta.load(Ordering::Acquire); // partner: the release store in `put`
    if meta & PARITY_BIT != parity(position) {
        return None;
    }
    let value = slot.value.load(Ordering::Relaxed); // ordered by the load above
    Some(Event::unpack(meta, value))
}

/// Where the next event goes, for a new owner who knows only the head: the first stale slot.
pub(crate) fn find_tail(slots: &[Slot; RING_SLOTS], head: u64) -> u64 {
    let mut tail = head;
    while tail.wrapping_sub(head) < RING_SLOTS as u64 && peek(slots, tail).is_some() {
        tail = tail.wrapping_add(1);
    }
    tail
}
