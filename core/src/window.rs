//! Quantiles of summaries over the last while: what their cells held when a sub-window began, and what came since.
//!
//! A summary with quantiles counts its observations in exponential buckets, one cell for each, by the same drain as a
//! histogram's: an event costs what it costs there, and no clock is read for it. Behind these cells stand others, for
//! what the first ones held at the start of each of the last [`SUB_WINDOWS`] sub-windows. Whoever drains all rings –
//! the aggregator in its rounds, a scrape – notes that when a new sub-window has begun, under the drain lock, before
//! the rings. A reader takes the difference to the oldest note:
//!
//! ```text
//!            |<----------- window ----------->|
//!   note e-3 |  note e-2 |  note e-1 |  note e |  now       counted in the window = now - note e-3
//! ```
//! So quantiles cover at least three quarters of the window and at most all of it. They are those of the bucket that
//! the wanted rank lies in, at its geometric middle: within its window of exponents, schema s is right to
//! 2^(2^-(s+1)) - 1, 4.4 % for schema 3.
//!
//! Notes are complete when `window_epoch` is stored. A drainer that is killed or stopped amid them leaves it as it was: who
//! reads meanwhile reads older notes, which no newer ones are written over, and the next drainer writes the new ones
//! from the start. Counts and sums are the cells' and know no window. Where nobody drains all rings for longer than a
//! sub-window, what workers have drained by themselves meanwhile is taken for older than it.

use crate::layout::*;
use crate::native::{self, Native, NOTES, SUB_WINDOWS};
use crate::os;
use crate::registry;
use crate::segment::Segment;
use crate::sets;
use crate::sync::{AtomicU64, Ordering};
use crate::totals::Words;

/// A family with quantiles, or a set, was registered: from now on sub-windows are noted. The first to come decides how long they are.
pub(crate) fn begin(segment: &Segment, seconds: u64) {
    let header = segment.header();
    if header.window_ns.load(Ordering::Acquire) != 0 {
        return; // a later one's setting; partner: the exchange below
    }
    let length = seconds.max(1) * 1_000_000_000;
    // What is counted until the first note belongs to the window.
    let epoch = os::monotonic_ns() / (length / SUB_WINDOWS);
    let _ = header.window_epoch.compare_exchange(0, epoch, Ordering::AcqRel, Ordering::Relaxed);
    let _ = header.window_ns.compare_exchange(0, length, Ordering::AcqRel, Ordering::Relaxed);
}

/// Notes what the cells hold, and clears sets' spare groups, if a sub-window has begun since the last time; the drain
/// lock is held.
pub(crate) fn rotate(segment: &Segment, monotonic_ns: u64) {
    let header = segment.header();
    let length = header.window_ns.load(Ordering::Acquire); // partner: `begin`
    let Some(epoch) = monotonic_ns.checked_div(length / SUB_WINDOWS) else { return };
    let before = header.window_epoch.load(Ordering::Acquire); // partner: `begin`; else under this lock only
    if epoch == before {
        return;
    }
    // Sub-windows that nobody saw begin have begun with what is there now.
    let oldest = before.saturating_add(1).max(epoch.saturating_sub(SUB_WINDOWS - 1));
    for begun in oldest..=epoch {
        begin_all(segment, begun);
        header.window_epoch.store(begun, Ordering::Release); // these are complete; partner: `Copied::of_cells`
    }
    header.window_epoch.store(epoch, Ordering::Release); // also when the clock has gone back
}

fn slot_of(epoch: u64) -> usize {
    (epoch % NOTES) as usize
}

/// What a new sub-window asks of a family's series.
#[derive(Clone, Copy)]
enum Windowed {
    /// So many cells of each are noted.
    Quantiles(u64),
    /// A group of each is cleared.
    Set,
    No,
}

/// Summaries' cells are noted, and sets get a clear group.
fn begin_all(segment: &Segment, epoch: u64) {
    let windowed = |id| {
        let spec = registry::family_spec(segment, id)?;
        let quantiles = spec.event_cells().map(Windowed::Quantiles);
        quantiles.or_else(|| spec.is_set().then_some(Windowed::Set))
    };
    let families = 0..registry::n_families(segment);
    let by_family: Vec<Windowed> =
        families.map(|id| windowed(id).unwrap_or(Windowed::No)).collect();
    for id in 1..registry::n_series(segment) {
        let Some(entry) = segment.series(id) else { continue };
        let family = entry.family.load(Ordering::Relaxed) as usize; // a series half made has no cells that count
        let first = entry.cell.load(Ordering::Relaxed); // as above
        match by_family.get(family).copied().unwrap_or(Windowed::No) {
            Windowed::Quantiles(n) => drop(note(segment, first, n, slot_of(epoch))),
            Windowed::Set => sets::clear(segment, first, epoch),
            Windowed::No => {}
        }
    }
}

/// Notes what a series' cells hold.
fn note(segment: &Segment, first: u32, n: u64, slot: usize) -> Option<()> {
    let all = (n + native::window_cells(n)) as usize;
    let offset = (first != 0).then(|| u64::from(first) * size_of::<Cell>() as u64)?;
    let cells = segment.slice::<Cell>(Region::Cells, offset, all)?;
    let direct = segment.slice::<DirectCell>(Region::Direct, offset, n as usize)?;
    let (cells, notes) = cells.split_at(n as usize);
    for (i, (cell, direct)) in cells.iter().zip(direct).enumerate() {
        let [count, _] = Words::of(cell).bucket_sum(Words::of_direct(direct));
        let (cell, second) = place_of(slot, i, n as usize);
        let word: &AtomicU64 = if second { &notes[cell].b } else { &notes[cell].a };
        word.store(count.to_bits(), Ordering::Relaxed); // ordered by the epoch's store
    }
    Some(())
}

/// How many observations the present sub-window's notes of a summary hold; None while they are not made.
#[cfg(feature = "proof")]
pub(crate) fn noted(segment: &Segment, id: u32) -> Option<f64> {
    let header = segment.header();
    let epoch = header.window_epoch.load(Ordering::SeqCst);
    let length = header.window_ns.load(Ordering::SeqCst);
    (os::monotonic_ns().checked_div(length / SUB_WINDOWS)? == epoch).then_some(())?;
    let entry = segment.series(id)?;
    let family = entry.family.load(Ordering::SeqCst);
    let n = registry::family_spec(segment, family)?.event_cells()? as usize;
    let first = u64::from(entry.cell.load(Ordering::SeqCst)) + n as u64;
    let notes = native::window_cells(n as u64) as usize;
    let notes: &[Cell] = segment.slice(Region::Cells, first * size_of::<Cell>() as u64, notes)?;
    let slot = slot_of(epoch);
    let counts = (0..n).map(|i| {
        let (cell, second) = place_of(slot, i, n);
        let (a, b) = Words::of(&notes[cell]).floats();
        if second {
            b
        } else {
            a
        }
    });
    Some(counts.sum())
}

/// Which cell of the notes, and whether its second word.
fn place_of(slot: usize, i: usize, n: usize) -> (usize, bool) {
    let word = slot * n + i;
    (word / 2, word % 2 == 1)
}

/// How a family's quantiles are read from the cells of its series.
#[derive(Debug)]
pub(crate) struct Quantiles {
    /// Those that are shown.
    wanted: Vec<f64>,
    /// The bounds between cells.
    edges: Vec<f64>,
}

impl Quantiles {
    pub(crate) fn new(wanted: &[f64], native: &Native) -> Quantiles {
        Quantiles { wanted: wanted.to_vec(), edges: native::bounds(&[], Some(native)) }
    }

    /// Appends each quantile's value, NaN where the window is empty. `cells` are all of a series.
    pub(crate) fn read(&self, cells: &[[f64; 2]], epoch: u64, out: &mut Vec<[f64; 2]>) {
        let n = self.edges.len() + 1;
        let oldest = slot_of(epoch.wrapping_add(NOTES - (SUB_WINDOWS - 1)));
        let noted = |i| {
            let (cell, second) = place_of(oldest, i, n);
            cells.get(n + cell).map_or(0.0, |words| words[usize::from(second)])
        };
        let since = |(i, [count, _]): (usize, &[f64; 2])| (count - noted(i)).max(0.0);
        let counts: Vec<f64> = cells.iter().take(n).enumerate().map(since).collect();
        let total: f64 = counts.iter().sum();
        out.extend(self.wanted.iter().map(|quantile| [self.at(&counts, quantile * total), 0.0]));
    }

    /// The value that so many observations do not exceed.
    fn at(&self, counts: &[f64], rank: f64) -> f64 {
        let (mut below, mut found) = (0.0, None);
        for (i, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0.0) {
            below += count;
            found = Some(i);
            if below >= rank {
                break;
            }
        }
        found.map_or(f64::NAN, |cell| self.middle(cell))
    }

    /// The geometric middle of a cell; the bound of one that has no other.
    fn middle(&self, cell: usize) -> f64 {
        let above = self.edges.get(cell);
        match (cell.checked_sub(1).and_then(|below| self.edges.get(below)), above) {
            (Some(low), Some(high)) if *low > 0.0 => low.sqrt() * high.sqrt(),
            (Some(low), Some(high)) if *high < 0.0 => -((-low).sqrt() * (-high).sqrt()),
            (Some(_), Some(_)) => 0.0,
            (Some(bound), None) | (None, Some(bound)) => *bound,
            (None, None) => f64::NAN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{FamilySpec, GaugeMode, MetricType, Placed};
    use crate::segment::Caps;
    use crate::totals::{update_direct, CellKind};

    const MINUTE: u64 = 60_000_000_000;

    /// A segment with one series, whose first cell is told, in the 100th sub-window of a minute.
    fn one_series(spec: &FamilySpec) -> (Segment, u32) {
        let caps = Caps { max_series: 1024, max_series_per_family: 1024 };
        let segment = Segment::inherited(caps).expect("memory for a segment");
        let (family, spec) = registry::find_or_add_family(&segment, spec).expect("a family");
        let placed = registry::find_or_add_series(&segment, family, &spec, &[]);
        let Placed::Series(id) = placed else { panic!("no series") };
        let first = segment.series(id).unwrap().cell.load(Ordering::Relaxed);
        let header = segment.header();
        header.window_ns.store(4 * MINUTE, Ordering::Relaxed);
        header.window_epoch.store(100, Ordering::Relaxed);
        (segment, first)
    }

    /// A segment with one summary, and time as the test wants it.
    struct Bench {
        segment: Segment,
        quantiles: Quantiles,
        first: u64,
        n: usize,
    }

    impl Bench {
        fn new(native: Native, wanted: &[f64]) -> Bench {
            let spec = FamilySpec {
                name: "took".into(),
                help: String::new(),
                unit: String::new(),
                metric_type: MetricType::Summary,
                gauge_mode: GaugeMode::All,
                label_names: Vec::new(),
                buckets: wanted.to_vec(),
                native: Some(native),
            };
            let n = spec.event_cells().unwrap() as usize;
            let (segment, first) = one_series(&spec);
            let first = u64::from(first);
            Bench { segment, quantiles: Quantiles::new(wanted, &native), first, n }
        }

        fn cells(&self) -> &[Cell] {
            let all = self.n + native::window_cells(self.n as u64) as usize;
            self.segment.slice(Region::Cells, self.first * size_of::<Cell>() as u64, all).unwrap()
        }

        /// The cell that an observation changes.
        fn at(&self, value: f64) -> usize {
            self.quantiles.edges.partition_point(|edge| *edge < value)
        }

        fn observe(&self, value: f64) {
            let cell = &self.cells()[self.at(value)];
            let words = CellKind::Observations.apply(Words::of(cell), value, 1.0);
            cell.a.store(words.a, Ordering::Relaxed);
            cell.b.store(words.b, Ordering::Relaxed);
        }

        /// Past a full ring.
        fn observe_direct(&self, value: f64) {
            let offset = (self.first + self.at(value) as u64) * size_of::<DirectCell>() as u64;
            let cell: &DirectCell = self.segment.at(Region::Direct, offset).unwrap();
            update_direct(cell, |words| CellKind::Observations.apply(words, value, 1.0));
        }

        fn read(&self) -> Vec<f64> {
            let offset = self.first * size_of::<Cell>() as u64;
            let direct =
                self.segment.slice::<DirectCell>(Region::Direct, offset, self.cells().len());
            let both = self.cells().iter().zip(direct.unwrap());
            let cells: Vec<[f64; 2]> =
                both.map(|(a, b)| Words::of(a).bucket_sum(Words::of_direct(b))).collect();
            let mut found = Vec::new();
            let epoch = self.segment.header().window_epoch.load(Ordering::Relaxed);
            self.quantiles.read(&cells, epoch, &mut found);
            found.iter().map(|[value, _]| *value).collect()
        }
    }

    /// Is it the quantile, within what the schema promises?
    fn close(found: f64, wanted: f64, schema: i8) -> bool {
        let most = f64::from(-schema - 1).exp2().exp2() + 1e-9; // a value may be a bucket's bound
        (1.0 / most..=most).contains(&(found / wanted))
    }

    #[test]
    fn a_window_forgets_a_quarter_at_a_time() {
        let bench = Bench::new(Native::new(3), &[0.0, 0.5, 1.0]);
        assert!(bench.read().iter().all(|value| value.is_nan()), "nothing was observed");
        // One observation in each minute, twice as large as the one before.
        for minute in 0..12u64 {
            rotate(&bench.segment, (100 + minute) * MINUTE + 5);
            let value = f64::from(1 << minute);
            if minute % 2 == 0 {
                bench.observe(value);
            } else {
                bench.observe_direct(value);
            }
            let oldest = minute.saturating_sub(3);
            let found = bench.read();
            assert!(close(found[0], f64::from(1 << oldest), 3), "{minute}: {found:?}");
            assert!(close(found[2], value, 3), "{minute}: {found:?}");
        }
        // Nobody looks for a while, and then for longer than the window.
        rotate(&bench.segment, 113 * MINUTE);
        let found = bench.read();
        assert!(close(found[0], 1024.0, 3) && close(found[2], 2048.0, 3), "{found:?}");
        bench.observe(3.0);
        rotate(&bench.segment, 200 * MINUTE);
        assert!(bench.read()[1].is_nan(), "all is older than the window");
        bench.observe(5.0);
        assert!(close(bench.read()[1], 5.0, 3));
        // A clock that goes back forgets nothing that counts, and the notes go on.
        rotate(&bench.segment, 150 * MINUTE);
        (0..3).for_each(|_| bench.observe(7.0));
        assert!(close(bench.read()[2], 7.0, 3));
    }

    #[test]
    fn notes_that_a_killed_drainer_left_half_written_are_written_anew() {
        let bench = Bench::new(Native::new(0), &[0.5]);
        (0..10).for_each(|_| bench.observe(2.0));
        // Killed amid it, the epoch as it was: it is read as before.
        note(&bench.segment, bench.first as u32, bench.n as u64, slot_of(101));
        assert!(close(bench.read()[0], 2.0, 0));
        bench.observe(8.0);
        rotate(&bench.segment, 101 * MINUTE);
        let slot: Vec<f64> = (0..bench.n)
            .map(|i| {
                let (cell, second) = place_of(slot_of(101), i, bench.n);
                let (a, b) = Words::of(&bench.cells()[bench.n + cell]).floats();
                if second {
                    b
                } else {
                    a
                }
            })
            .collect();
        assert_eq!((slot[bench.at(2.0)], slot[bench.at(8.0)]), (10.0, 1.0));
        assert_eq!(slot.iter().sum::<f64>(), 11.0);
    }

    #[test]
    fn quantiles_are_within_the_stated_error() {
        for schema in [0, 3, 5] {
            let bench = Bench::new(Native::new(schema), &[0.01, 0.5, 0.9, 0.99, 1.0]);
            let mut values: Vec<f64> =
                (0..4_000).map(|i| (f64::from(i * 7919 % 4_000) / 400.0 - 6.0).exp2()).collect();
            values.iter().for_each(|value| bench.observe(*value));
            values.sort_by(f64::total_cmp);
            for (quantile, found) in bench.quantiles.wanted.iter().zip(bench.read()) {
                let wanted = values[((quantile * 4_000.0).ceil() as usize).max(1) - 1];
                assert!(close(found, wanted, schema), "{quantile}: {found}, {wanted}");
            }
        }
    }

    #[test]
    fn what_lies_outside_has_a_value_all_the_same() {
        let bench = Bench::new(Native::new(3), &[0.5]);
        bench.observe(0.0);
        assert_eq!(bench.read(), [0.0], "zero and what is too small to tell");
        let bench = Bench::new(Native::new(3), &[0.5]);
        bench.observe(f64::MAX);
        assert!(bench.read()[0].is_finite() && bench.read()[0] > 1e20);
        let bench = Bench::new(Native::new(3), &[0.5]);
        bench.observe(-5.0);
        assert!(bench.read()[0] < 0.0);
    }

    mod of_sets {
        use super::*;

        /// A segment with one set, its hashes the same in every run, and time as the test wants it.
        struct Bench {
            segment: Segment,
            first: u32,
        }

        impl Bench {
            fn new() -> Bench {
                let spec = FamilySpec {
                    name: "users".into(),
                    help: String::new(),
                    unit: String::new(),
                    metric_type: MetricType::Gauge,
                    gauge_mode: GaugeMode::Unique,
                    label_names: Vec::new(),
                    buckets: Vec::new(),
                    native: None,
                };
                let (segment, first) = one_series(&spec);
                segment.header().instance.store(1, Ordering::Relaxed);
                Bench { segment, first }
            }

            fn add(&self, value: &str) {
                let hash = registry::segment_hash(&self.segment, value.as_bytes());
                sets::add(&self.segment, self.first, hash).expect("a series with cells");
            }

            fn count(&self) -> f64 {
                sets::count(&self.segment, self.first)
            }

            fn rotate(&self, minute: u64) {
                rotate(&self.segment, minute * MINUTE + 5);
            }
        }

        #[test]
        fn estimates_are_within_three_standard_errors() {
            let sigma = 1.04 / 1024f64.sqrt();
            let forms: [fn(u32) -> String; 3] = [
                |n| n.to_string(),
                |n| format!("user-{n:08}@example.com"),
                |n| "x".repeat(n as usize % 7) + &n.to_string(),
            ];
            for form in forms {
                let bench = Bench::new();
                assert_eq!(bench.count(), 0.0);
                let mut wanted = 1;
                for n in 1..=1_000_000 {
                    bench.add(&form(n));
                    if n == wanted {
                        (n / 2 + 1..=n).step_by(7).for_each(|n| bench.add(&form(n))); // again: nothing changes
                        let off = bench.count() / f64::from(n) - 1.0;
                        assert!(off.abs() <= 3.0 * sigma, "{n}: {off}");
                        wanted = (wanted * 5 / 2).max(n + 1);
                    }
                }
            }
        }

        #[test]
        fn a_window_forgets_a_quarter_at_a_time() {
            let bench = Bench::new();
            for minute in 0..12 {
                bench.rotate(100 + minute);
                (0..5).for_each(|n| bench.add(&format!("{minute} {n}")));
                bench.add("always");
                let minutes = (minute + 1).min(4);
                assert_eq!(bench.count(), (minutes * 5 + 1) as f64, "{minute}");
            }
            // Nobody looks for a while, and then for longer than the window.
            bench.rotate(113);
            assert_eq!(bench.count(), 11.0);
            bench.add("new");
            assert_eq!(bench.count(), 12.0);
            bench.rotate(200);
            assert_eq!(bench.count(), 0.0);
            bench.add("new");
            assert_eq!(bench.count(), 1.0);
            // A clock that goes back forgets in time, too.
            bench.rotate(150);
            (151..=156).for_each(|minute| bench.rotate(minute));
            assert_eq!(bench.count(), 0.0);
        }

        #[test]
        fn a_group_that_a_killed_drainer_left_half_clear_is_not_read() {
            let bench = Bench::new();
            for minute in 0..6 {
                bench.rotate(100 + minute);
                (0..5).for_each(|n| bench.add(&format!("{minute} {n}")));
            }
            assert_eq!(bench.count(), 20.0);
            // Killed amid it, the epoch as it was.
            sets::clear(&bench.segment, bench.first, 106);
            assert_eq!(bench.count(), 20.0);
            bench.rotate(106);
            assert_eq!(bench.count(), 15.0);
        }
    }
}
