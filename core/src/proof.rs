//! The proofs' door into the core: segments whose bytes can be copied, and what one process of an app does to one.
//!
//! Compiled under the feature `proof` only, for `ci/step`, `ci/mutants` and `ci/fuzz`. Nothing here
//! imitates the protocol: every step is the shipped function, called for a segment of the proof's choice.
#![allow(missing_docs)]

use std::time::Duration;

use crate::client::{self, FamilySpec};
use crate::config::GaugeLabel;
use crate::drain::{self, Copied, Drainer};
use crate::exemplar;
use crate::expiry::Idle;
use crate::exposition::Renderer;
use crate::layout::{place_stride, Region, SeriesEntry};
use crate::os;
use crate::producer::Memory;
use crate::registry::{self, Placed};
use crate::ring::{self, Event, Of};
use crate::segment::{Caps, Segment, LOCK_ATTACHED, LOCK_PLACES};
use crate::sets;
use crate::snapshot::{Reader, Shown};
use crate::sync::Ordering;
use crate::window;
use crate::worker::{self, Worker, SELF_HELP_AT};

/// Slots of a ring, and how many of them make its producer drain it.
pub const RING_SLOTS: u64 = crate::layout::RING_SLOTS as u64;
pub const SELF_HELP: u64 = SELF_HELP_AT;

/// A segment without a name, shared with the forks of this process.
#[derive(Clone, Copy)]
pub struct Arena(&'static Segment);

impl Arena {
    pub fn new(max_series: u32) -> Arena {
        let caps = Caps { max_series, max_series_per_family: max_series };
        Arena(Box::leak(Box::new(Segment::inherited(caps).expect("memory for a segment"))))
    }

    /// This process' client counts in it from now on.
    pub fn adopt(self) {
        client::adopt(self.0);
    }

    /// Takes over another one's bytes: what the death of all its processes would leave.
    pub fn copy_from(self, other: Arena) {
        self.0.copy_from(other.0);
    }

    pub fn same_as(self, other: Arena) -> bool {
        self.0.same_as(other.0)
    }

    /// Lets the kernel alone say who lives, as if every other process had ended.
    pub fn forget_pids(self) {
        for place in (0..self.0.n_places()).filter_map(|place| self.0.place(place)) {
            place.pid_namespace.store(0, Ordering::Relaxed);
        }
    }

    /// The next allocations in the regions of series, cells, text, gauges and places make them grow.
    pub fn stand_before_growth(self) {
        self.0.leave_room(Region::Series, size_of::<SeriesEntry>() as u64);
        self.0.leave_room(Region::Text, 16);
        self.0.leave_room(Region::Cells, 0);
        self.0.leave_room(Region::Gauges, 0);
        self.0.leave_room(Region::Exemplars, 0);
        let stride = place_stride(self.0.max_series());
        self.0.leave_room(Region::Places, self.0.committed(Region::Places) % stride);
    }

    /// Moves an unused ring to another position: `head` events have gone through it.
    pub fn wind_ring(self, place: usize, head: u64) {
        let (header, slots) = (self.0.place(place).expect("a place"), self.0.ring(place).unwrap());
        header.head.store(head, Ordering::Relaxed);
        for position in head - RING_SLOTS..head {
            let slot = ring::slot_of(slots, position);
            ring::put(slot, ring::parity(position), ring::pack(0, 1.0), 0);
        }
    }

    /// Nobody holds the drain lock and no step is pending.
    pub fn is_at_rest(self) -> bool {
        let header = self.0.header();
        let words = [&header.drain_lock, &header.redo.commit, &header.expiring];
        words.iter().all(|word| word.load(Ordering::SeqCst) == 0)
    }

    /// Writes eight bytes anywhere into what is in use: a worker gone wild.
    pub fn scribble(self, at: usize, value: u64) {
        let words = self.0.used_words();
        let n: usize = words.iter().map(|region| region.len()).sum();
        let mut at = at % n;
        for region in words {
            match region.get(at) {
                Some(word) => return word.store(value, Ordering::Relaxed),
                None => at -= region.len(),
            }
        }
    }

    /// Keeps an exemplar of a counter, as any process does.
    pub fn keep_exemplar(self, id: u32, trace: &str) -> bool {
        let labels = exemplar::Labels::new("", &[("trace", trace)]).expect("labels");
        let (cell, generation) = self.exemplar_place(id);
        exemplar::keep(self.0, cell, generation, &labels, 1.0, 1.0)
    }

    /// Its label and value, if they go together.
    pub fn exemplar(self, id: u32) -> Option<String> {
        let (cell, generation) = self.exemplar_place(id);
        let exemplar = exemplar::of_cell(self.0, cell, generation)?;
        let [(_, trace)] = exemplar.labels.as_slice() else { return None };
        (exemplar.value == 1.0).then(|| trace.clone())
    }

    fn exemplar_place(self, id: u32) -> (u32, u32) {
        let entry = self.0.series(id).expect("a series");
        let state = entry.state.load(Ordering::SeqCst);
        (entry.cell.load(Ordering::SeqCst), registry::generation_of(state))
    }

    /// One sub-window has begun since the clock's, and `n` of the two nobody has noted. They are long: two thirds of
    /// the time since the machine's start each, so that the next one does not begin amid a test.
    pub fn begin_sub_windows(self, n: u64) {
        const NOW: u64 = 1;
        let header = self.0.header();
        let length = os::monotonic_ns() / 3 * 2;
        header.window_ns.store(4 * length, Ordering::Relaxed);
        header.window_epoch.store(NOW - n, Ordering::Relaxed);
    }

    /// What the notes of this sub-window say that a summary had counted when it began; None: they are not complete.
    pub fn noted(self, id: u32) -> Option<f64> {
        window::noted(self.0, id)
    }

    /// Adds a value to a set, as any process does, by its hash.
    pub fn add_to_set(self, id: u32, hash: u64) -> bool {
        let first = self.0.series(id).expect("a series").cell.load(Ordering::SeqCst);
        sets::add(self.0, first, hash).is_some()
    }

    /// How many different values it shows.
    pub fn in_set(self, id: u32) -> f64 {
        sets::count(self.0, self.0.series(id).expect("a series").cell.load(Ordering::SeqCst))
    }

    /// Would a process that starts now attach to these bytes?
    pub fn attach_again(self) -> Result<(), String> {
        self.0.attach_again().map(drop)
    }

    /// The series of that family and label set, registered by this process.
    pub fn register(self, spec: &FamilySpec, label_values: &[&str]) -> Option<u32> {
        let (family, registered) = registry::find_or_add_family(self.0, spec).ok()?;
        match registry::find_or_add_series(self.0, family, &registered, label_values) {
            Placed::Series(id) => Some(id),
            Placed::Overflow(_) => None,
        }
    }
}

/// This process has not said that it is attached: like a child forked before its first increment.
pub fn forget_attachment() {
    if let Some(locks) = client::segment().locks() {
        locks.unlock(LOCK_ATTACHED);
    }
}

/// A series, and what it had counted at some time.
pub struct Idling(u32, drain::Counts);

/// One process's part: its place and its side of draining.
pub struct Peer {
    arena: Arena,
    worker: Worker,
    drainer: Drainer,
}

impl Peer {
    pub fn claim(arena: Arena) -> Option<Peer> {
        let worker = Worker::claim(arena.0, Memory::KeptInForks)?;
        let drainer = Drainer::new(&worker);
        Some(Peer { arena, worker, drainer })
    }

    /// The same claim in a copy of the segment.
    pub fn at(arena: Arena, place: usize) -> Peer {
        let state = arena.0.place(place).expect("a place").state.load(Ordering::SeqCst);
        let worker = Worker::take_up(arena.0, place, state, Memory::KeptInForks).expect("a place");
        let drainer = Drainer::new(&worker);
        Peer { arena, worker, drainer }
    }

    pub fn place(&self) -> usize {
        self.worker.place
    }

    /// Gives up the byte lock, as the kernel does at a process's death.
    pub fn die(self) {
        if let Some(locks) = self.arena.0.locks() {
            locks.unlock(LOCK_PLACES + self.worker.place as u64);
        }
        let header = self.arena.0.place(self.worker.place).expect("a place");
        header.pid_namespace.store(0, Ordering::Relaxed);
    }

    /// Gives the place back as it is.
    pub fn leave(self) {
        worker::free(self.arena.0.place(self.worker.place).expect("a place"));
        self.die();
    }

    /// False when the ring is full.
    pub fn push(&self, id: u32, value: f64) -> bool {
        self.push_packed(ring::pack(id, 1.0), value.to_bits())
    }

    /// The same of an observation that counts `weight` times.
    pub fn push_sampled(&self, id: u32, value: f64, weight: f32) -> bool {
        self.push_packed(ring::pack(id, weight), value.to_bits())
    }

    /// The same of a whole amount of a counter.
    pub fn count(&self, id: u32, amount: u64) -> bool {
        let entry = self.arena.0.series(id); // of a scribbled image there may be none
        self.count_in_cell(entry.map_or(0, |entry| entry.cell.load(Ordering::SeqCst)), amount)
    }

    /// The same of a counter's cell.
    pub fn count_in_cell(&self, cell: u32, amount: u64) -> bool {
        self.push_packed(ring::pack_whole(cell), amount)
    }

    fn push_packed(&self, packed: u64, value: u64) -> bool {
        let push = || self.worker.producer.push(packed, value);
        push() || (self.worker.extend() && push())
    }

    pub fn pending(&self) -> u64 {
        self.worker.pending()
    }

    /// Sets its part of a gauge that is not of a mostrecent mode.
    pub fn set_gauge(&self, id: u32, value: f64) {
        let entry = self.arena.0.series(id).expect("a series");
        let cell = self.worker.gauge_cell(entry.gauge.load(Ordering::SeqCst)).expect("a cell");
        let generation = registry::generation_of(entry.state.load(Ordering::SeqCst));
        cell.value.store(value.to_bits(), Ordering::SeqCst);
        cell.stamp.store(u64::from(generation) + 1, Ordering::SeqCst);
    }

    pub fn lock(&mut self) -> bool {
        self.drainer.try_lock(true)
    }

    pub fn unlock(&mut self) {
        self.drainer.unlock();
    }

    /// Looks at all series once, so that what follows allocates nothing.
    pub fn warm(&mut self) {
        self.drainer.learn_gauges();
        for id in 1..registry::n_series(self.arena.0) {
            let event = Event { of: Of::Series(id), weight: 1.0, value: 0.0 };
            self.drainer.plans.target(self.arena.0, &event);
        }
    }

    pub fn drain_and_reap(&mut self) {
        self.drainer.drain_all();
        self.drainer.reap_dead();
    }

    /// Brings a hidden series back, as `Family::series` does.
    pub fn revive(&mut self, id: u32) -> bool {
        if registry::is_removing(self.arena.0, id) && self.lock() {
            self.drainer.zero_hidden(&[id]);
            self.unlock();
        }
        registry::revive(self.arena.0, id)
    }

    /// What a series has counted, in totals.
    pub fn counts(&mut self, id: u32) -> Idling {
        Idling(id, self.drainer.counts(id).expect("a series that takes events"))
    }

    /// Removes a series that has counted nothing since then; false when it has, or the lock is not to be had.
    pub fn expire(&mut self, idle: &Idling) -> bool {
        let locked = self.lock();
        let n = if locked { self.drainer.expire(&[(idle.0, idle.1)]) } else { 0 };
        if locked {
            self.unlock();
        }
        n == 1
    }

    /// Looks for idle series for the first time: none is removed, and what others have left half done is made good.
    pub fn look_for_idle(&mut self) -> bool {
        let locked = self.lock();
        if locked {
            Idle::new().look(self.arena.0, &mut self.drainer, Duration::from_secs(1), 0);
            self.unlock();
        }
        locked
    }

    /// What every process does sooner or later; false when the lock is not to be had.
    pub fn settle(&mut self) -> bool {
        let locked = self.lock();
        if locked {
            self.drain_and_reap();
            self.unlock();
        }
        locked
    }

    /// A page: drained under the lock, else peeked. None when not even that was possible at once.
    pub fn page(&mut self, eyes: &mut Eyes) -> Option<String> {
        let segment = self.arena.0;
        let copied = if self.lock() {
            self.drainer.drain_all();
            let copied = Copied::of_cells(segment);
            self.unlock();
            copied
        } else {
            drain::peek(segment, &mut self.drainer.plans)?
        };
        Some(eyes.page(&copied, Some(self.worker.place)))
    }
}

/// What a process keeps from one page to the next.
pub struct Eyes {
    reader: Reader,
    renderer: Renderer,
}

impl Eyes {
    pub fn new(arena: Arena) -> Eyes {
        let shown = Shown { target: Vec::new(), scrape_metrics: true };
        Eyes { reader: Reader::new(arena.0, shown), renderer: Renderer::new() }
    }

    fn page(&mut self, copied: &Copied, own: Option<usize>) -> String {
        let snapshot = self.reader.snapshot(copied, own, GaugeLabel::Worker, false, true);
        let mut page = Vec::new();
        self.renderer.text(&snapshot, &mut page);
        String::from_utf8(page).expect("UTF-8")
    }
}
