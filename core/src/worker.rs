//! One process's place in the segment: claim, room for pushes, gauge cells, death.
//!
//! ```text
//! FREE --claim: byte lock, then state--> LIVE(generation) --owner dies, kernel frees the byte-->
//!      LIVE but dead --a drainer under the drain lock: drain the ring, fold the gauges--> FREE
//! ```
//! A claimer takes FREE places only, so a dead worker's pending events and gauges are never taken
//! over half read; when few are left a claimer looks for dead places, so they do not pile up.
//! Who lives is the kernel's word (`os::LockFile`). A pid is a second opinion: a process that closed
//! our lock file's descriptor keeps its place as long as others can see it run.

use crate::layout::*;
use crate::os;
use crate::producer::{Memory, Producer};
use crate::ring;
use crate::segment::{Segment, LOCK_PLACES};
use crate::sync::{private, AtomicU64, Ordering};

/// A ring this full makes its producer drain it.
pub(crate) const SELF_HELP_AT: u64 = RING_SLOTS as u64 / 4 * 3;

/// A claimed place: the producer's end of its ring, its gauge cells.
pub(crate) struct Worker {
    pub(crate) segment: &'static Segment,
    pub(crate) place: usize,
    claimed: u64,
    header: &'static PlaceHeader,
    pub(crate) producer: &'static Producer,
}

/// Splits a place's state word.
fn status_of(state: u64) -> u64 {
    state & 0xff
}

/// The generation in a place's state word.
pub(crate) fn generation_of(state: u64) -> u64 {
    state >> 8
}

impl Worker {
    /// Takes a free place, or adds one. None when there is neither place nor memory.
    pub(crate) fn claim(segment: &'static Segment, memory: Memory) -> Option<Worker> {
        let claim = |place| Self::claim_place(segment, place, memory);
        let known = (0..segment.n_places()).find_map(claim);
        known.or_else(|| {
            // Others may be quicker at the place that we add: try a few times.
            (0..MAX_PLACES).find_map(|_| match segment.add_place() {
                Ok(place) => claim(place).map(Some),
                Err(_) => Some(None),
            })?
        })
    }

    fn claim_place(segment: &'static Segment, place: usize, memory: Memory) -> Option<Worker> {
        let header = segment.place(place)?;
        let state = header.state.load(Ordering::Acquire); // partner: the stores of `state` below and in `free`
        if status_of(state) != PLACE_FREE {
            return None;
        }
        let byte = LOCK_PLACES + place as u64;
        match segment.locks() {
            Some(locks) if !locks.try_lock(byte).ok()? => return None,
            _ => {}
        }
        if header.state.load(Ordering::Acquire) != state {
            // Claimed and left again in between; its byte is ours now, so give it back.
            if let Some(locks) = segment.locks() {
                locks.unlock(byte);
            }
            return None;
        }
        if is_threaded() {
            note_mine(place); // before another thread can take us for dead
        }
        forget_gauges(segment, place);
        let set = |word: &AtomicU64, value: u64| word.store(value, Ordering::Relaxed); // published by `state`
        set(&header.pid, u64::from(os::pid()));
        set(&header.claimed_boot_ns, os::boot_ns());
        set(&header.pid_namespace, os::pid_namespace());
        set(&header.claimed_ns, os::unix_ns());
        set(&header.flags, 0);
        set(&header.cpu_ns, 0);
        set(&header.overflowed, 0);
        let claimed = ((generation_of(state) + 1) << 8) | PLACE_LIVE;
        header.state.store(claimed, Ordering::Release); // partner: the acquire loads of `state`
        segment.share_attachment();
        segment.header().counters.claims.fetch_add(1, Ordering::Relaxed); // a count, no order
        Self::take_up(segment, place, claimed, memory)
    }

    /// The producer's end of a claimed place: its ring goes on where the last owner's stores end.
    pub(crate) fn take_up(
        segment: &'static Segment,
        place: usize,
        claimed: u64,
        memory: Memory,
    ) -> Option<Worker> {
        let header = segment.place(place)?;
        let slots = segment.ring(place)?;
        let head = header.head.load(Ordering::Acquire); // partner: the drainer's store of `head`
        let tail = ring::find_tail(slots, head);
        let producer = Producer::of(header, slots, claimed, tail, memory);
        Some(Worker { segment, place, claimed, header, producer })
    }

    /// Gives the place back unused: its segment has a successor.
    pub(crate) fn leave(&self) {
        if let Some(locks) = self.segment.locks() {
            locks.unlock(LOCK_PLACES + self.place as u64);
        }
    }

    /// From now on the place is shown under that number, which is no process's: its lock alone tells
    /// whether it lives.
    pub(crate) fn call_itself(&self, number: u64) {
        self.header.claimed_boot_ns.store(0, Ordering::Relaxed); // before the number: nobody runs under it
        self.header.pid.store(number, Ordering::Relaxed); // a label
    }

    /// Is the place still ours?
    pub(crate) fn owns_place(&self) -> bool {
        self.header.state.load(Ordering::Acquire) == self.claimed // partner: `claim_place`, `free`
    }

    /// Generation of the claim.
    pub(crate) fn generation(&self) -> u64 {
        generation_of(self.claimed)
    }

    /// Events in the ring that nobody has drained yet.
    pub(crate) fn pending(&self) -> u64 {
        let head = self.header.head.load(Ordering::Acquire); // partner: the drainer's store: slots below are free
        self.producer.tail().wrapping_sub(head)
    }

    /// Lets pushes go on until the ring is ¾ full – or, when it is fuller already and nobody could
    /// drain it, for another 64 events at most. False when there is no room at all.
    pub(crate) fn extend(&self) -> bool {
        let pending = self.pending();
        if pending >= RING_SLOTS as u64 {
            return false;
        }
        let room = if pending < SELF_HELP_AT {
            SELF_HELP_AT - pending
        } else {
            (RING_SLOTS as u64 - pending).min(64)
        };
        self.producer.run(self.producer.tail(), room);
        true
    }

    /// Our cell of a gauge; None when the segment has no room for another chunk of them.
    pub(crate) fn gauge_cell(&self, gauge: u32) -> Option<&'static GaugeCell> {
        let directory = self.segment.gauge_directory(self.place)?;
        let (chunk, at) = (gauge as usize / GAUGE_CHUNK, gauge as usize % GAUGE_CHUNK);
        let entry = directory.get(chunk)?;
        let mut number = entry.load(Ordering::Acquire); // partner: the release store below
        if number == 0 {
            let bytes = (GAUGE_CHUNK * size_of::<GaugeCell>()) as u64;
            number = (self.segment.alloc(Region::Gauges, bytes).ok()? / bytes) as u32 + 1;
            // Zeroed cells; partner: `gauge_cells`. Of two threads the quicker one's chunk counts.
            let first = entry.compare_exchange(0, number, Ordering::AcqRel, Ordering::Acquire);
            number = first.err().unwrap_or(number);
        }
        self.segment.gauge_chunk(number - 1)?.get(at)
    }

    /// Notes that the owner has looked up a label set that went to an overflow series.
    pub(crate) fn note_overflow(&self) {
        self.header.overflowed.fetch_add(1, Ordering::Relaxed); // a count, no order
    }

    /// Notes that a gauge of a live mode was set here: scrapes then ask whether we live.
    pub(crate) fn mark_live_gauges(&self) {
        if self.header.flags.load(Ordering::Relaxed) & PLACE_HAS_LIVE_GAUGES == 0 {
            self.header.flags.fetch_or(PLACE_HAS_LIVE_GAUGES, Ordering::Relaxed);
            // a hint, no order
        }
    }
}

/// A place as a scrape sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Status {
    /// Nobody's.
    Free,
    /// Somebody's; dead or alive is the kernel's word (`is_dead`).
    Claimed,
}

/// So many places an app may use before a claim looks after the dead: that costs more than the claim itself.
const PLACES_TO_SPARE: usize = 8;
/// So many places a claim asks for, to see whether it is worth it.
const SAMPLE: usize = 16;

/// Should whoever has claimed this place look after the dead? Claims take the first place that is free, so one in the
/// last quarter says that few are. Of the others a sample is asked for: among the living of a large app there is
/// nothing to do, and to ask for all of them costs more than the claim.
///
/// It is not left to whoever finds none free: the drain lock may be busy then, and each claim before is a chance more.
pub(crate) fn look_is_due(segment: &Segment, own: usize) -> bool {
    let n = segment.n_places();
    let few_are_free = n >= PLACES_TO_SPARE && own * 4 >= n * 3;
    let is_left = |place: usize| {
        status(segment, place) == Status::Claimed && is_dead(segment, place, Some(own))
    };
    few_are_free && (0..SAMPLE).any(|i| is_left(i * n / SAMPLE))
}

/// Is somebody in that place?
pub(crate) fn status(segment: &Segment, place: usize) -> Status {
    let state = segment.place(place).map_or(0, |header| header.state.load(Ordering::Acquire)); // partner: `claim_place`
    if status_of(state) == PLACE_LIVE {
        Status::Claimed
    } else {
        Status::Free
    }
}

/// Has the owner of a claimed place ended? `own` is the caller's place: the kernel does not report a
/// process's own locks to itself.
pub(crate) fn is_dead(segment: &Segment, place: usize, own: Option<usize>) -> bool {
    let is_mine = || mine(place).is_some_and(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0); // as in `note_mine`
    if own == Some(place) || is_mine() {
        return false;
    }
    let Some(header) = segment.place(place) else { return false };
    let Some(locks) = segment.locks() else { return true }; // private: the only process is the caller
    match locks.holder(LOCK_PLACES + place as u64) {
        Ok(Some(_)) | Err(_) => false,
        Ok(None) => !seen_running(header),
    }
}

/// The second opinion: the owner runs under its pid although its lock is gone. A process that finds
/// its own pid in a place that is not its own has replaced that owner by exec.
fn seen_running(header: &PlaceHeader) -> bool {
    let pid = header.pid.load(Ordering::Relaxed) as u32; // ordered by the acquire of `state`
    pid != os::pid() && was_claimed_by(header, pid)
}

/// Was it the process that runs under that pid now? The owner had the pid when it claimed, so whoever has it
/// and started no later is the owner: it need not say when it started, which takes long to find out.
fn was_claimed_by(header: &PlaceHeader, pid: u32) -> bool {
    let get = |word: &AtomicU64| word.load(Ordering::Relaxed); // ordered by the acquire of `state`
    let (claimed_ns, namespace) = (get(&header.claimed_boot_ns), get(&header.pid_namespace));
    get(&header.pid) == u64::from(pid)
        && namespace != 0
        && namespace == os::pid_namespace()
        && claimed_ns != 0
        && os::start_time(pid).is_some_and(|ticks| ticks <= os::boot_ticks(claimed_ns))
}

/// Processor time that the caller reported before it replaced itself by exec; 0 if it did not.
pub(crate) fn cpu_ns_before_exec(segment: &Segment, own: usize) -> u64 {
    let pid = os::pid();
    let others = (0..segment.n_places()).filter(|place| *place != own);
    others
        .filter_map(|place| segment.place(place))
        .filter(|header| was_claimed_by(header, pid))
        .map(|header| header.cpu_ns.load(Ordering::Relaxed)) // what an exec left nobody changes
        .max()
        .unwrap_or(0)
}

/// 1 where threads push at the same time.
static THREADED: private::AtomicU32 = private::AtomicU32::new(0);

/// Bits of the places that this process's threads have: the kernel does not report a process's own
/// locks to itself, and its pid would look like an exec's.
static MINE: os::PerProcess<[private::AtomicU64; MAX_PLACES / 64]> = os::PerProcess::new();

fn mine(place: usize) -> Option<(&'static private::AtomicU64, u64)> {
    Some((MINE.get()?.get(place / 64)?, 1 << (place % 64)))
}

/// A thread of this process has that place.
pub(crate) fn note_mine(place: usize) {
    if MINE.get().is_none() {
        MINE.set(Box::leak(Box::new(std::array::from_fn(|_| private::AtomicU64::new(0)))));
    }
    if let Some((word, bit)) = mine(place) {
        word.fetch_or(bit, Ordering::Relaxed); // read by this process's threads when they look for the dead
    }
}

/// That place was taken from this process.
pub(crate) fn forget_mine(place: usize) {
    if let Some((word, bit)) = mine(place) {
        word.fetch_and(!bit, Ordering::Relaxed); // as above
    }
}

/// Threads of this process have places of their own from now on.
pub(crate) fn allow_threads() {
    THREADED.store(1, Ordering::Relaxed); // before another thread counts: the caller's promise
}

/// Have they?
pub(crate) fn is_threaded() -> bool {
    THREADED.load(Ordering::Relaxed) != 0 // see `allow_threads`
}

/// As if no thread had ever had a place.
pub(crate) fn forget_threads() {
    THREADED.store(0, Ordering::Relaxed); // for tests, between which no thread counts
    MINE.clear();
}

/// A claimed place, for people.
pub(crate) struct Listed {
    pub place: usize,
    pub pid: u64,
    pub dead: bool,
    pub pending: u64,
}

/// Who is in the segment's places.
pub(crate) fn list(segment: &Segment) -> Vec<Listed> {
    let claimed =
        (0..segment.n_places()).filter(|place| status(segment, *place) == Status::Claimed);
    claimed
        .filter_map(|place| {
            let header = segment.place(place)?;
            let head = header.head.load(Ordering::Acquire); // partner: the drainer's store of `head`
            let tail = ring::find_tail(segment.ring(place)?, head);
            Some(Listed {
                place,
                pid: header.pid.load(Ordering::Relaxed), // published by `state`
                dead: is_dead(segment, place, None),
                pending: tail.wrapping_sub(head),
            })
        })
        .collect()
}

/// Gives a reaped place back. Only the drainer, under its lock, after the fold.
pub(crate) fn free(header: &PlaceHeader) {
    let state = header.state.load(Ordering::Relaxed); // only the lock's holder changes a dead place
    header.state.store((generation_of(state) << 8) | PLACE_FREE, Ordering::Release);
    // partner: `claim_place`
}

/// Calls `visit(gauge number, cell)` for every gauge cell a place has ever had.
pub(crate) fn gauge_cells<'a>(
    segment: &'a Segment,
    place: usize,
) -> impl Iterator<Item = (u32, &'a GaugeCell)> + 'a {
    let directory = segment.gauge_directory(place).unwrap_or(&[]);
    directory.iter().enumerate().flat_map(move |(i, entry)| {
        let number = entry.load(Ordering::Acquire); // partner: the release store in `gauge_cell`
        let chunk = number.checked_sub(1).and_then(|n| segment.gauge_chunk(n)).unwrap_or(&[]);
        chunk.iter().enumerate().map(move |(j, cell)| ((i * GAUGE_CHUNK + j) as u32, cell))
    })
}

/// A new owner starts with no gauges: the last owner's samples of mode `all` end here.
fn forget_gauges(segment: &Segment, place: usize) {
    for (_, cell) in gauge_cells(segment, place) {
        cell.stamp.store(0, Ordering::Relaxed); // published by the claim's store of `state`
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::segment::Caps;

    #[test]
    fn who_runs_under_the_pid_since_before_the_claim_made_it() {
        let caps = Caps { max_series: 1024, max_series_per_family: 1024 };
        let segment = Segment::private(caps).unwrap();
        let header = segment.place(segment.add_place().unwrap()).unwrap();
        let (pid, namespace) = (os::pid(), os::pid_namespace());
        let says = |namespace: u64, claimed_ns: u64| {
            let set = |word: &AtomicU64, value| word.store(value, Ordering::Relaxed);
            set(&header.pid, u64::from(pid));
            set(&header.pid_namespace, namespace);
            set(&header.claimed_boot_ns, claimed_ns);
            was_claimed_by(header, pid)
        };
        assert!(says(namespace, os::boot_ns()));
        let started_ns = os::start_time(pid).unwrap() * 10_000_000;
        assert!(says(namespace, started_ns));
        assert!(!says(namespace, started_ns - 1), "an earlier process had that pid");
        assert!(!says(namespace, 0), "no process's number");
        assert!(!says(namespace + 1, os::boot_ns()), "another namespace's pid");
        assert!(!was_claimed_by(header, pid + 1));
    }
}
