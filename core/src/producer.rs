//! The producer's end of a worker's ring: what a push touches, one cache line that one process writes.
//!
//! A push is to cost less than an atomic addition, so it computes nothing that can be known before: the next slot
//! is an address, and the run of slots that may be filled without another look ends at another one. Two
//! such words are enough to be memory-safe whoever pushes at the same time: all ends that are ever stored lie
//! in the one ring that a `Producer` is for, all slots from its start on, and a push writes below an end only.
//!
//! Zero bytes are nobody's: no slot is below a null end, so a push goes the slow way. That is what a forked
//! child finds in a page that the kernel wipes (`os::wiped_on_fork`), and what [`NOBODYS`] is for ever.
#![allow(unsafe_code)]

use crate::layout::{PlaceHeader, Slot, RING_SLOTS};
use crate::os;
use crate::ring;
use crate::sync::{AtomicPtr, AtomicRef, AtomicU64, Ordering};

/// See the module.
#[repr(align(64))]
pub(crate) struct Producer {
    /// The slot of the next event.
    next: AtomicPtr<Slot>,
    /// The end of the run.
    end: AtomicPtr<Slot>,
    /// The parity of every slot of the run.
    parity: AtomicU64,
    /// The state word of the claim; another word in the header means that the place was taken from us.
    claimed: AtomicU64,
    /// Set before `end` for the first time.
    header: AtomicPtr<PlaceHeader>,
    /// The position of `end`; this and the next are the slow path's.
    limit: AtomicU64,
    slots: AtomicRef<[Slot; RING_SLOTS]>,
}

// SAFETY: numbers and pointers, for which zero is a valid value, all in atomics.
unsafe impl os::EmptyWhenZero for Producer {}

/// Pushes go the slow way.
pub(crate) static NOBODYS: Producer = Producer {
    next: AtomicPtr::new(std::ptr::null_mut()),
    end: AtomicPtr::new(std::ptr::null_mut()),
    parity: AtomicU64::new(0),
    claimed: AtomicU64::new(0),
    header: AtomicPtr::new(std::ptr::null_mut()),
    limit: AtomicU64::new(0),
    slots: AtomicRef::new(),
};

/// Where a claimed place's producer lives, and what forked children find there.
#[derive(Clone, Copy)]
pub(crate) enum Memory {
    /// Nobody's producer: they claim places of their own.
    WipedOnFork,
    /// The same one: whoever uses it asks first whose it is.
    KeptInForks,
}

/// A page for this process's producer: in a forked child it is nobody's again, and good for the child's.
static PAGE: AtomicRef<Producer> = AtomicRef::new();

impl Producer {
    /// The producer of a claimed place, whose next event goes to position `tail`. Its run is empty at first.
    pub(crate) fn of(
        header: &'static PlaceHeader,
        slots: &'static [Slot; RING_SLOTS],
        claimed: u64,
        tail: u64,
        memory: Memory,
    ) -> &'static Producer {
        if let Memory::WipedOnFork = memory {
            Self::prepare();
            let page = PAGE.get().filter(|page| page.begin(header, slots, claimed, tail));
            if let Some(page) = page {
                return page;
            }
        }
        let producer: &'static Producer = match memory {
            Memory::WipedOnFork => os::wiped_on_fork(),
            Memory::KeptInForks => os::on_heap(),
        };
        producer.begin(header, slots, claimed, tail);
        producer
    }

    /// Makes room for one in each process that is forked from now on.
    pub(crate) fn prepare() {
        if PAGE.get().is_none() {
            PAGE.set(os::wiped_on_fork());
        }
    }

    /// False when it is somebody's: it is for one ring as long as it lives.
    fn begin(
        &self,
        header: &'static PlaceHeader,
        slots: &'static [Slot; RING_SLOTS],
        claimed: u64,
        tail: u64,
    ) -> bool {
        let (null, header) = (std::ptr::null_mut(), std::ptr::from_ref(header).cast_mut());
        // Of two threads one begins. Partner of the release: `run`'s of `end`, which comes after it.
        if self.header.compare_exchange(null, header, Ordering::AcqRel, Ordering::Relaxed).is_err()
        {
            return false;
        }
        self.claimed.store(claimed, Ordering::Relaxed); // published by `end`, as all that follows
        self.slots.set(slots);
        self.run(tail, 0);
        true
    }

    /// Writes an event ([`ring::pack`]) into the ring; false when the slow path has to look first.
    #[inline]
    pub(crate) fn push(&self, packed: u64, value: f64) -> bool {
        let end = self.end.load(Ordering::Acquire); // partner: the release store in `run`
        let next = self.next.load(Ordering::Relaxed); // ours alone, if the client keeps its promise
        if next >= end {
            return false;
        }
        // SAFETY: `end` is not null, so `begin` has stored a `&'static` before it.
        let header = unsafe { &*self.header.load(Ordering::Relaxed) };
        // Relaxed: another generation means only that we must not write here any more.
        if header.state.load(Ordering::Relaxed) != self.claimed.load(Ordering::Relaxed) {
            return false;
        }
        // SAFETY: `next` was stored before that end or later, so it points into the ring that is this producer's
        // for good, or behind it – but it lies below an end. Slots are atomics and mapped for ever.
        let slot = unsafe { &*next };
        ring::put(slot, self.parity.load(Ordering::Relaxed), packed, value);
        // SAFETY: at most one behind the ring's last slot, since `next` is in the ring.
        self.next.store(unsafe { next.add(1) }, Ordering::Relaxed); // as above
        true
    }

    /// The position of the next event.
    pub(crate) fn tail(&self) -> u64 {
        let address = |slot: &AtomicPtr<Slot>| slot.load(Ordering::Relaxed).addr(); // ours alone
        let left = address(&self.end).wrapping_sub(address(&self.next)) / size_of::<Slot>();
        self.limit.load(Ordering::Relaxed).wrapping_sub(left as u64)
    }

    /// Lets pushes fill `room` slots from position `tail` on, but no more than the rest of the lap, all of
    /// which have the same parity.
    pub(crate) fn run(&self, tail: u64, room: u64) {
        let Some(slots) = self.slots.get() else { return };
        let room = room.min(ring::next_lap(tail).wrapping_sub(tail));
        let run = &slots[tail as usize % RING_SLOTS..][..room as usize];
        let ends = run.as_ptr_range();
        self.parity.store(ring::parity(tail), Ordering::Relaxed); // published by `end`, and so are the next two
        self.limit.store(tail.wrapping_add(room), Ordering::Relaxed);
        self.next.store(ends.start.cast_mut(), Ordering::Relaxed);
        self.end.store(ends.end.cast_mut(), Ordering::Release); // partner: `push`
    }
}
