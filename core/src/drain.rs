//! Rings -> totals, exactly once: the try-lock, the redo record, the commit point, reaping. THE essay.
//!
//! # What must hold
//! An event whose `push` has returned is added to its cell exactly once, whoever is killed wherever:
//! its producer, the drainer, the drainer's successor. `drain` is the only writer of totals and of ring
//! heads, and at most one process drains at a time.
//!
//! # The lock
//! One word: `{place + 1, generation of the claim}` of the holder, 0 when free. It is only ever
//! *tried*, by compare-and-swap. A holder that is dead by the kernel's word (its byte lock is free) is
//! replaced by compare-and-swap of its word, so of several successors one wins. Whoever drains has
//! claimed a place first, hence has a byte lock by which others can tell whether it lives.
//!
//! # One event
//! ```text
//! read slot `position - 1` of place p; compute the ABSOLUTE new words of its cell
//! entry[position & 1] <- cell, words        relaxed
//! commit <- {kind, p, position}             release      THE COMMIT POINT
//! fence                                     release      (partner: the peek's fence)
//! cell <- words                             relaxed
//! …next event…; after the last one: head of p <- position   release; fence release
//! ```
//! Killed before the commit point: the event is still in the ring, its cell untouched. Killed after it:
//! the successor finds `position` ahead of the head of p, stores the same absolute words again
//! (idempotent, so the successor may die here, too) and moves the head. All events before it were
//! applied already, since the cells of event n are stored before the commit of event n + 1.
//!
//! An event of an id that nobody has registered, or of a cell that nobody has been given, changes nothing; the head
//! is stored behind it at once, or the events before and after it would share an entry.
//!
//! Three liberties:
//! 1. The head is stored once per batch: until then `commit` *is* the head. Hence two entries taking
//!    turns, so that the entry of event n + 1 is never written over the one that `commit` names.
//! 2. After a batch the head makes the record stale, so the next ring's events may overwrite either
//!    entry. The fence behind the head's store keeps that order.
//! 3. A whole amount changes a counter's first word alone. Such a step has a kind of its own (FIRST_WORD), and
//!    the second word is neither recorded nor stored: two stores of six less for the commonest event.
//!
//! # Its price
//! [`Common::count`] does all this in 18 instructions for a whole amount, four of them stores: the event names its cell
//! and its amount is an integer (`ring::pack_whole`), one comparison tells it from all else, and two
//! events are counted by turns, so that either has its entry at a fixed address. `core/docs/gates.md` has the figures.
//!
//! # Folding a dead worker's gauge
//! The same record with kind FOLD and the gauge's number for a position: the total's absolute words,
//! then the cell's stamp is cleared, then `commit` <- 0 *before* the entry can be written again: unlike
//! a head, a cleared stamp would not tell a later owner of the place that the record is stale.
//!
//! # Removing a series
//! Its cells are set to zero under the lock, after all rings: no redo is needed, since a series that is
//! still `REMOVING` when its remover dies is hidden, and whoever revives it sets them to zero again.
//!
//! # Removing an idle series
//! Here nobody has said that its counts may go, so an event that comes at that moment must not be lost. Under the
//! lock: the series is *suspended* (who wants to count finds it removed, and waits for the lock or goes elsewhere;
//! it stays on the page), then all rings are drained. Has it counted since it was found idle, it is resumed. If not,
//! `expiring` <- its id is the commit point: it leaves the page, its cells are set to zero, `expiring` <- 0. Killed
//! before the commit point, the next who meets the suspended series resumes it; killed after it, [`recover`] goes on
//! before anything else is drained. Who had looked before the suspension and pushes after the draining has his event
//! drained into the hidden series' empty cells: `expiry` brings it back, with a new creation time.
//!
//! # Looking without the lock
//! [`peek`] copies heads and totals, in this order, and walks rings while the holder is stopped. It is right if neither
//! `commit` nor the lock word nor its sequence number changed meanwhile; the committed event's words are laid over the
//! copy, as a successor would, if it is ahead of the copied head. Whoever clears `commit` raises the number before, or
//! the holder could drain everything between two looks that see the same: nothing pending.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use crate::layout::*;
use crate::native;
use crate::os;
use crate::registry::{self, FamilySpec, GaugeMode, MetricType};
use crate::ring::{self, Event, Of};
use crate::segment::Segment;
use crate::sync::{fence, AtomicU64, Ordering};
use crate::totals::{self, CellKind, Classifier, Stamped, Words};
use crate::window;
use crate::worker::{self, Worker};

const KIND_SHIFT: u32 = 62;
const PLACE_SHIFT: u32 = 48;
const POSITION_MASK: u64 = (1 << PLACE_SHIFT) - 1;
/// Record kinds; 0 in the whole word means that nothing is pending.
const EVENT: u64 = 1;
const FOLD: u64 = 2;
/// An event that changes the cell's first word alone.
const FIRST_WORD: u64 = 3;

/// How an event's id is applied: the first cell of the series and what kind of series it is.
#[derive(Clone, Copy)]
struct Plan {
    cell: u32,
    /// 0: not looked up yet; 1: counter; 2: summary; 3: gauge, takes no events; 4: set, neither; from 5: histogram,
    /// classifier `shape - 5`.
    shape: u32,
}

impl Plan {
    /// Where a value of that series goes; None if the series is unknown or takes none, or it is no push of ours.
    #[inline]
    fn target(self, plans: &Plans, value: f64) -> Option<Target> {
        if !value.is_finite() {
            return None;
        }
        let observations = |cell| Some(Target { cell, kind: CellKind::Observations });
        match self.shape {
            UNKNOWN | NO_EVENTS | SET => None,
            COUNTER => Some(Target { cell: self.cell, kind: CellKind::Counter }),
            SUMMARY => observations(self.cell),
            shape => {
                let classifier = &plans.classifiers[(shape - FIRST_HISTOGRAM) as usize];
                observations(self.cell + classifier.bucket(value) as u32)
            }
        }
    }
}

const UNKNOWN: u32 = 0;
const COUNTER: u32 = 1;
const SUMMARY: u32 = 2;
const NO_EVENTS: u32 = 3;
const SET: u32 = 4;
const FIRST_HISTOGRAM: u32 = 5;

/// Which cell an event changes, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Target {
    pub cell: u32,
    pub kind: CellKind,
}

/// Process-private knowledge of series, validated once: later scribbling over the registry cannot
/// lead an event astray.
#[derive(Default)]
pub(crate) struct Plans {
    by_id: Vec<Plan>,
    classifiers: Vec<Classifier>,
    /// By classifier: cells behind those that events change, which note what these held when sub-windows began.
    notes: Vec<u32>,
    /// Classifier of each family looked up so far, by family id.
    families: Vec<Option<(MetricType, u32)>>,
}

impl Plans {
    /// Where this event goes; None for an id that is not (yet) registered or a cell out of bounds.
    #[inline]
    pub(crate) fn target(&mut self, segment: &Segment, event: &Event) -> Option<Target> {
        let id = match event.of {
            Of::Series(id) => id,
            Of::Counter(cell) => {
                let known = 1..used_cells(segment).len();
                let target = Target { cell, kind: CellKind::Counter };
                return known.contains(&(cell as usize)).then_some(target);
            }
        };
        let plan = match self.by_id.get(id as usize) {
            Some(plan) if plan.shape != UNKNOWN => *plan,
            _ => self.look_up(segment, id)?,
        };
        let weighs = (0.0..f32::INFINITY).contains(&event.weight); // else no push of ours
        weighs.then(|| plan.target(self, event.value))?
    }

    /// The cells of a series.
    fn cells(&mut self, segment: &Segment, id: u32) -> Option<Range<usize>> {
        let plan = self.look_up(segment, id)?;
        Some(plan.cell as usize..(plan.cell + self.n_cells(plan) + self.n_notes(plan)) as usize)
    }

    /// Those of a series that takes events.
    fn event_cells(&mut self, segment: &Segment, id: u32) -> Option<Range<usize>> {
        let known = self.by_id.get(id as usize).filter(|plan| plan.shape != UNKNOWN).copied();
        let plan = known.or_else(|| self.look_up(segment, id))?;
        (!matches!(plan.shape, NO_EVENTS | SET)).then(|| self.cells_of(plan))
    }

    fn n_notes(&self, plan: Plan) -> u32 {
        plan.shape.checked_sub(FIRST_HISTOGRAM).map_or(0, |shape| self.notes[shape as usize])
    }

    fn cells_of(&self, plan: Plan) -> Range<usize> {
        plan.cell as usize..(plan.cell + self.n_cells(plan)) as usize
    }

    fn n_cells(&self, plan: Plan) -> u32 {
        match plan.shape.checked_sub(FIRST_HISTOGRAM) {
            Some(shape) => self.classifiers[shape as usize].n_buckets() as u32,
            None if plan.shape == SET => native::SET_CELLS as u32,
            None => 1,
        }
    }

    #[cold]
    fn look_up(&mut self, segment: &Segment, id: u32) -> Option<Plan> {
        let entry = segment.series(id)?;
        let family = entry.family.load(Ordering::Relaxed); // written before the id was handed to a producer
        let shape = self.shape_of(segment, family)?;
        let plan = Plan { cell: entry.cell.load(Ordering::Relaxed), shape }; // as above
        let end =
            u64::from(plan.cell) + u64::from(self.n_cells(plan)) + u64::from(self.n_notes(plan));
        if plan.cell == 0 || end * size_of::<Cell>() as u64 > segment.committed(Region::Cells) {
            return None;
        }
        let at = id as usize;
        if self.by_id.len() <= at {
            self.by_id.resize(at + 1, Plan { cell: 0, shape: UNKNOWN });
        }
        self.by_id[at] = plan;
        Some(plan)
    }

    fn shape_of(&mut self, segment: &Segment, family: u32) -> Option<u32> {
        let at = family as usize;
        if let Some(Some((_, shape))) = self.families.get(at) {
            return Some(*shape);
        }
        let spec = registry::family_spec(segment, family)?;
        let shape = match spec.metric_type {
            MetricType::Counter => COUNTER,
            MetricType::Summary if spec.native.is_some() => self.classifier_of(&spec),
            MetricType::Summary => SUMMARY,
            MetricType::Gauge if spec.is_set() => SET,
            MetricType::Gauge => NO_EVENTS,
            MetricType::Histogram => self.classifier_of(&spec),
        };
        if self.families.len() <= at {
            self.families.resize(at + 1, None);
        }
        self.families[at] = Some((spec.metric_type, shape));
        Some(shape)
    }

    /// Families with the same buckets share one table.
    fn classifier_of(&mut self, spec: &FamilySpec) -> u32 {
        let new = Classifier::new(&spec.bounds());
        let notes = (spec.cells_per_series() as u32).saturating_sub(new.n_buckets() as u32);
        let mut known = self.classifiers.iter().zip(&self.notes);
        let at = known.position(|(old, n)| *old == new && *n == notes);
        let at = at.unwrap_or_else(|| {
            self.classifiers.push(new);
            self.notes.push(notes);
            self.classifiers.len() - 1
        });
        FIRST_HISTOGRAM + at as u32
    }
}

/// What the fold must know of a gauge.
#[derive(Clone, Copy)]
struct GaugePlan {
    series: u32,
    cell: u32,
    mode: GaugeMode,
}

/// This process's side of draining; may hold the lock or not.
pub(crate) struct Drainer {
    segment: &'static Segment,
    place: usize,
    /// Our word in the lock.
    word: u64,
    pub(crate) plans: Plans,
    /// By gauge number; what is missing is looked up when a dead worker has set it.
    gauges: Vec<Option<GaugePlan>>,
}

fn lock_word(place: usize, generation: u64) -> u64 {
    (generation << 16) | (place as u64 + 1)
}

impl Drainer {
    /// For the process that holds this place.
    pub(crate) fn new(worker: &Worker) -> Drainer {
        Drainer {
            segment: worker.segment,
            place: worker.place,
            word: lock_word(worker.place, worker.generation()),
            plans: Plans::default(),
            gauges: Vec::new(),
        }
    }

    /// Tries the lock once. `ask_kernel` allows the system call that tells whether its holder died.
    pub(crate) fn try_lock(&self, ask_kernel: bool) -> bool {
        let lock = &self.segment.header().drain_lock;
        // Acquire: partner is the release store in `unlock`; a dead holder's stores are made visible
        // by the kernel's freeing of its byte, which was asked for before the second exchange.
        let taken = match lock.compare_exchange(0, self.word, Ordering::Acquire, Ordering::Relaxed)
        {
            Ok(_) => true,
            Err(holder) if ask_kernel && holder != self.word && self.holder_died(holder) => {
                let seized =
                    lock.compare_exchange(holder, self.word, Ordering::Acquire, Ordering::Relaxed);
                if seized.is_ok() {
                    self.count(|c| &c.takeovers, 1);
                }
                seized.is_ok()
            }
            Err(_) => false,
        };
        if taken {
            self.segment.header().drain_seq.fetch_add(1, Ordering::AcqRel); // partner: `peek`
            recover(self.segment);
        }
        taken
    }

    fn holder_died(&self, holder: u64) -> bool {
        let Some(place) = (holder & 0xffff).checked_sub(1) else { return false };
        let place = place as usize;
        let Some(header) = self.segment.place(place) else { return true }; // scribbled: no such place
        let state = header.state.load(Ordering::Acquire); // partner: `worker::claim_place`
        let same_claim = lock_word(place, worker::generation_of(state)) == holder;
        !same_claim || worker::is_dead(self.segment, place, Some(self.place))
    }

    /// Tries the lock for a bounded time: a scrape may wait, a push never does.
    pub(crate) fn lock_within(&self, patience: Duration) -> bool {
        let end = os::monotonic_ns() + patience.as_nanos() as u64;
        let mut pause = Duration::from_micros(20);
        let mut ask_kernel = false; // a live holder is done in microseconds: first just try again
        loop {
            if self.try_lock(ask_kernel) {
                return true;
            }
            if os::monotonic_ns() >= end {
                return false;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(2));
            ask_kernel = true;
        }
    }

    /// Gives the lock back, if it is still ours: a successor who took us for dead keeps it.
    pub(crate) fn unlock(&self) {
        let header = self.segment.header();
        if header.drain_lock.load(Ordering::Relaxed) != self.word {
            return; // our own word, or one that somebody else stored
        }
        self.clear_record(); // all is in the cells and heads
        let lock = &header.drain_lock; // partner of the release: `try_lock`
        let _ = lock.compare_exchange(self.word, 0, Ordering::Release, Ordering::Relaxed);
    }

    /// Nothing is pending any more. The number comes first: to a [`peek`] the segment must not look as it did before
    /// the steps that are done now.
    fn clear_record(&self) {
        let header = self.segment.header();
        header.drain_seq.fetch_add(1, Ordering::AcqRel); // partner: `peek`
        header.redo.commit.store(0, Ordering::Release); // partner: `peek`, `read_record`
    }

    /// Drains this process's own ring; the lock is held.
    pub(crate) fn drain_own(&mut self) {
        self.drain_place(self.place);
        self.note_time();
    }

    /// A segment that is drained is in use.
    fn note_time(&self) {
        self.segment.header().drained_ns.store(os::unix_ns(), Ordering::Relaxed);
        // a time, no order
    }

    /// Drains every ring and reaps the dead; the lock is held. Returns the number of events.
    pub(crate) fn drain_all(&mut self) -> u64 {
        let started = os::monotonic_ns();
        window::rotate(self.segment, started);
        let mut n = 0;
        for place in 0..self.segment.n_places() {
            n += self.drain_place(place);
        }
        self.note_time();
        self.count(|c| &c.drains, 1);
        self.count(|c| &c.drain_ns, os::monotonic_ns() - started);
        n
    }

    /// Frees the places of workers that have ended; the lock is held.
    pub(crate) fn reap_dead(&mut self) {
        for place in 0..self.segment.n_places() {
            let claimed = worker::status(self.segment, place) == worker::Status::Claimed;
            if claimed && worker::is_dead(self.segment, place, Some(self.place)) {
                self.reap(place);
            }
        }
    }

    /// Everything a dead worker left is taken over, then its place is free. Killed in between, the
    /// place is still claimed by the dead, and the next drainer goes on.
    fn reap(&mut self, place: usize) {
        self.drain_place(place); // a ring holds no more than one pass takes
        self.fold_gauges(place);
        if let Some(header) = self.segment.place(place) {
            worker::free(header);
            self.count(|c| &c.reaped, 1);
        }
    }

    fn drain_place(&mut self, place: usize) -> u64 {
        let segment = self.segment;
        let (Some(slots), Some(header)) = (segment.ring(place), segment.place(place)) else {
            return 0;
        };
        let cells = used_cells(segment); // a cell that is younger is reached by `apply`
        let redo = &segment.header().redo;
        let head = header.head.load(Ordering::Relaxed); // written under this lock only
        let end = head.wrapping_add(RING_SLOTS as u64);
        let mut position = head;
        while let Some(event) = ring::peek(slots, position).filter(|_| position != end) {
            let common = Common { slots, cells, redo, plans: &self.plans, place };
            let counted = match event.of {
                Of::Counter(_) => common.count::<true>(position..end),
                Of::Series(_) => common.count::<false>(position..end),
            };
            if counted == position {
                self.apply(place, position.wrapping_add(1), &event, header);
            }
            position = counted.max(position.wrapping_add(1));
        }
        let n = position.wrapping_sub(head);
        if n > 0 {
            header.head.store(position, Ordering::Release); // slots are free; partner: `Worker::pending`
            fence(Ordering::Release); // liberty 2: the record is stale before an entry is written again
            self.count(|c| &c.events_drained, n);
        }
        n
    }

    /// One event of any kind; `position` is the one behind it.
    #[inline(never)]
    fn apply(&mut self, place: usize, position: u64, event: &Event, header: &PlaceHeader) {
        let segment = self.segment;
        let cell = |target: Target| {
            let offset = u64::from(target.cell) * size_of::<Cell>() as u64;
            Some((target, segment.at::<Cell>(Region::Cells, offset)?))
        };
        let Some((target, cell)) = self.plans.target(segment, event).and_then(cell) else {
            self.count(|c| &c.corrupt_events, 1); // an id nobody registered: not a push of ours
            header.head.store(position, Ordering::Release); // partner: `Worker::pending`
            fence(Ordering::Release); // as behind a batch: the next event may take either entry
            return;
        };
        let words = target.kind.apply(Words::of(cell), event.value, f64::from(event.weight));
        step(&segment.header().redo, commit_word(EVENT, place, position), target.cell, words);
        store_cell(cell, words);
    }

    /// Merges a dead worker's gauges into the totals (or drops them, in the live modes), each once.
    fn fold_gauges(&mut self, place: usize) {
        let header = self.segment.header();
        let redo = &header.redo;
        header.folds.fetch_add(1, Ordering::Relaxed); // ordered by the stamps; partner: `Copied::is_current`
        let mut up_to_date = false;
        for (gauge, cell) in worker::gauge_cells(self.segment, place) {
            let Some(dead) = Stamped::read(&cell.value, &cell.stamp) else { continue };
            if self.gauge(gauge).is_none() && !up_to_date {
                self.learn_gauges();
                up_to_date = true;
            }
            let Some(plan) = self.gauge(gauge) else { continue };
            if plan.mode.is_per_worker() && !plan.mode.is_live() {
                continue; // `all` keeps a dead worker's sample until its place is taken
            }
            if let (false, Some((total, words))) =
                (plan.mode.is_live(), fold_words(self.segment, &plan, dead))
            {
                step(redo, commit_word(FOLD, place, u64::from(gauge)), plan.cell, words);
                store_cell(total, words);
            }
            cell.stamp.store(0, Ordering::Release);
            self.clear_record(); // before the entry is written again
            fence(Ordering::Release);
        }
    }

    fn gauge(&self, number: u32) -> Option<GaugePlan> {
        self.gauges.get(number as usize).copied().flatten()
    }

    /// Brings the table of gauges up to date with the registry.
    pub(crate) fn learn_gauges(&mut self) {
        let mut modes: HashMap<u32, Option<GaugeMode>> = HashMap::new();
        for id in 1..registry::n_series(self.segment) {
            let Some(entry) = self.segment.series(id) else { break };
            if entry.state.load(Ordering::Acquire) == 0 {
                continue; // half written, perhaps; nobody has set it; partner: `registry::publish`
            }
            let family = entry.family.load(Ordering::Relaxed); // published with `state`
            let mode = *modes.entry(family).or_insert_with(|| {
                let spec = registry::family_spec(self.segment, family)?;
                (spec.metric_type == MetricType::Gauge).then_some(spec.gauge_mode)
            });
            let gauge = entry.gauge.load(Ordering::Relaxed) as usize; // as above
            let Some(mode) =
                mode.filter(|_| (gauge as u64) < series_ids(self.segment.max_series()))
            else {
                continue; // no gauge, or scribbled
            };
            if self.gauges.len() <= gauge {
                self.gauges.resize(gauge + 1, None);
            }
            let cell = entry.cell.load(Ordering::Relaxed); // as above
            self.gauges[gauge] = Some(GaugePlan { series: id, cell, mode });
        }
    }

    /// Sets the cells of hidden series to zero, behind everything that was counted; the lock is held.
    pub(crate) fn zero_hidden(&mut self, ids: &[u32]) {
        self.drain_all();
        for id in ids {
            if registry::resume(self.segment, *id) || !registry::is_removing(self.segment, *id) {
                continue; // somebody else has done it, or has died before it was decided
            }
            if let Some(cells) = self.plans.cells(self.segment, *id) {
                let direct = direct_cells(self.segment).get(cells.clone()).unwrap_or(&[]);
                zero(self.segment, cells);
                direct.iter().for_each(|cell| totals::update_direct(cell, |_| Words::default()));
            }
            registry::hidden(self.segment, *id);
        }
    }

    /// What a series has counted until now; None if it takes no events.
    pub(crate) fn counts(&mut self, id: u32) -> Option<Counts> {
        let cells = self.plans.event_cells(self.segment, id)?;
        let past_ring = |cell: &DirectCell| Words::of_direct(cell) != Words::default();
        let past_ring = direct_cells(self.segment).get(cells.clone())?.iter().any(past_ring);
        let words = all_cells(self.segment).get(cells)?.iter().map(Words::of);
        let hash = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = words.fold(0, |before, words| hash(hash(before, words.a), words.b));
        Some(Counts { hash, past_ring })
    }

    /// Removes those of these series that have counted no more than this; the lock is held. Returns how many.
    pub(crate) fn expire(&mut self, idle: &[(u32, Counts)]) -> usize {
        let segment = self.segment;
        let suspended: Vec<_> =
            idle.iter().filter(|(id, _)| registry::suspend(segment, *id)).collect();
        if suspended.is_empty() {
            return 0;
        }
        self.drain_all();
        let mut n = 0;
        for (id, counts) in suspended {
            if self.counts(*id) != Some(*counts) {
                registry::resume(segment, *id);
                continue;
            }
            segment.header().expiring.store(u64::from(*id), Ordering::Release); // the commit point; partner: `finish_expiry`
            finish_expiry(segment, &mut self.plans);
            n += 1;
        }
        n
    }

    fn count(&self, which: impl Fn(&Counters) -> &AtomicU64, n: u64) {
        which(&self.segment.header().counters).fetch_add(n, Ordering::Relaxed); // a count, no order
    }
}

/// What a series has counted, to be compared.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Counts {
    /// Of its cells; 0 when nothing stands in them.
    pub hash: u64,
    /// Has it ever been counted past a full ring?
    pub past_ring: bool,
}

impl Counts {
    pub(crate) fn are_none(self) -> bool {
        self.hash == 0 && !self.past_ring
    }
}

/// What the common events of one ring need: whole amounts of counters, and all that has weight 1 and whose series
/// has been looked up. Nearly everything that is ever drained is of these.
struct Common<'a> {
    slots: &'a [Slot; RING_SLOTS],
    cells: &'a [Cell],
    redo: &'a Redo,
    plans: &'a Plans,
    place: usize,
}

impl Common<'_> {
    /// Counts the events of a range of positions, of one lap, or its whole amounts alone, which is quicker. Returns the
    /// position of the first that is not common, has not been pushed, is more than the counter's first word can
    /// hold, or whose cell is younger than the slice of them.
    ///
    /// A whole amount is told from all else by one comparison, and the registry is not asked about it: who
    /// scribbles a cell's index could as well scribble an id, or a counter's amount.
    #[inline(never)]
    fn count<const WHOLE_ALONE: bool>(&self, positions: Range<u64>) -> u64 {
        let Common { slots, cells, redo, plans, place } = *self;
        let parity = ring::parity(positions.start);
        let (whole, weight_1) = (ring::pack_whole(0) | parity, ring::pack(0, 1.0) | parity);
        let run = Run::of(slots, place, positions);
        run.count(redo, |slot, entry, commit| {
            let meta = slot.meta.load(Ordering::Acquire); // partner: the release store in `ring::put`
            let value = slot.value.load(Ordering::Relaxed); // ordered by the load above
            if let Some(cell) = cells.get((meta ^ whole) as usize) {
                let a = cell.a.load(Ordering::Relaxed).checked_add(value)?; // written under this lock only
                step_first_word(redo, entry, commit, meta ^ whole, a);
                cell.a.store(a, Ordering::Relaxed); // as in `store_cell`
                return Some(());
            }
            if WHOLE_ALONE {
                return None;
            }
            let value = f64::from_bits(value);
            let target = plans.by_id.get((meta ^ weight_1) as usize)?.target(plans, value)?;
            let cell = cells.get(target.cell as usize)?;
            let words = target.kind.apply(Words::of(cell), value, 1.0);
            entry.b.store(words.b, Ordering::Relaxed); // ordered by the commit
            let both_words = commit ^ (FIRST_WORD ^ EVENT) << KIND_SHIFT;
            step_first_word(redo, entry, both_words, u64::from(target.cell), words.a);
            store_cell(cell, words);
            Some(())
        })
    }
}

/// Slots of one lap, to be counted one after another.
struct Run<'a> {
    slots: &'a [Slot],
    first: u64,
    /// What would have committed a whole amount just before the first slot.
    commit: u64,
}

impl<'a> Run<'a> {
    fn of(slots: &'a [Slot; RING_SLOTS], place: usize, positions: Range<u64>) -> Run<'a> {
        let first = positions.start;
        let of_lap = ring::next_lap(first).min(positions.end).wrapping_sub(first);
        let n = of_lap.min(POSITION_MASK - (first & POSITION_MASK)); // adding to the commit must not carry
        let (slots, _) = slots[first as usize % RING_SLOTS..].split_at(n as usize);
        Run { slots, first, commit: commit_word(FIRST_WORD, place, first) }
    }

    /// Counts as long as `count` can, two by two, since the entries take turns; returns the position behind.
    #[inline(always)]
    fn count(
        self,
        redo: &Redo,
        mut count: impl FnMut(&Slot, &RedoEntry, u64) -> Option<()>,
    ) -> u64 {
        let mut commit = self.commit;
        // As the position's lowest bit tells, which is the commit's.
        let entries = [1, 0].map(|next| &redo.entry[((commit + next) & 1) as usize]);
        let mut count_one = |(slot, entry): (&Slot, &RedoEntry)| {
            count(slot, entry, commit + 1)?;
            commit += 1;
            Some(())
        };
        let mut count_two = |two: &[Slot]| two.iter().zip(entries).try_for_each(&mut count_one);
        let _ = self.slots.chunks_exact(2).try_for_each(&mut count_two);
        self.first.wrapping_add(commit - self.commit)
    }
}

/// Every cell that has been handed out.
fn used_cells(segment: &Segment) -> &[Cell] {
    let n = segment.used(Region::Cells) as usize / size_of::<Cell>();
    segment.slice(Region::Cells, 0, n).unwrap_or(&[])
}

/// Every cell that may be used now.
fn all_cells(segment: &Segment) -> &[Cell] {
    let n = segment.committed(Region::Cells) as usize / size_of::<Cell>();
    segment.slice(Region::Cells, 0, n).unwrap_or(&[])
}

/// Every direct cell that may be used now.
fn direct_cells(segment: &Segment) -> &[DirectCell] {
    let n = segment.committed(Region::Direct) as usize / size_of::<DirectCell>();
    segment.slice(Region::Direct, 0, n).unwrap_or(&[])
}

/// Sets totals to zero; the lock is held.
fn zero(segment: &Segment, cells: Range<usize>) {
    let cells = all_cells(segment).get(cells).unwrap_or(&[]);
    cells.iter().for_each(|cell| store_cell(cell, Words::default()));
}

/// Writes the record of one step and commits it.
#[inline]
fn step(redo: &Redo, commit: u64, cell: u32, words: Words) {
    let entry = &redo.entry[(commit & 1) as usize];
    entry.b.store(words.b, Ordering::Relaxed); // ordered by the commit
    step_first_word(redo, entry, commit, u64::from(cell), words.a);
}

/// The same of a step that leaves the cell's second word alone.
#[inline]
fn step_first_word(redo: &Redo, entry: &RedoEntry, commit: u64, cell: u64, a: u64) {
    entry.cell.store(cell, Ordering::Relaxed); // ordered by the commit
    entry.a.store(a, Ordering::Relaxed); // ordered by the commit
    redo.commit.store(commit, Ordering::Release); // THE COMMIT POINT; partner: `read_record`
    fence(Ordering::Release); // cells change after the commit; partner: the fence in `peek`
}

fn commit_word(kind: u64, place: usize, position: u64) -> u64 {
    (kind << KIND_SHIFT) | ((place as u64) << PLACE_SHIFT) | (position & POSITION_MASK)
}

#[inline]
fn store_cell(cell: &Cell, words: Words) {
    cell.a.store(words.a, Ordering::Relaxed); // ordered by the fence before and the next commit after
    cell.b.store(words.b, Ordering::Relaxed); // as above
}

/// The committed step, read and checked: it may come from a process that scribbled.
struct Record {
    kind: u64,
    place: usize,
    position: u64,
    cell: usize,
    words: Words,
}

impl Record {
    /// The cell's words once the step is done. Its second word is the old one after a whole amount.
    fn new_words(&self, old: Words) -> Words {
        Words { a: self.words.a, b: if self.kind == FIRST_WORD { old.b } else { self.words.b } }
    }
}

fn read_record(segment: &Segment) -> Option<Record> {
    let redo = &segment.header().redo;
    let word = redo.commit.load(Ordering::Acquire); // partner: the commit in `step`
    if word == 0 {
        return None;
    }
    let position = word & POSITION_MASK;
    let entry = &redo.entry[(position & 1) as usize];
    let get = |word: &AtomicU64| word.load(Ordering::Relaxed); // ordered by the acquire above
    Some(Record {
        kind: word >> KIND_SHIFT,
        place: (word >> PLACE_SHIFT) as usize & 0x3fff,
        position,
        cell: get(&entry.cell) as usize,
        words: Words { a: get(&entry.a), b: get(&entry.b) },
    })
}

/// How far a committed event is ahead of its ring's head; None when the record is stale or nonsense.
fn ahead(record: &Record, head: u64) -> Option<u64> {
    let distance = record.position.wrapping_sub(head) & POSITION_MASK;
    (1..=RING_SLOTS as u64).contains(&distance).then_some(distance)
}

/// Finishes what the holder before us had committed; the lock is held. May die anywhere, too.
fn recover(segment: &Segment) {
    if let Some(record) = read_record(segment) {
        let cell = all_cells(segment).get(record.cell);
        if let (Some(header), Some(cell)) = (segment.place(record.place), cell) {
            match record.kind {
                EVENT | FIRST_WORD => {
                    let head = header.head.load(Ordering::Relaxed); // written under this lock only
                    if let Some(distance) = ahead(&record, head) {
                        store_cell(cell, record.new_words(Words::of(cell)));
                        header.head.store(head.wrapping_add(distance), Ordering::Release);
                        // partner: `Worker::pending`
                    }
                }
                FOLD => {
                    store_cell(cell, record.words);
                    let gauge = record.position as u32;
                    let mut cells = worker::gauge_cells(segment, record.place);
                    if let Some((_, cell)) = cells.find(|(number, _)| *number == gauge) {
                        cell.stamp.store(0, Ordering::Release);
                    }
                }
                _ => {}
            }
        }
        fence(Ordering::Release);
    }
    segment.header().redo.commit.store(0, Ordering::Release);
    fence(Ordering::Release); // before an entry is written again
    if segment.header().expiring.load(Ordering::Acquire) != 0 {
        finish_expiry(segment, &mut Plans::default()); // before another event is drained
    }
}

/// Removes the idle series that `expiring` names; the lock is held. May die anywhere, too.
fn finish_expiry(segment: &Segment, plans: &mut Plans) {
    let header = segment.header();
    let id = header.expiring.load(Ordering::Acquire) as u32; // partner: the commit point in `expire`
    registry::hide_suspended(segment, id);
    fence(Ordering::Release); // it is off the page before its cells change; partner: the fence in `peek`
    if registry::is_removing(segment, id) {
        plans.cells(segment, id).into_iter().for_each(|cells| zero(segment, cells));
        registry::hidden(segment, id);
    }
    header.expiring.store(0, Ordering::Release); // partner: `recover`
}

/// A gauge's total after a dead worker's value, if that value belongs to the series' present life.
fn fold_words<'a>(
    segment: &'a Segment,
    plan: &GaugePlan,
    dead: Stamped,
) -> Option<(&'a Cell, Words)> {
    let entry = segment.series(plan.series)?;
    if !is_current(entry, plan.mode, dead) {
        return None;
    }
    let total =
        segment.at::<Cell>(Region::Cells, u64::from(plan.cell) * size_of::<Cell>() as u64)?;
    let old = Stamped::read(&total.a, &total.b).filter(|old| is_current(entry, plan.mode, *old));
    let new = old.map_or(dead, |old| old.merge(dead, plan.mode));
    Some((total, Words { a: new.value.to_bits(), b: new.stamp }))
}

/// Was this value set since the series was last created or revived?
pub(crate) fn is_current(entry: &SeriesEntry, mode: GaugeMode, value: Stamped) -> bool {
    if mode.is_most_recent() {
        value.stamp >= entry.created_ns.load(Ordering::Relaxed) // rarely changes, and never back
    } else {
        let word = entry.state.load(Ordering::Acquire); // partner: `registry::revive`
        value.stamp == u64::from(registry::generation_of(word)) + 1
    }
}

/// All totals at one moment.
pub(crate) struct Copied {
    /// By cell index.
    pub cells: Vec<Words>,
    /// A dead worker's gauge that is in its total already although its cell still shows it.
    pub folded: Option<(usize, u32)>,
    /// The sub-window that it was made in.
    pub window_epoch: u64,
    /// Folds begun until then.
    folds: u64,
}

impl Copied {
    /// A copy without rings; the lock is held, or nothing better could be had.
    pub(crate) fn of_cells(segment: &Segment) -> Copied {
        let folds = segment.header().folds.load(Ordering::Acquire); // partner: `fold_gauges`
        let window_epoch = segment.header().window_epoch.load(Ordering::Acquire); // partner: `window::rotate`
        Copied { cells: copy_cells(segment), folded: None, window_epoch, folds }
    }

    /// Do the workers' gauge cells, read after this copy was made, still belong to it? Not if a dead
    /// worker's values have moved from there into totals meanwhile.
    pub(crate) fn is_current(&self, segment: &Segment) -> bool {
        segment.header().folds.load(Ordering::Acquire) == self.folds // a cleared stamp means a fold counted
    }
}

/// A copy of all totals, rings included, made without the lock.
///
/// None when a running holder kept changing things: then it will be done soon, and the caller may try
/// the lock again.
pub(crate) fn peek(segment: &Segment, plans: &mut Plans) -> Option<Copied> {
    let header = segment.header();
    let stamp = || {
        (
            header.redo.commit.load(Ordering::Acquire), // partner: `step`; first: the number is raised before it is cleared
            header.drain_seq.load(Ordering::Acquire),   // partner: `try_lock`, `clear_record`
            header.drain_lock.load(Ordering::Acquire),  // partner: `try_lock`, `unlock`
        )
    };
    let before = stamp();
    let record = read_record(segment);
    let mut heads = Vec::new();
    for place in 0..segment.n_places() {
        heads.push(segment.place(place)?.head.load(Ordering::Acquire)); // partner: `drain_place`
    }
    // Behind the heads: what a head has passed stands in its cell, and the record tells of the one event that may not.
    let mut copied = Copied::of_cells(segment);
    if let Some(record) = record {
        lay_over(&record, &mut copied, &mut heads);
    }
    for (place, head) in heads.into_iter().enumerate() {
        add_pending(segment, plans, place, head, &mut copied.cells);
    }
    fence(Ordering::Acquire); // partner: the fence in `step`: a cell seen new means a commit seen new
    (stamp() == before).then_some(copied)
}

/// Does to the copy what `recover` would do to the segment.
fn lay_over(record: &Record, copied: &mut Copied, heads: &mut [u64]) {
    let (Some(head), Some(cell)) = (heads.get_mut(record.place), copied.cells.get_mut(record.cell))
    else {
        return;
    };
    match (record.kind, ahead(record, *head)) {
        (EVENT | FIRST_WORD, Some(distance)) => {
            *cell = record.new_words(*cell);
            *head = head.wrapping_add(distance);
        }
        (FOLD, _) => {
            *cell = record.words;
            copied.folded = Some((record.place, record.position as u32));
        }
        _ => {}
    }
}

fn copy_cells(segment: &Segment) -> Vec<Words> {
    used_cells(segment).iter().map(Words::of).collect()
}

fn add_pending(segment: &Segment, plans: &mut Plans, place: usize, head: u64, copy: &mut [Words]) {
    let Some(slots) = segment.ring(place) else { return };
    for i in 0..RING_SLOTS as u64 {
        let Some(event) = ring::peek(slots, head.wrapping_add(i)) else { return };
        let Some(Target { cell, kind }) = plans.target(segment, &event) else { continue };
        if let Some(words) = copy.get_mut(cell as usize) {
            *words = kind.apply(*words, event.value, f64::from(event.weight));
        }
    }
}
