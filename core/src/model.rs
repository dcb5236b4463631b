//! The models' door into the core, under `--cfg loom` only: processes that count in one segment, as threads.
//!
//! Ring, claim, registry, drain and redo are the shipped functions over loom's atomics. What stands for the kernel and
//! the mapping is in `model/`, and says why it has to; a process is killed by its atomics (`sync/mortal.rs`).
#![allow(missing_docs)]

use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};

use crate::drain::{self, Drainer};
use crate::layout::{SeriesEntry, Slot};
use crate::os;
use crate::producer::Memory;
use crate::registry::{self, FamilySpec, GaugeMode, MetricType, Placed};
use crate::ring::{self, Of};
use crate::segment::Segment;
use crate::sync::{kill_before_store, live_on, Killed, Ordering};
use crate::worker::Worker;

pub const RING_SLOTS: usize = crate::layout::RING_SLOTS;

/// A ring on its own.
#[derive(Default)]
pub struct Ring([Slot; RING_SLOTS]);

impl Ring {
    pub fn put(&self, position: u64, id: u32, value: f64) {
        let slot = ring::slot_of(&self.0, position);
        ring::put(slot, ring::parity(position), ring::pack(id, 1.0), value.to_bits());
    }

    pub fn peek(&self, position: u64) -> Option<(u32, f64)> {
        ring::peek(&self.0, position).map(|event| match event.of {
            Of::Series(id) | Of::Counter(id) => (id, event.value),
        })
    }

    pub fn find_tail(&self, head: u64) -> u64 {
        ring::find_tail(&self.0, head)
    }
}

/// The segment of an app, leaked: some KiB for each interleaving.
#[derive(Clone, Copy)]
pub struct App(&'static Segment);

impl App {
    /// With so many places at the most.
    pub fn new(places: usize) -> App {
        App(Box::leak(Box::new(Segment::new(places))))
    }

    /// One of its processes, by a number below 32. Threads may take turns at being it.
    pub fn process(self, number: u32) -> Process {
        Process { app: self, number, worker: None }
    }

    /// What a counter has: its total, nothing pending.
    pub fn total(self, id: u32) -> u64 {
        let cell = self.0.series(id).expect("a series").cell.load(Ordering::Relaxed);
        drain::Copied::of_cells(self.0).cells[cell as usize].a
    }

    /// Locks taken from the dead.
    pub fn takeovers(self) -> u64 {
        self.0.header().counters.takeovers.load(Ordering::Relaxed)
    }

    pub fn catalog_version(self) -> u64 {
        self.0.header().catalog_version.load(Ordering::Acquire)
    }

    /// May one count in that series, by its state?
    pub fn takes_counts(self, id: u32) -> bool {
        let state = |entry: &SeriesEntry| entry.state.load(Ordering::Acquire);
        self.0.series(id).is_some_and(|entry| registry::takes_counts(state(entry)))
    }

    /// The label values of a series, and the name of its family, if that is shown.
    pub fn labels(self, id: u32) -> Option<(String, Vec<String>)> {
        let entry = self.0.series(id)?;
        let family = registry::family_spec(self.0, entry.family.load(Ordering::Relaxed))?;
        Some((family.name, registry::label_values(self.0, entry)?))
    }
}

/// One process.
pub struct Process {
    app: App,
    number: u32,
    worker: Option<(Worker, Drainer)>,
}

impl Process {
    /// The segment, for what follows in this thread: asked by this process.
    fn segment(&self) -> &'static Segment {
        os::be(self.number);
        self.app.0
    }

    /// Its place and the generation of the claim; none when all are taken.
    pub fn claim(&mut self) -> Option<(usize, u64)> {
        let worker = Worker::claim(self.segment(), Memory::KeptInForks)?;
        let claimed = (worker.place, worker.generation());
        let drainer = Drainer::new(&worker);
        self.worker = Some((worker, drainer));
        Some(claimed)
    }

    /// Does a successor stand under the segment's name? Asked behind the claim.
    pub fn is_retired(&self) -> bool {
        self.segment().is_retired()
    }

    /// Makes room for a successor; false when somebody is attached.
    pub fn retire(&self) -> bool {
        let segment = self.segment();
        segment.retire(segment.locks().expect("locks")).expect("an answer")
    }

    /// Is the place still its own?
    pub fn owns_place(&self) -> bool {
        self.worker.as_ref().is_some_and(|(worker, _)| worker.owns_place())
    }

    fn drainer(&mut self) -> &mut Drainer {
        &mut self.worker.as_mut().expect("a place").1
    }

    /// The series of a counter of that name and label value; none when there is no room.
    pub fn register(&self, name: &str, value: &str) -> Option<u32> {
        let spec = FamilySpec {
            name: name.into(),
            help: String::new(),
            unit: String::new(),
            metric_type: MetricType::Counter,
            gauge_mode: GaugeMode::All,
            label_names: vec!["l".into()],
            buckets: Vec::new(),
            native: None,
        };
        let segment = self.segment();
        let (family, spec) = registry::find_or_add_family(segment, &spec).ok()?;
        match registry::find_or_add_series(segment, family, &spec, &[value]) {
            Placed::Series(id) => Some(id),
            Placed::Overflow(_) => None,
        }
    }

    /// Counts a whole amount; false when the ring is full.
    pub fn push(&self, id: u32, amount: u64) -> bool {
        let cell = self.segment().series(id).expect("a series").cell.load(Ordering::Relaxed);
        let (worker, _) = self.worker.as_ref().expect("a place");
        let push = || worker.producer.push(ring::pack_whole(cell), amount);
        push() || (worker.extend() && push())
    }

    /// Drains all and reaps the dead; false when the lock is another's.
    pub fn settle(&mut self) -> bool {
        self.segment();
        let drainer = self.drainer();
        let locked = drainer.try_lock(true);
        if locked {
            drainer.drain_all();
            drainer.reap_dead();
            drainer.unlock();
        }
        locked
    }

    /// What a counter has, seen without the lock; none when something changed meanwhile.
    pub fn peek(&mut self, id: u32) -> Option<u64> {
        let segment = self.segment();
        let cell = segment.series(id).expect("a series").cell.load(Ordering::Relaxed);
        let copied = drain::peek(segment, &mut self.drainer().plans)?;
        Some(copied.cells[cell as usize].a)
    }

    /// Does `work`, and is killed before its store number `n`. True when it was: there were so many.
    pub fn killed_before_store(&mut self, n: u32, work: impl FnOnce(&mut Process)) -> bool {
        kill_before_store(n);
        let done = catch_unwind(AssertUnwindSafe(|| work(self)));
        live_on();
        match done {
            Ok(()) => false,
            Err(reason) if reason.is::<Killed>() => true,
            Err(reason) => resume_unwind(reason),
        }
    }

    /// Is gone, by the kernel's word.
    pub fn die(self) {
        self.segment().locks().expect("locks").unlock_all();
    }
}
