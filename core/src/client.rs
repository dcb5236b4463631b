//! What bindings call: families and handles with cached ids, pushes, self-help; one attachment per process.
//!
//! A process attaches at its first family and claims a worker place at its first increment, never in
//! a fork handler. A forked child finds the place gone (see `os::PerProcess`) and claims its own; the
//! families and handles it inherited stay valid, since ids belong to the segment.
//!
//! **One producer at a time per process** is what the caller promises: Ruby's and CPython's global lock
//! keeps it. Two threads that push at the very same moment would not corrupt anything, but could lose
//! one of the two events. Where nothing keeps threads apart, [`allow_threads`] gives each pushing thread
//! a place of its own.

use std::borrow::Cow;
use std::cell::Cell;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError};
use std::time::Duration;

use hashbrown::{Equivalent, HashMap};

use crate::aggregator;
use crate::config::Config;
use crate::drain::{self, Copied, Drainer, Plans};
use crate::error::Error;
use crate::exemplar;
use crate::expiry::Idle;
use crate::layout::*;
use crate::native::CellMap;
use crate::os;
use crate::producer::{self, Memory, Producer};
use crate::registry::{self, Placed};
use crate::ring::{self, Event, Of};
use crate::segment::{Caps, Carrier, Segment};
use crate::sets;
use crate::snapshot::{self, SeriesPlace, Totals};
use crate::sync::{AlwaysRef, AtomicRef, AtomicU128, AtomicU32, AtomicU64, Ordering};
use crate::totals;
use crate::window;
use crate::worker::{self, Worker, SELF_HELP_AT};

pub use crate::exemplar::{Exemplar, MAX_CODE_POINTS};
pub use crate::native::{Native, NativeHistogram};
pub use crate::registry::{FamilySpec, GaugeMode, MetricType};

/// How long a scrape, a `get` or a removal waits for the drain lock before it looks without it.
pub(crate) const LOCK_PATIENCE: Duration = Duration::from_millis(100);
/// Without a place, a claim is tried again after so many direct adds.
const CLAIM_EVERY: u64 = 4096;
/// With a full ring and a busy lock, the kernel is asked about the lock's holder after so many.
const ASK_KERNEL_EVERY: u64 = 256;

// ---------------------------------------------------------------------------------------------
// The process's state

/// A claimed place and its side of draining.
pub(crate) struct Own {
    pub(crate) worker: Worker,
    drainer: Mutex<Drainer>,
    /// Places for pushing threads that no thread has now: in the process's own place only.
    idle: Mutex<Vec<&'static Own>>,
}

/// The place by which this process drains and sets gauges. Emptied in forked children.
static OWN: os::PerProcess<Own> = os::PerProcess::new();
/// Where the hot path pushes: into that same place, or nowhere where threads push at the same time. A forked child
/// finds nobody's producer there, too (`producer::Memory::WipedOnFork`).
static PRODUCER: AlwaysRef<Producer> = AlwaysRef::new(&producer::NOBODYS);
/// Further places of this process, each under the identifier of the worker that it plays.
static PLAYED: os::PerProcess<Mutex<Vec<(u64, &'static Own)>>> = os::PerProcess::new();
/// Held while a place is claimed: the kernel would give a byte to two threads of one process. Only tried.
static CLAIMING: Mutex<()> = Mutex::new(());
/// Held while one of several threads adds to a gauge.
static ADDING: Mutex<()> = Mutex::new(());
static SEGMENT: AtomicRef<Segment> = AtomicRef::new();
static CONFIG: AtomicRef<Config> = AtomicRef::new();
static LOG: Mutex<Option<fn(&str)>> = Mutex::new(None);
static FAMILIES: Mutex<Vec<&'static Family>> = Mutex::new(Vec::new());
static ATTACHING: Mutex<()> = Mutex::new(());
static DIRECT_PLANS: Mutex<Option<Plans>> = Mutex::new(None);
/// What this process knows of idle series. Only tried.
static IDLE: Mutex<Idle> = Mutex::new(Idle::new());
/// Direct adds of this process; paces what costs a system call.
static DIRECT_ADDS: AtomicU64 = AtomicU64::new(0);
static FORK_HANDLER: Once = Once::new();

extern "C" fn forget_place_in_child() {
    os::forget_namespace_if_new();
    aggregator::forget_scraper();
    forget_place();
    PLAYED.clear();
}

/// The next call claims another place: in a forked child, or when ours was taken from us.
fn forget_place() {
    PRODUCER.set(&producer::NOBODYS);
    OWN.clear();
    DIRECT_ADDS.store(0, Ordering::Relaxed); // a child without a place claims one at its first increment
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sets the configuration; false, without effect, when this process is attached already.
pub fn configure(config: Config) -> bool {
    if SEGMENT.get().is_some() {
        return false;
    }
    CONFIG.set(Box::leak(Box::new(config)));
    true
}

/// The configuration in force: what [`configure`] set, else the environment's.
pub fn config() -> &'static Config {
    CONFIG.get().unwrap_or_else(|| {
        let (config, errors) = Config::from_env();
        errors.iter().for_each(|error| log(&error.to_string()));
        let config: &'static Config = Box::leak(Box::new(config));
        CONFIG.set(config);
        config
    })
}

/// Where notices go, one line each; stderr if never set.
pub fn set_log(sink: fn(&str)) {
    *lock(&LOG) = Some(sink);
}

/// In a process of our own, forked off the app's, there is no app to take notices.
pub(crate) fn log_to_stderr() {
    if let Ok(mut sink) = LOG.try_lock() {
        *sink = None;
    }
}

/// Says one line where notices go.
pub fn log(line: &str) {
    let sink = *lock(&LOG);
    match sink {
        Some(sink) => sink(line),
        None => os::write_stderr(line),
    }
}

/// Attaches this process to the app's segment. Never fails: an app whose segment cannot be used runs
/// on with one that only its forks, or only this process, share, and one line says so.
pub fn attach() {
    segment();
}

/// The segment's file; None when there is none that other processes could find.
pub fn segment_path() -> Option<PathBuf> {
    match segment().carrier() {
        Carrier::Named(path) => Some(path.clone()),
        Carrier::Inherited | Carrier::Private => None,
    }
}

/// Forgets attachment, configuration and families, so that a test can start with a fresh segment.
/// Handles obtained before keep pointing to the old one's ids and must not be used again.
pub fn detach_for_tests() {
    let _attaching = lock(&ATTACHING);
    forget_place();
    PLAYED.clear();
    worker::forget_threads();
    SEGMENT.clear();
    CONFIG.clear();
    lock(&FAMILIES).clear();
    *lock(&DIRECT_PLANS) = None;
    *lock(&IDLE) = Idle::new();
}

/// This process's client works on that segment from now on, as if it had attached to it.
#[cfg(feature = "proof")]
pub(crate) fn adopt(segment: &'static Segment) {
    detach_for_tests();
    FORK_HANDLER.call_once(|| os::on_fork_child(forget_place_in_child));
    SEGMENT.set(segment);
}

pub(crate) fn segment() -> &'static Segment {
    SEGMENT.get().unwrap_or_else(|| {
        let _attaching = lock(&ATTACHING);
        SEGMENT.get().unwrap_or_else(attach_now)
    })
}

fn attach_now() -> &'static Segment {
    FORK_HANDLER.call_once(|| os::on_fork_child(forget_place_in_child));
    // What a claim would have to ask for in each worker is had once, for all forks.
    OWN.prepare();
    Producer::prepare();
    os::pid_namespace();
    let segment: &'static Segment = Box::leak(Box::new(open_segment(config())));
    SEGMENT.set(segment);
    segment
}

/// The ladder: named file, memory shared with forks, memory of this process. Each step down loses
/// reach and says so.
fn open_segment(config: &Config) -> Segment {
    let caps =
        Caps { max_series: config.max_series, max_series_per_family: config.max_series_per_family };
    if !AtomicU128::is_lock_free() {
        log("this processor cannot exchange 16 bytes at once. Counting goes on in this process alone");
        return private_segment(caps);
    }
    let base = config.segment_base(os::uid());
    match Segment::open(&base, caps, config.adopt_seconds) {
        Ok(segment) => {
            if base.parent().is_some_and(|d| matches!(os::is_memory_backed(d), Ok(false))) {
                log(&format!(
                    "segment {}: its file system is on disk, so increments may stall while it writes back; \
                     set PROMRING_SEGMENT to a path on a tmpfs such as /dev/shm",
                    base.display()
                ));
            }
            segment
        }
        Err(error) => match Segment::inherited(caps) {
            Ok(segment) => {
                log(&format!(
                    "{error}. Counting goes on, but only this process and its forks share one /metrics"
                ));
                segment
            }
            Err(_) => {
                log(&format!("{error}. Counting goes on in this process alone"));
                private_segment(caps)
            }
        },
    }
}

fn private_segment(caps: Caps) -> Segment {
    let smallest = Caps { max_series: 1024, max_series_per_family: 1024 };
    match Segment::private(caps).or_else(|_| Segment::private(smallest)) {
        Ok(segment) => segment,
        Err(error) => {
            // Not even address space for a few megabytes: the allocator would have aborted long ago.
            panic!("promring: no memory to count in: {error}")
        }
    }
}

/// A successor stands under the segment's name (everyone had left it before this forked process used
/// it): attach to that one and register there what this process knows.
fn attach_anew() -> &'static Segment {
    let _attaching = lock(&ATTACHING);
    let segment = attach_now();
    *lock(&DIRECT_PLANS) = None;
    for family in lock(&FAMILIES).iter() {
        family.register_again(segment);
    }
    segment
}

/// This process's place, claimed now if it has none. None when no place is to be had.
fn own() -> Option<&'static Own> {
    if let Some(own) = OWN.get() {
        return Some(own);
    }
    let claiming = CLAIMING.try_lock().ok()?;
    if let Some(own) = OWN.get() {
        return Some(own); // another thread was quicker
    }
    let own = Own::leak(claim_where_others_look(&claiming)?);
    if PLAYED.get().is_some() {
        worker::note_mine(own.worker.place); // the workers that it plays must not take it for dead
    }
    OWN.set(own);
    drop(claiming);
    if worker::is_threaded() {
        lock(&own.idle).push(own); // one of the threads may push into it
    } else {
        PRODUCER.set(own.worker.producer);
    }
    // Whoever comes looks after those who went, so dead places do not pile up without an aggregator.
    if worker::look_is_due(own.worker.segment, own.worker.place) {
        own.with_lock(true, Drainer::reap_dead);
    }
    Some(own)
}

/// A place in the segment that stands under the app's name: when everybody had left the one that this
/// process inherited, a new process may have started another.
fn claim_where_others_look(_claiming: &MutexGuard<()>) -> Option<Worker> {
    let mut segment = segment();
    for _ in 0..8 {
        if segment.is_retired() {
            segment = attach_anew();
        }
        let worker = Worker::claim(segment, Memory::WipedOnFork)?;
        if !segment.is_retired() {
            return Some(worker); // attached and not retired: nobody retires it from now on
        }
        worker.leave();
    }
    None
}

// ---------------------------------------------------------------------------------------------
// Threads

/// Waits for another thread of this process, which is done in microseconds – or was not copied into this
/// forked child, and then the lock is not to be had.
fn patiently<T>(mutex: &Mutex<T>, patience: Duration) -> Option<MutexGuard<'_, T>> {
    let end = os::monotonic_ns() + patience.as_nanos() as u64;
    loop {
        match mutex.try_lock() {
            Ok(guard) => return Some(guard),
            Err(_) if os::monotonic_ns() >= end => return None,
            Err(_) => std::thread::yield_now(),
        }
    }
}

/// From now on threads of this process may push at the same time: each gets a worker place of its own,
/// and hands it on when it ends. To be called before anything is counted. An increment then costs a
/// look at the thread's storage more.
///
/// Rust programs want this, an interpreter without a global lock, and Ractors. Forking such a process
/// has the hazards that it always has with threads: only the forking one exists in the child.
pub fn allow_threads() {
    if worker::is_threaded() {
        return;
    }
    worker::allow_threads();
    PRODUCER.set(&producer::NOBODYS);
    if let Some(own) = OWN.get() {
        worker::note_mine(own.worker.place);
        lock(&own.idle).push(own);
    }
}

/// A thread's place, and the process's at that time: in a forked child that is another one.
struct ThreadPlace(Cell<Option<(&'static Own, &'static Own)>>);

thread_local! {
    static THREAD_PLACE: ThreadPlace = const { ThreadPlace(Cell::new(None)) };
}

impl ThreadPlace {
    fn get(&self) -> Option<&'static Own> {
        let process = own()?;
        if let Some((place, of)) = self.0.get() {
            if std::ptr::eq(of, process) && place.worker.owns_place() {
                return Some(place);
            }
            worker::forget_mine(place.worker.place); // taken from us, or the parent's
        }
        let idle = lock(&process.idle).pop();
        let claim = || {
            let _claiming = CLAIMING.try_lock().ok()?;
            Worker::claim(process.worker.segment, Memory::KeptInForks).map(Own::leak)
        };
        let place = idle.filter(|place| place.worker.owns_place()).or_else(claim)?;
        self.0.set(Some((place, process)));
        Some(place)
    }
}

impl Drop for ThreadPlace {
    /// The next thread goes on in the ring, where this one's last events may still stand.
    fn drop(&mut self) {
        if let Some((place, process)) = self.0.get() {
            if OWN.get().is_some_and(|own| std::ptr::eq(own, process)) {
                lock(&process.idle).push(place);
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------
// A process that plays several workers

/// Most workers that a process plays: a place takes some 30 kB.
const MAX_PLAYED: usize = 64;

/// Runs calls of this module as if another worker of the app made them, one with that number in place of
/// a process id: it has a place of its own, with its own gauges, until [`end_worker`] or the end of this
/// process. Where there is none to be had, and where threads push at the same time, they count as this
/// process's.
///
/// prometheus_client's `MultiProcessValue(process_identifier)` wants this.
pub fn as_worker<R>(number: u64, work: impl FnOnce() -> R) -> R {
    let Some(played) = played(number) else { return work() };
    let (host, producer) = (OWN.get(), PRODUCER.get());
    OWN.set(played);
    PRODUCER.set(played.worker.producer);
    let result = work();
    PRODUCER.set(producer);
    match host {
        Some(own) => OWN.set(own),
        None => OWN.clear(),
    }
    result
}

/// Ends a worker that this process plays, as the death of a process ends one; false when it plays none
/// of that number.
pub fn end_worker(number: u64) -> bool {
    let Some(all) = PLAYED.get() else { return false };
    let mut all = lock(all);
    let Some(at) = all.iter().position(|(of, _)| *of == number) else { return false };
    let (_, ended) = all.swap_remove(at);
    worker::forget_mine(ended.worker.place);
    ended.worker.leave(); // its lock: from here on it is dead by the kernel's word
    drop(all);
    drain_and_reap();
    true
}

/// The place of a worker that this process plays, claimed now if it has none.
fn played(number: u64) -> Option<&'static Own> {
    if worker::is_threaded() {
        return None;
    }
    let all = PLAYED.get().unwrap_or_else(|| {
        let none: &'static Mutex<_> = Box::leak(Box::new(Mutex::new(Vec::new())));
        PLAYED.set(none);
        OWN.get().into_iter().for_each(|own| worker::note_mine(own.worker.place));
        none
    });
    let mut all = lock(all);
    let usable = |own: &Own| own.worker.owns_place() && std::ptr::eq(own.worker.segment, segment());
    if let Some((_, own)) = all.iter().find(|(of, own)| *of == number && usable(own)) {
        return Some(own);
    }
    all.retain(|(_, own)| usable(own));
    if all.len() >= MAX_PLAYED {
        return None;
    }
    let own = {
        let claiming = CLAIMING.try_lock().ok()?;
        Own::leak(claim_where_others_look(&claiming)?)
    };
    worker::note_mine(own.worker.place);
    own.worker.call_itself(number);
    all.push((number, own));
    Some(own)
}

/// The place into which the calling thread pushes.
fn producer() -> Option<&'static Own> {
    if worker::is_threaded() {
        THREAD_PLACE.try_with(ThreadPlace::get).ok().flatten() // none in a thread that is ending
    } else {
        own()
    }
}

impl Own {
    fn leak(worker: Worker) -> &'static Own {
        let drainer = Mutex::new(Drainer::new(&worker));
        Box::leak(Box::new(Own { worker, drainer, idle: Mutex::new(Vec::new()) }))
    }

    /// Runs `work` under the drain lock; None when it is not free.
    fn with_lock<R>(&self, ask_kernel: bool, work: impl FnOnce(&mut Drainer) -> R) -> Option<R> {
        let mut drainer = self.drainer.try_lock().ok()?;
        drainer.try_lock(ask_kernel).then(|| {
            let result = work(&mut drainer);
            drainer.unlock();
            result
        })
    }

    fn with_lock_within<R>(
        &self,
        patience: Duration,
        work: impl FnOnce(&mut Drainer) -> R,
    ) -> Option<R> {
        let mut drainer = patiently(&self.drainer, patience)?; // another thread may be draining
        drainer.lock_within(patience).then(|| {
            let result = work(&mut drainer);
            drainer.unlock();
            result
        })
    }

    /// Drains our own ring if it is due and nobody else is draining.
    fn self_help(&self, ask_kernel: bool) {
        if self.worker.pending() >= SELF_HELP_AT {
            self.with_lock(ask_kernel, Drainer::drain_own);
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Pushing

/// The hot path.
#[inline]
fn push(series: &Series, packed: u64, value: u64) {
    if !PRODUCER.get().push(packed, value) {
        push_slow(series, packed, value);
    }
}

/// Threads, no place yet, place lost, end of the lap, ring due for a drain, or ring full: in this order.
#[cold]
#[inline(never)]
fn push_slow(series: &Series, packed: u64, value: u64) {
    // The id is read when the segment is certain: a successor segment gives the series another one.
    let packed = || match Event::unpack(packed, value) {
        Event { of: Of::Counter(_), .. } => series.packed(),
        Event { weight, .. } => ring::pack(series.id(), weight),
    };
    if !push_to_ring(packed, value) {
        add_direct(Event::unpack(packed(), value));
    }
}

/// Every way into the ring but the first; false when it is full and nobody can drain it now.
fn push_to_ring(packed: impl Fn() -> u64, value: u64) -> bool {
    let waiting = DIRECT_ADDS.load(Ordering::Relaxed); // a pace, no order
    if OWN.get().is_some_and(|own| !own.worker.owns_place()) {
        forget_place(); // taken from us: our lock was lost and nobody saw us run
    }
    if OWN.get().is_none() && !waiting.is_multiple_of(CLAIM_EVERY) {
        return false;
    }
    let Some(own) = producer() else { return false };
    let push = || own.worker.producer.push(packed(), value);
    if push() {
        return true;
    }
    own.self_help((waiting + 1).is_multiple_of(ASK_KERNEL_EVERY));
    aggregator::look_after();
    own.worker.extend() && push()
}

/// Ring full and the drain lock busy, or no place at all: add to the shared direct cells. Nothing is
/// dropped and nobody waits.
fn add_direct(event: Event) {
    let segment = segment();
    let counters = &segment.header().counters;
    DIRECT_ADDS.fetch_add(1, Ordering::Relaxed); // a pace, no order
    counters.direct_adds.fetch_add(1, Ordering::Relaxed); // before the add: a reader that sees none looks at no cell
    let target = match DIRECT_PLANS.try_lock() {
        Ok(mut plans) => plans.get_or_insert_with(Plans::default).target(segment, &event),
        Err(_) => Plans::default().target(segment, &event), // another thread is in here: do not wait
    };
    let cell = target.and_then(|target| Some((direct_cell(segment, target.cell)?, target.kind)));
    match cell {
        Some((at, kind)) => totals::add_direct(at, kind, event.value, f64::from(event.weight)),
        None => {
            counters.refused_no_space.fetch_add(1, Ordering::Relaxed); // a count, no order
        }
    }
}

fn direct_cell(segment: &'static Segment, cell: u32) -> Option<&'static DirectCell> {
    segment.at(Region::Direct, u64::from(cell) * size_of::<DirectCell>() as u64)
}

/// Called once per request by middleware and loggers: see [`aggregator::tick`].
pub fn tick() {
    aggregator::tick();
}

/// Processor time that this process reported before it replaced itself by exec.
pub(crate) fn cpu_ns_before_exec() -> u64 {
    own().map_or(0, |own| worker::cpu_ns_before_exec(segment(), own.worker.place))
}

/// Notes how much processor time this process has reported.
pub(crate) fn note_cpu_ns(used: u64) {
    if let Some(header) = own().and_then(|own| segment().place(own.worker.place)) {
        header.cpu_ns.store(used, Ordering::Relaxed); // read by this process alone, after an exec
    }
}

// ---------------------------------------------------------------------------------------------
// Reading

/// Drains, then reads under the lock; when its holder is stopped, reads a peek's copy instead.
fn consolidated<R>(read: impl Fn(&Segment, &Totals, Option<usize>) -> R) -> R {
    let (locked, segment, place) = drained(|segment, place| read(segment, &Totals::Locked, place));
    locked.unwrap_or_else(|| {
        until_current(segment, || {
            let copied = peek(segment);
            (read(segment, &Totals::Copy(&copied), place), copied)
        })
    })
}

/// Drains and reads under the lock: None when its holder is stopped. With it go the segment and this
/// process's place in it, in this order: a claim may move to a successor segment.
fn drained<R>(
    read: impl FnOnce(&Segment, Option<usize>) -> R,
) -> (Option<R>, &'static Segment, Option<usize>) {
    let own = own();
    let segment = segment();
    let place = own.map(|own| own.worker.place);
    let result = own.and_then(|own| {
        own.with_lock_within(LOCK_PATIENCE, |drainer| {
            drainer.drain_all();
            if segment.n_places() == MAX_PLACES {
                drainer.reap_dead(); // newcomers do it otherwise, and may find no place
            }
            read(segment, place)
        })
    });
    (result, segment, place)
}

/// Copies totals and reads workers' gauges until no dead worker's values have moved from the one to the
/// other in between; three times at the most.
fn until_current<R>(segment: &Segment, read: impl Fn() -> (R, Copied)) -> R {
    let mut result = read();
    for _ in 0..2 {
        if result.1.is_current(segment) {
            break;
        }
        result = read();
    }
    result.0
}

/// A copy of the totals made without the lock.
fn peek(segment: &Segment) -> Copied {
    let mut plans = Plans::default();
    for _ in 0..64 {
        if let Some(copied) = drain::peek(segment, &mut plans) {
            return copied;
        }
        std::thread::sleep(Duration::from_micros(100)); // a running holder is done soon
    }
    Copied::of_cells(segment)
}

/// Everything for one exposition: drained under the lock if it can be had, else peeked.
/// Returns the copy, the caller's place, and whether it was peeked.
pub(crate) fn copy_all() -> (Copied, Option<usize>, bool) {
    let (locked, segment, place) = drained(|segment, _| Copied::of_cells(segment));
    match locked {
        Some(copied) => (copied, place, false),
        None => {
            segment.header().counters.peeks.fetch_add(1, Ordering::Relaxed); // a count, no order
            (peek(segment), place, true)
        }
    }
}

/// The aggregator's round: all rings, then the dead.
pub(crate) fn drain_and_reap() {
    if let Some(own) = own() {
        own.with_lock_within(LOCK_PATIENCE, |drainer| {
            drainer.drain_all();
            drainer.reap_dead();
        });
    }
}

/// Removes the series that have been idle for the time that is configured, if it is time for a look at them.
pub(crate) fn expire_idle() {
    let ttl = Duration::from_secs(config().series_ttl);
    let now = os::monotonic_ns();
    let Ok(mut idle) = IDLE.try_lock() else { return }; // another thread is at it
    if ttl.is_zero() || !idle.is_due(now) {
        return;
    }
    if let Some(own) = own() {
        let segment = own.worker.segment;
        own.with_lock_within(LOCK_PATIENCE, |drainer| idle.look(segment, drainer, ttl, now));
    }
}

// ---------------------------------------------------------------------------------------------
// Families

/// A metric family as this process uses it.
pub struct Family {
    spec: FamilySpec,
    link: Mutex<Link>,
    series: Mutex<Handles>,
    overflow: OnceLock<&'static Series>,
}

/// Where the family stands in the present segment.
struct Link {
    id: u32,
    /// As registered there: label order may differ from ours.
    registered: FamilySpec,
    /// For each registered label, the index of its value in our order.
    order: Vec<usize>,
    /// With exponential buckets: which cells belong to which.
    cells: Option<Arc<CellMap>>,
}

/// The handles that this process has asked for.
#[derive(Default)]
struct Handles {
    by_labels: HashMap<LabelValues, &'static Series>,
    /// Room for more. Handles lie side by side: a push reads one, and which one nobody can foresee.
    unused: &'static [Series],
}

impl Handles {
    const MOST_AT_ONCE: usize = 128; // 4 KiB

    fn get(&self, label_values: &[&str]) -> Option<&'static Series> {
        self.by_labels.get(&GivenValues(label_values)).copied()
    }

    fn add(&mut self, family: &'static Family, key: LabelValues) -> &'static Series {
        if self.unused.is_empty() {
            let n = self.by_labels.len().clamp(1, Self::MOST_AT_ONCE);
            self.unused = Box::leak((0..n).map(|_| Series::unused(family)).collect());
        }
        let (series, rest) = self.unused.split_first().expect("at least one");
        self.unused = rest;
        self.by_labels.insert(key, series);
        series
    }
}

#[derive(PartialEq, Eq, Hash)]
struct LabelValues(Box<[Box<str>]>);

/// Label values as given, for looking up without copying them.
#[derive(Hash)]
struct GivenValues<'a>(&'a [&'a str]);

impl Equivalent<LabelValues> for GivenValues<'_> {
    fn equivalent(&self, key: &LabelValues) -> bool {
        self.0.len() == key.0.len() && self.0.iter().zip(&key.0).all(|(a, b)| **a == **b)
    }
}

/// The value of one series over all workers.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A counter or a gauge.
    Number(f64),
    /// A summary.
    Summary {
        /// Observations, weighted.
        count: f64,
        /// Their sum.
        sum: f64,
    },
    /// A histogram.
    Histogram {
        /// Observations per bucket, **not** cumulative, `+Inf` last.
        counts: Vec<f64>,
        /// Their sum.
        sum: f64,
    },
}

/// One series of [`Family::collect`].
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesValue {
    /// In the order of the family's label names; empty for the overflow series.
    pub label_values: Vec<String>,
    /// Set under the gauge modes `all` and `liveall`: pid or worker number.
    pub worker: Option<String>,
    /// The value.
    pub value: Value,
    /// Creation time, seconds since the Unix epoch.
    pub created_seconds: f64,
    /// Of a counter, under 0, and of a histogram's classic buckets, by their indices; where there are none,
    /// under any number.
    pub exemplars: Vec<(usize, Exemplar)>,
    /// True for the series that stands for label sets beyond the caps.
    pub overflow: bool,
}

/// The family of that name, shared by all processes of the app; registered now if it is new.
///
/// # Errors
/// [`Error::FamilyConflict`] when the name has another type, label set, buckets or gauge mode;
/// the `Error`s of [`FamilySpec::validate`]; [`Error::Full`] when there is no memory for it.
pub fn family(spec: &FamilySpec) -> Result<&'static Family, Error> {
    let segment = segment();
    let spec = &configured(spec);
    let mut families = lock(&FAMILIES);
    let known = families
        .iter()
        .find(|f| f.spec.name == spec.name && f.spec.label_names == spec.label_names);
    if let Some(family) = known {
        // Ours already; the registry still decides whether the rest agrees.
        registry::find_or_add_family(segment, spec)?;
        return Ok(family);
    }
    let family: &'static Family = Box::leak(Box::new(Family::register(segment, spec)?));
    families.push(family);
    Ok(family)
}

/// A histogram's spec, with the exponential buckets that configuration asks for by its name; a summary's, with the
/// quantiles.
fn configured(spec: &FamilySpec) -> Cow<'_, FamilySpec> {
    let summary = spec.metric_type == MetricType::Summary && spec.buckets.is_empty();
    if let Some(rule) = config().quantiles_for(&spec.name).filter(|_| summary) {
        let (least, most) = rule.range;
        let native = Some(Native::new(rule.schema).within(least, most));
        let buckets = rule.quantiles.clone();
        return Cow::Owned(FamilySpec { native, buckets, ..spec.clone() });
    }
    let histogram = spec.metric_type == MetricType::Histogram && spec.native.is_none();
    match config().native_for(&spec.name).filter(|_| histogram) {
        Some((schema, alone)) => {
            let native = Some(Native { alone, ..Native::around(schema, &spec.buckets) });
            Cow::Owned(FamilySpec { native, ..spec.clone() })
        }
        None => Cow::Borrowed(spec),
    }
}

/// How a name is registered by any process of the app.
pub fn registered(name: &str) -> Option<FamilySpec> {
    registry::family_named(segment(), name)
}

/// Every family that any process of the app has registered.
pub fn families() -> Vec<&'static Family> {
    let segment = segment();
    let specs =
        (0..registry::n_families(segment)).filter_map(|id| registry::family_spec(segment, id));
    specs.filter_map(|spec| family(&spec).ok()).collect()
}

impl Family {
    fn register(segment: &Segment, spec: &FamilySpec) -> Result<Family, Error> {
        let (id, registered) = registry::find_or_add_family(segment, spec)?;
        let order = order_of(&registered, spec);
        let cells =
            registered.native.map(|native| CellMap::new(registered.classic_bounds(), native));
        let cells = cells.map(Arc::new);
        if registered.event_cells().is_some() || registered.is_set() {
            window::begin(segment, config().summary_window);
        }
        let (native, buckets) = (registered.native, registered.buckets.clone());
        Ok(Family {
            spec: FamilySpec { native, buckets, ..spec.clone() },
            link: Mutex::new(Link { id, registered, order, cells }),
            series: Mutex::default(),
            overflow: OnceLock::new(),
        })
    }

    /// In a successor segment ids start anew.
    fn register_again(&'static self, segment: &'static Segment) {
        match Family::register(segment, &self.spec) {
            Ok(again) => {
                *lock(&self.link) = again.link.into_inner().unwrap_or_else(PoisonError::into_inner)
            }
            Err(error) => log(&error.to_string()),
        }
        for (values, series) in &lock(&self.series).by_labels {
            let values: Vec<&str> = values.0.iter().map(|v| &**v).collect();
            let (Placed::Series(id) | Placed::Overflow(id)) = self.place(segment, &values);
            series.point_to(segment, id);
        }
        if let Some(overflow) = self.overflow.get() {
            let link = lock(&self.link);
            let id = registry::overflow_series(segment, link.id);
            overflow.point_to(segment, id);
        }
    }

    /// What it was registered with in this process.
    pub fn spec(&self) -> &FamilySpec {
        &self.spec
    }

    /// The series of a label set, values in the order of the spec's label names: `labels(...)`.
    ///
    /// Beyond a cap, or with a value over 1 KiB, this is the family's overflow series: the sum over
    /// the family stays exact. A removed series comes back, at zero.
    ///
    /// # Errors
    /// [`Error::LabelCount`] only.
    pub fn series(&'static self, label_values: &[&str]) -> Result<&'static Series, Error> {
        self.check_count(label_values)?;
        let known = lock(&self.series).get(label_values);
        if let Some(series) = known {
            return Ok(self.usable(series));
        }
        let segment = segment();
        let series = match self.place(segment, label_values) {
            Placed::Overflow(id) => {
                own().into_iter().for_each(|own| own.worker.note_overflow());
                self.overflow_series(segment, id)
            }
            Placed::Series(id) => {
                let mut known = lock(&self.series);
                // Another thread may have been quicker.
                known.get(label_values).unwrap_or_else(|| {
                    let key = LabelValues(label_values.iter().map(|v| Box::from(*v)).collect());
                    let series = known.add(self, key);
                    series.point_to(segment, id);
                    series
                })
            }
        };
        Ok(self.usable(series))
    }

    /// The series itself, revived if it was removed. If its last life cannot be cleared away now (the
    /// drain lock's holder is stopped), the overflow series takes the counts meanwhile.
    fn usable(&'static self, series: &'static Series) -> &'static Series {
        let segment = segment();
        if series.is_live() {
            return series;
        }
        if registry::is_removing(segment, series.id()) {
            zero_hidden(&[series.id()]);
        }
        if registry::revive(segment, series.id()) {
            return series;
        }
        let link = lock(&self.link);
        let id = registry::overflow_series(segment, link.id);
        drop(link);
        registry::revive(segment, id);
        self.overflow_series(segment, id)
    }

    fn check_count(&self, label_values: &[&str]) -> Result<(), Error> {
        let (expected, given) = (self.spec.label_names.len(), label_values.len());
        if expected == given {
            return Ok(());
        }
        Err(Error::LabelCount { metric: self.spec.name.clone(), expected, given })
    }

    fn place(&self, segment: &Segment, label_values: &[&str]) -> Placed {
        let link = lock(&self.link);
        let ordered: Vec<&str> = link.order.iter().map(|i| label_values[*i]).collect();
        registry::find_or_add_series(segment, link.id, &link.registered, &ordered)
    }

    /// Where a series' values lie, and what its cells mean if there are exponential buckets.
    fn place_of(&self, segment: &Segment, id: u32) -> Option<(SeriesPlace, Option<Arc<CellMap>>)> {
        let link = lock(&self.link);
        let n_cells = match &link.cells {
            Some(cells) => cells.n_cells() as u64, // of a summary, those without its window
            None => link.registered.cells_per_series(),
        };
        let place = SeriesPlace::of(segment, id, &link.registered, n_cells as u32)?;
        Some((place, link.cells.clone()))
    }

    fn overflow_series(&'static self, segment: &'static Segment, id: u32) -> &'static Series {
        self.overflow.get_or_init(|| {
            let series: &'static Series = Box::leak(Box::new(Series::unused(self)));
            series.point_to(segment, id);
            series
        })
    }

    /// Hides the series of a label set in all processes; false when there is none.
    ///
    /// # Errors
    /// [`Error::LabelCount`] only.
    pub fn remove(&'static self, label_values: &[&str]) -> Result<bool, Error> {
        self.check_count(label_values)?;
        let removed =
            self.remove_where(|values| values.iter().zip(label_values).all(|(a, b)| a == b));
        Ok(removed > 0)
    }

    /// Hides every series that has these labels, whatever its others; returns how many.
    pub fn remove_matching(&'static self, labels: &[(&str, &str)]) -> usize {
        let names = &self.spec.label_names;
        let wanted: Option<Vec<(usize, &str)>> = labels
            .iter()
            .map(|(name, value)| Some((names.iter().position(|n| n == name)?, *value)))
            .collect();
        let Some(wanted) = wanted else { return 0 };
        self.remove_where(|values| wanted.iter().all(|(i, value)| values[*i] == *value))
    }

    /// Hides every series.
    pub fn clear(&'static self) {
        self.remove_where(|_| true);
    }

    fn remove_where(&'static self, matches: impl Fn(&[String]) -> bool) -> usize {
        let segment = segment();
        let doomed: Vec<u32> = self
            .live_series(segment)
            .into_iter()
            .filter(|(_, values, overflow)| !overflow && matches(values))
            .map(|(id, _, _)| id)
            .filter(|id| registry::hide(segment, *id))
            .collect();
        // Killed or refused before this, they stay hidden, and whoever revives one of them does it.
        zero_hidden(&doomed);
        doomed.len()
    }

    /// Id, label values in our order, and whether it is the overflow series, of all live series.
    fn live_series(&self, segment: &Segment) -> Vec<(u32, Vec<String>, bool)> {
        let link = lock(&self.link);
        let mut found = Vec::new();
        for id in 1..registry::n_series(segment) {
            let Some(entry) = segment.series(id) else { break };
            let state = entry.state.load(Ordering::Acquire); // partner: `registry::publish`
            let ours = entry.family.load(Ordering::Relaxed) == link.id; // published with `state`
            if !ours || !registry::is_shown(state) {
                continue;
            }
            if entry.text.load(Ordering::Relaxed) == 0 {
                found.push((id, Vec::new(), true)); // published with `state`
                continue;
            }
            let Some(values) = registry::label_values(segment, entry) else { continue };
            if values.len() == link.order.len() {
                let mut ours = vec![String::new(); values.len()];
                for (value, at) in values.into_iter().zip(&link.order) {
                    ours[*at] = value;
                }
                found.push((id, ours, false));
            }
        }
        found
    }

    /// All series over all processes, drained first.
    pub fn collect(&'static self) -> Vec<SeriesValue> {
        let label = config().gauge_label;
        consolidated(|segment, totals, own| {
            let mut all = Vec::new();
            for (id, label_values, overflow) in self.live_series(segment) {
                let (Some((place, cells)), Some(entry)) =
                    (self.place_of(segment, id), segment.series(id))
                else {
                    continue;
                };
                let created_seconds = entry.created_ns.load(Ordering::Relaxed) as f64 / 1e9; // published with `state`
                let mut push = |worker, value| {
                    let label_values = label_values.clone();
                    let exemplars = place.exemplars(segment, &self.spec.buckets);
                    all.push(SeriesValue {
                        label_values,
                        worker,
                        value,
                        created_seconds,
                        exemplars,
                        overflow,
                    });
                };
                if self.spec.metric_type == MetricType::Gauge {
                    let gauge = snapshot::read_gauge(segment, totals, &place, own);
                    gauge.merged.into_iter().for_each(|value| push(None, Value::Number(value)));
                    for (place, value) in gauge.per_worker {
                        let worker = snapshot::worker_label(segment, place, label);
                        push(Some(worker), Value::Number(value));
                    }
                } else {
                    push(None, event_value(segment, totals, &place, cells.as_deref()));
                }
            }
            all
        })
    }
}

/// For each label as registered, where its value stands among ours.
fn order_of(registered: &FamilySpec, ours: &FamilySpec) -> Vec<usize> {
    let at = |name: &String| ours.label_names.iter().position(|n| n == name);
    registered.label_names.iter().filter_map(at).collect()
}

fn event_value(
    segment: &Segment,
    totals: &Totals,
    place: &SeriesPlace,
    cells: Option<&CellMap>,
) -> Value {
    let mut numbers = Vec::new();
    snapshot::read_events(segment, totals, place, true, &mut numbers);
    if let Some(cells) = cells {
        let all = std::mem::take(&mut numbers);
        cells.classic(&all, &mut numbers);
    }
    match place.metric_type {
        MetricType::Histogram => Value::Histogram {
            counts: numbers.iter().map(|[count, _]| *count).collect(),
            sum: numbers.iter().map(|[_, sum]| *sum).sum(),
        },
        MetricType::Summary => Value::Summary { count: numbers[0][0], sum: numbers[0][1] },
        MetricType::Counter | MetricType::Gauge => Value::Number(numbers[0][0]),
    }
}

/// Clears away what hidden series have counted, if the drain lock can be had.
fn zero_hidden(ids: &[u32]) {
    if let Some(own) = own().filter(|_| !ids.is_empty()) {
        own.with_lock_within(LOCK_PATIENCE, |drainer| drainer.zero_hidden(ids));
    }
}

// ---------------------------------------------------------------------------------------------
// Handles

/// One series as a process uses it: the handle that `labels(...)` returns. No call on it blocks,
/// allocates or raises.
pub struct Series {
    /// What its events carry: a counter's [`ring::pack_whole`], else [`ring::pack`] with weight 1; with 0 if it takes
    /// none. So it tells the type, too, and a call reads one word of the handle.
    packed: AtomicU64,
    entry: AtomicRef<SeriesEntry>,
    id: AtomicU32,
    metric_type: MetricType,
    family: &'static Family,
}

impl Series {
    /// Of no series yet.
    fn unused(family: &'static Family) -> Series {
        Series {
            packed: AtomicU64::new(0),
            entry: AtomicRef::new(),
            id: AtomicU32::new(0),
            metric_type: family.spec.metric_type,
            family,
        }
    }

    fn point_to(&self, segment: &'static Segment, id: u32) {
        let mut cell = 0; // nobody's
        if let Some(entry) = segment.series(id) {
            self.entry.set(entry);
            cell = entry.cell.load(Ordering::Relaxed); // written before the id was handed out
        }
        let packed = match self.metric_type {
            MetricType::Counter => ring::pack_whole(cell),
            MetricType::Histogram | MetricType::Summary => ring::pack(id, 1.0),
            MetricType::Gauge => ring::pack(id, 0.0),
        };
        self.packed.store(packed, Ordering::Relaxed); // used by this process's producer only, and so is the id
        self.id.store(id, Ordering::Relaxed);
    }

    #[inline]
    fn packed(&self) -> u64 {
        self.packed.load(Ordering::Relaxed) // see `point_to`
    }

    fn id(&self) -> u32 {
        self.id.load(Ordering::Relaxed) // see `point_to`
    }

    /// The family it belongs to.
    pub fn family(&self) -> &'static Family {
        self.family
    }

    /// False after a removal: ask the family for the series again, which revives it.
    #[inline]
    pub fn is_live(&self) -> bool {
        let state = self.entry.get().map_or(0, |entry| entry.state.load(Ordering::Relaxed)); // a hint, rechecked
        registry::takes_counts(state)
    }

    /// Adds to a counter. False, and counted as refused, when the amount is negative, NaN or infinite
    /// or this is no counter.
    #[inline]
    pub fn inc(&self, amount: f64) -> bool {
        let packed = self.packed();
        let is_counter = ring::is_whole(packed);
        match totals::whole(amount) {
            Some(whole) if is_counter => push(self, packed, whole),
            None if is_counter && (0.0..f64::INFINITY).contains(&amount) => {
                push(self, ring::pack(self.id(), 1.0), amount.to_bits());
            }
            _ => return self.refuse(amount, is_counter),
        }
        true
    }

    /// Observes a value in a histogram or summary. False, and counted as refused, when it is NaN or
    /// infinite or this takes no observations.
    #[inline]
    pub fn observe(&self, value: f64) -> bool {
        // The bits alone, so that the value keeps no other register busy.
        let (bits, packed) = (value.to_bits(), self.packed());
        // Finite, by one comparison of the bits but the sign's.
        if bits << 1 < f64::INFINITY.to_bits() << 1 && ring::weighs_one(packed) {
            push(self, packed, bits);
            return true;
        }
        self.refuse_observation(bits)
    }

    #[cold]
    #[inline(never)]
    fn refuse_observation(&self, bits: u64) -> bool {
        self.refuse(f64::from_bits(bits), self.takes_observations())
    }

    #[inline]
    fn takes_observations(&self) -> bool {
        ring::weighs_one(self.packed())
    }

    /// As [`Series::observe`], counting `weight` times: 1/rate of a sampled StatsD call.
    #[inline]
    pub fn observe_weighted(&self, value: f64, weight: f32) -> bool {
        if weight == 1.0 || !(weight > 0.0 && weight < f32::INFINITY) {
            return self.observe(if weight == 1.0 { value } else { f64::NAN });
        }
        if self.takes_observations() && value.abs() < f64::INFINITY {
            push(self, ring::pack(self.id(), weight), value.to_bits());
            return true;
        }
        self.observe(value) // refused there
    }

    /// As [`Series::inc`], and keeps what led to it as the counter's exemplar: see
    /// [`Series::keep_exemplar`]. False when the amount is refused.
    ///
    /// # Errors
    /// [`Error::Exemplar`] when the labels cannot be those of one; the amount is counted nevertheless,
    /// as prometheus_client does.
    pub fn inc_with_exemplar(
        &self,
        amount: f64,
        labels: &[(&str, &str)],
        unix_seconds: Option<f64>,
    ) -> Result<bool, Error> {
        Ok(self.inc(amount) && {
            self.keep_exemplar(amount, labels, unix_seconds)?;
            true
        })
    }

    /// As [`Series::observe`], and keeps what led to it as the exemplar of the histogram's bucket.
    ///
    /// # Errors
    /// As [`Series::inc_with_exemplar`]; [`Error::WrongType`] for a summary, which has no exemplars.
    pub fn observe_with_exemplar(
        &self,
        value: f64,
        labels: &[(&str, &str)],
        unix_seconds: Option<f64>,
    ) -> Result<bool, Error> {
        Ok(self.observe(value) && {
            self.keep_exemplar(value, labels, unix_seconds)?;
            true
        })
    }

    /// Keeps an exemplar of a value that was counted, now or at the time given, for all processes: the
    /// latest is shown. False when it is not kept: the value cannot be counted, there is no room, or 16
    /// have come for it in the last tenth of a second.
    ///
    /// # Errors
    /// [`Error::Exemplar`]: more than 128 characters, or a label name that is empty, given twice or
    /// holds a control character. [`Error::WrongType`] unless this is a counter or a histogram.
    pub fn keep_exemplar(
        &self,
        value: f64,
        labels: &[(&str, &str)],
        unix_seconds: Option<f64>,
    ) -> Result<bool, Error> {
        let spec = &self.family.spec;
        if !matches!(self.metric_type, MetricType::Counter | MetricType::Histogram) {
            return Err(Error::WrongType {
                metric: spec.name.clone(),
                operation: "an exemplar",
                metric_type: self.metric_type.as_str(),
            });
        }
        let labels = exemplar::Labels::new(&spec.name, labels)?;
        let unix_seconds = unix_seconds.unwrap_or_else(|| os::unix_ns() as f64 / 1e9);
        let number = registry::exemplar_number(self.metric_type, &spec.buckets, value);
        Ok(self.entry.get().zip(number).is_some_and(|(entry, number)| {
            let cell = entry.cell.load(Ordering::Relaxed) + number as u32; // written once
            let generation = self.generation_stamp() as u32 - 1;
            exemplar::keep(segment(), cell, generation, &labels, value, unix_seconds)
        }))
    }

    /// The exemplar of a counter, or of a histogram's bucket by its index; whichever process has kept it.
    pub fn exemplar(&self, bucket: usize) -> Option<Exemplar> {
        let (place, _) = self.family.place_of(segment(), self.id())?;
        let exemplars = place.exemplars(segment(), &self.family.spec.buckets);
        exemplars.into_iter().find(|(number, _)| *number == bucket).map(|(_, exemplar)| exemplar)
    }

    #[cold]
    fn refuse(&self, value: f64, fits: bool) -> bool {
        let counters = &segment().header().counters;
        let which = match (fits, value < 0.0 && value.is_finite()) {
            (false, _) => &counters.refused_wrong_type,
            (true, true) => &counters.refused_negative,
            (true, false) => &counters.refused_not_finite,
        };
        which.fetch_add(1, Ordering::Relaxed); // a count, no order
        false
    }

    /// Sets a gauge.
    pub fn set(&self, value: f64) -> bool {
        self.set_stamped(value, None)
    }

    /// Sets a gauge of a mostrecent mode as of another time than now.
    pub fn set_at(&self, value: f64, unix_seconds: f64) -> bool {
        self.set_stamped(value, Some((unix_seconds * 1e9) as u64))
    }

    fn set_stamped(&self, value: f64, at_ns: Option<u64>) -> bool {
        if self.metric_type != MetricType::Gauge || self.family.spec.is_set() {
            return self.refuse(value, false);
        }
        if self.family.spec.gauge_mode == GaugeMode::Shared {
            return self.update_shared(|_| totals::shared_gauge(value));
        }
        let Some(cell) = self.own_gauge_cell() else { return self.no_space() };
        cell.value.store(value.to_bits(), Ordering::Relaxed); // ordered by the stamp
        let stamp = if self.family.spec.gauge_mode.is_most_recent() {
            at_ns.unwrap_or_else(os::unix_ns).max(1)
        } else {
            self.generation_stamp()
        };
        cell.stamp.store(stamp, Ordering::Release); // partner: `Stamped::read`
        true
    }

    /// Adds to a gauge: to this process's part, or atomically to a shared one.
    pub fn add(&self, amount: f64) -> bool {
        if self.metric_type != MetricType::Gauge || self.family.spec.is_set() {
            return self.refuse(amount, false);
        }
        if self.family.spec.gauge_mode == GaugeMode::Shared {
            return self.update_shared(|old| totals::shared_gauge(old.floats().0 + amount));
        }
        // Threads share their process's cell, and the first addition sets it.
        let _alone = worker::is_threaded().then(|| patiently(&ADDING, LOCK_PATIENCE));
        self.set(self.get_local() + amount)
    }

    /// Adds a value to a gauge of the mode `unique`, for all processes: it shows about how many different ones the
    /// last while has brought, with a standard error of 3.25 %. False, and counted as refused, for another metric.
    ///
    /// ```
    /// # let directory = std::env::temp_dir().join(format!("promring-doc-set-{}", std::process::id()));
    /// # let mut config = promring::config::Config::default();
    /// # config.segment = Some(directory.join("segment"));
    /// # promring::client::configure(config);
    /// use promring::client::{family, FamilySpec, GaugeMode, MetricType, Value};
    /// let users = family(&FamilySpec {
    ///     name: "users".into(),
    ///     help: "Users seen in the last ten minutes.".into(),
    ///     unit: String::new(),
    ///     metric_type: MetricType::Gauge,
    ///     gauge_mode: GaugeMode::Unique,
    ///     label_names: Vec::new(),
    ///     buckets: Vec::new(),
    ///     native: None,
    /// })?;
    /// let users = users.series(&[])?;
    /// for user in ["ada", "bob", "ada"] {
    ///     users.add_to_set(user.as_bytes());
    /// }
    /// let Value::Number(users) = users.get() else { unreachable!() };
    /// assert!((1.0..=2.0).contains(&users)); // 2, but in one of a thousand apps, where the two cannot be told apart
    /// # std::fs::remove_dir_all(directory).unwrap();
    /// # Ok::<(), promring::error::Error>(())
    /// ```
    pub fn add_to_set(&self, value: &[u8]) -> bool {
        if !self.family.spec.is_set() {
            return self.refuse(0.0, false);
        }
        let cell = self.entry.get().map(|entry| entry.cell.load(Ordering::Relaxed)); // written once
        let hash = registry::segment_hash(segment(), value); // seeded: nobody can choose values that all weigh much
        match cell.and_then(|cell| sets::add(segment(), cell, hash)) {
            Some(()) => true,
            None => self.no_space(),
        }
    }

    /// Was it set in the series' present life?
    fn is_current(&self, value: totals::Stamped) -> bool {
        let mode = self.family.spec.gauge_mode;
        self.entry.get().is_some_and(|entry| drain::is_current(entry, mode, value))
    }

    fn update_shared(&self, change: impl Fn(totals::Words) -> totals::Words) -> bool {
        let cell = self.entry.get().map(|entry| entry.cell.load(Ordering::Relaxed)); // written once
        match cell.and_then(|cell| direct_cell(segment(), cell)) {
            Some(cell) => {
                totals::update_direct(cell, change);
                true
            }
            None => self.no_space(),
        }
    }

    fn no_space(&self) -> bool {
        segment().header().counters.refused_no_space.fetch_add(1, Ordering::Relaxed); // a count, no order
        false
    }

    /// This process's own value of a gauge; 0 when it has set none.
    pub fn get_local(&self) -> f64 {
        if matches!(self.family.spec.gauge_mode, GaugeMode::Shared | GaugeMode::Unique) {
            return match self.get() {
                Value::Number(value) => value,
                _ => 0.0,
            };
        }
        let cell = self.own_gauge_cell();
        let value = cell.and_then(|cell| totals::Stamped::read(&cell.value, &cell.stamp));
        value.filter(|value| self.is_current(*value)).map_or(0.0, |value| value.value)
    }

    fn own_gauge_cell(&self) -> Option<&'static GaugeCell> {
        if OWN.get().is_some_and(|own| !own.worker.owns_place()) {
            forget_place(); // see `push_to_ring`
        }
        let own = own().or_else(|| {
            let _claimed = patiently(&CLAIMING, LOCK_PATIENCE)?; // by another thread, in microseconds
            OWN.get()
        })?;
        if self.family.spec.gauge_mode.is_live() {
            own.worker.mark_live_gauges();
        }
        own.worker.gauge_cell(self.entry.get()?.gauge.load(Ordering::Relaxed)) // written once
    }

    /// The stamp that marks a value as belonging to the series' present life.
    fn generation_stamp(&self) -> u64 {
        let state = self.entry.get().map_or(0, |entry| entry.state.load(Ordering::Acquire)); // partner: `revive`
        u64::from(registry::generation_of(state)) + 1
    }

    /// The value over all processes, drained first. Gauges of the modes `all` and `liveall` answer
    /// with this process's own value.
    pub fn get(&self) -> Value {
        if self.family.spec.gauge_mode.is_per_worker() && self.metric_type == MetricType::Gauge {
            return Value::Number(self.get_local());
        }
        consolidated(|segment, totals, own| {
            let Some((place, cells)) = self.family.place_of(segment, self.id()) else {
                return Value::Number(0.0);
            };
            if self.metric_type == MetricType::Gauge {
                let gauge = snapshot::read_gauge(segment, totals, &place, own);
                return Value::Number(gauge.merged.unwrap_or(0.0));
            }
            event_value(segment, totals, &place, cells.as_deref())
        })
    }

    /// The exponential buckets over all processes, drained first; None where the family has none.
    pub fn native_histogram(&self) -> Option<NativeHistogram> {
        consolidated(|segment, totals, _| {
            let (place, cells) = self.family.place_of(segment, self.id())?;
            let mut numbers = Vec::new();
            snapshot::read_events(segment, totals, &place, true, &mut numbers);
            Some(cells?.native(&numbers))
        })
    }
}
