//! Exponential buckets: where their bounds lie, which cells they have, how they are shown. Pure functions.
//!
//! A native histogram is a histogram with many bounds. Its cells are those between all bounds, the
//! exponential ones and the classic ones together, so an observation changes one cell, exactly once, by
//! the same drain as any other. No cell ever moves: what a scraper sees – classic buckets, exponential
//! buckets of the schema or of a coarser one – is added up from cells when it is read.
//!
//! ```text
//!  … -2^16 | -2^-4 | -2^-20 | zero | g^k0 | g^(k0+1) | … | 2^max | 2^(max+1) | … steps doubling … | overflow
//!    too large to be zero,    |          the window, at the family's schema |  the ladder
//! ```
//! Outside of the window cells grow wider, up to those of schema -4. Where such a cell has counts, the
//! histogram is shown at the finest schema that has a bucket to hold it. Beyond 2^64 times the window's
//! end an observation counts as one of infinity does: in the bucket behind the largest number.

/// The finest and the coarsest schema that Prometheus knows.
const SCHEMAS: std::ops::RangeInclusive<i8> = -4..=8;
/// Exponents that a window may have.
const EXPONENTS: std::ops::RangeInclusive<i16> = -512..=512;
/// Beyond the window's end, the ladder goes up by so many powers of two.
const LADDER: i32 = 64;
/// Parts of a summary's window: quantiles forget one of them at a time.
pub(crate) const SUB_WINDOWS: u64 = 4;
/// Notes of when they began that are kept: one more, so that a new one is never written over one that is read.
pub(crate) const NOTES: u64 = SUB_WINDOWS + 1;
/// Most cells of a series.
pub(crate) const MAX_CELLS: usize = 16_384;

/// A histogram's exponential buckets, Prometheus' native histogram.
///
/// Bucket bounds grow by 2^(2^-schema): 9 % at schema 3, with 8 buckets for each power of two. A series
/// takes 32 bytes for each bucket between `min_exponent` and `max_exponent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Native {
    /// From -4 (a bucket spans 16 powers of two) to 8 (256 buckets for each).
    pub schema: i8,
    /// The zero threshold is 2 to this power: what is not larger counts as zero.
    pub min_exponent: i16,
    /// The schema's resolution ends at 2 to this power; larger observations are resolved less.
    pub max_exponent: i16,
    /// Are negative observations resolved as positive ones are? Else as what lies beyond the window.
    pub signed: bool,
    /// Most populated buckets that are shown: beyond it, the schema is lowered.
    pub max_buckets: u16,
    /// Does a message that holds these buckets leave the classic ones out?
    pub alone: bool,
}

impl Native {
    /// Of that schema, from a microsecond (2^-20) to an hour (2^12 seconds), 160 buckets at the most.
    pub fn new(schema: i8) -> Native {
        let (min_exponent, max_exponent) = (-20, 12);
        let (signed, alone) = (false, false);
        Native { schema, min_exponent, max_exponent, signed, max_buckets: 160, alone }
    }

    /// The same within other limits, rounded outwards to powers of two.
    ///
    /// ```
    /// use promring::client::Native;
    /// let bytes = Native::new(2).within(64.0, 1e9);
    /// assert_eq!((bytes.min_exponent, bytes.max_exponent), (6, 30));
    /// ```
    #[must_use]
    pub fn within(self, zero_threshold: f64, max: f64) -> Native {
        let limit = |exponent: f64| {
            exponent.clamp(f64::from(*EXPONENTS.start()), f64::from(*EXPONENTS.end())) as i16
        };
        let min_exponent = limit(zero_threshold.log2().floor());
        let max_exponent = limit(max.log2().ceil()).max(min_exponent.saturating_add(1));
        Native { min_exponent, max_exponent, ..self }
    }

    /// Of that schema, for observations as classic buckets expect them: from 1/256 of the smallest bound
    /// to 64 times the largest.
    pub fn around(schema: i8, buckets: &[f64]) -> Native {
        let sizes = || buckets.iter().map(|bound| bound.abs()).filter(|size| *size > 0.0);
        let smallest = sizes().min_by(f64::total_cmp);
        let largest = sizes().max_by(f64::total_cmp);
        let signed = buckets.first().is_some_and(|first| *first < 0.0);
        match smallest.zip(largest) {
            Some((min, max)) => {
                Native { signed, ..Native::new(schema).within(min / 256.0, max * 64.0) }
            }
            None => Native::new(schema),
        }
    }

    /// What counts as zero.
    pub fn zero_threshold(&self) -> f64 {
        f64::from(self.min_exponent).exp2()
    }

    /// What is wrong with it.
    pub(crate) fn complaint(&self) -> Option<&'static str> {
        let Native { schema, min_exponent, max_exponent, max_buckets, .. } = *self;
        if !SCHEMAS.contains(&schema) {
            Some("have a schema that is not from -4 to 8")
        } else if !EXPONENTS.contains(&min_exponent) || !EXPONENTS.contains(&max_exponent) {
            Some("reach beyond 2^-512 or 2^512")
        } else if min_exponent >= max_exponent {
            Some("end where they begin")
        } else if max_buckets == 0 {
            Some("may not be shown: give at least 1 for max_buckets")
        } else if self.edges().len() >= MAX_CELLS {
            Some("are too many: choose a lower schema or closer limits")
        } else {
            None
        }
    }

    /// Bounds that it adds to the classic ones.
    pub(crate) fn n_bounds(&self) -> u64 {
        self.edges().len() as u64
    }

    /// All bounds, ascending. How many there are depends on whole numbers alone, so that every process
    /// of the app, whatever it computes powers with, finds the same cells.
    fn edges(&self) -> Vec<f64> {
        let (negative, positive) = (self.steps(self.signed), self.steps(true));
        // A negative bucket holds its lower bound: the cell below it ends right before that.
        let below = negative.iter().rev().map(|step| (-step.bound).next_down());
        below.chain(positive.iter().map(|step| step.bound)).collect()
    }

    /// The zero threshold and the upper bounds above it, on one side of zero.
    fn steps(&self, window: bool) -> Vec<Step> {
        let (min, max) = (i32::from(self.min_exponent), i32::from(self.max_exponent));
        let mut steps = vec![Step::power(min, self.schema, self.schema)];
        let mut exponent = min;
        if window && self.schema >= 0 {
            let range = (min << self.schema) + 1..=max << self.schema;
            steps.extend(range.map(|index| Step::root(index, self.schema)));
            exponent = max;
        } else if window {
            let span = 1 << -self.schema;
            while exponent < max {
                exponent = (exponent + 1 + span - 1).div_euclid(span) * span;
                steps.push(Step::power(exponent, self.schema, self.schema));
            }
        }
        // The ladder: a step is as long as its start is round, and at the most twice the one before.
        let mut rungs = (-self.schema).max(0);
        while exponent < max + LADDER {
            let round = (exponent.trailing_zeros() as i8).min(4).min(rungs);
            exponent += 1 << round;
            steps.push(Step::power(exponent, self.schema, -round));
            rungs += 1;
        }
        steps
    }

    /// The bucket of what is larger than every step: where Prometheus counts infinity.
    fn overflow(&self) -> i32 {
        index_at((1024 << 8) + 1, 8, self.schema)
    }
}

/// The upper bound of a cell.
struct Step {
    bound: f64,
    /// Index of the bucket that ends there, at the family's schema.
    index: i32,
    /// The finest schema with a bucket that holds the whole cell.
    finest: i8,
}

impl Step {
    /// At 2^exponent.
    fn power(exponent: i32, schema: i8, finest: i8) -> Step {
        Step { bound: f64::from(exponent).exp2(), index: index_at(exponent, 0, schema), finest }
    }

    /// At the index-th power of the schema's growth.
    fn root(index: i32, schema: i8) -> Step {
        let (whole, part) = (index >> schema, index & ((1 << schema) - 1));
        let part = (f64::from(part) / f64::from(1 << schema)).exp2();
        Step { bound: part * f64::from(whole).exp2(), index, finest: schema }
    }
}

/// The index of a bucket, of what holds it at a coarser schema, or of its last part at a finer one.
fn index_at(index: i32, from: i8, to: i8) -> i32 {
    if to >= from {
        index << (to - from)
    } else {
        ((index - 1) >> (from - to)) + 1
    }
}

// ---------------------------------------------------------------------------------------------
// Cells

/// The bounds between a series' cells: classic ones, exponential ones, all ascending. A bound that is
/// both stands there twice, with a cell between that stays empty.
pub(crate) fn bounds(buckets: &[f64], native: Option<&Native>) -> Vec<f64> {
    let mut all = buckets.to_vec();
    if let Some(native) = native {
        all.extend(native.edges());
        all.sort_by(f64::total_cmp);
    }
    all
}

/// Direct cells of a set's registers for one sub-window.
pub(crate) const SET_GROUP: u64 = 64;
/// Cells of a set's series: groups of as many sub-windows as are noted elsewhere, one of them spare.
pub(crate) const SET_CELLS: u64 = SET_GROUP * NOTES;

/// Cells, behind the `n` that events change, for their counts at the start of each sub-window: a cell holds two.
pub(crate) fn window_cells(n: u64) -> u64 {
    (NOTES * n).div_ceil(2)
}

/// Which side of zero.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Side {
    Negative,
    Zero,
    Positive,
}

/// Where a cell's counts are shown.
#[derive(Clone, Copy, Debug)]
struct Shown {
    side: Side,
    index: i32,
    finest: i8,
}

/// What the cells of a family's series mean to a reader.
#[derive(Debug)]
pub(crate) struct CellMap {
    native: Native,
    n_classic: usize,
    /// By cell: index of the classic bucket, and of the exponential one in `shown`.
    cells: Vec<(u16, u16)>,
    shown: Vec<Shown>,
}

impl CellMap {
    pub(crate) fn new(buckets: &[f64], native: Native) -> CellMap {
        let (negative, positive) = (native.steps(native.signed), native.steps(true));
        let beyond = |side| Shown { side, index: native.overflow(), finest: native.schema };
        let of = |side| move |step: &Step| Shown { side, index: step.index, finest: step.finest };
        // The first step of a side ends the zero bucket.
        let mut shown = vec![beyond(Side::Negative)];
        shown.extend(negative[1..].iter().rev().map(of(Side::Negative)));
        shown.push(Shown { side: Side::Zero, index: 0, finest: native.schema });
        shown.extend(positive[1..].iter().map(of(Side::Positive)));
        shown.push(beyond(Side::Positive));
        let edges = native.edges();
        let ends = bounds(buckets, Some(&native)).into_iter().chain([f64::INFINITY]);
        let below = |all: &[f64], end: f64| all.partition_point(|bound| *bound < end) as u16;
        let cells = ends.map(|end| (below(buckets, end), below(&edges, end))).collect();
        CellMap { native, n_classic: buckets.len() + 1, cells, shown }
    }

    /// Cells of a series.
    pub(crate) fn n_cells(&self) -> usize {
        self.cells.len()
    }

    /// Appends count and sum of each classic bucket.
    pub(crate) fn classic(&self, cells: &[[f64; 2]], out: &mut Vec<[f64; 2]>) {
        let start = out.len();
        out.resize(start + self.n_classic, [0.0; 2]);
        for ([count, sum], (classic, _)) in cells.iter().zip(&self.cells) {
            let bucket = &mut out[start + usize::from(*classic)];
            *bucket = [bucket[0] + count, bucket[1] + sum];
        }
    }

    /// The exponential buckets, at the finest schema that fits.
    pub(crate) fn native(&self, cells: &[[f64; 2]]) -> NativeHistogram {
        let populated = || {
            let counted = cells.iter().zip(&self.cells).filter(|([count, _], _)| *count > 0.0);
            counted.map(|([count, _], (_, native))| (*count, self.shown[usize::from(*native)]))
        };
        let mut histogram = NativeHistogram {
            schema: populated().map(|(_, shown)| shown.finest).fold(self.native.schema, i8::min),
            zero_threshold: self.native.zero_threshold(),
            count: cells.iter().map(|[count, _]| count).sum(),
            sum: cells.iter().map(|[_, sum]| sum).sum(),
            ..NativeHistogram::default()
        };
        for (count, Shown { side, index, .. }) in populated() {
            let index = index_at(index, self.native.schema, histogram.schema);
            match side {
                Side::Zero => histogram.zero_count += count,
                Side::Positive => add(&mut histogram.positive, index, count),
                Side::Negative => add(&mut histogram.negative, index, count),
            }
        }
        histogram.negative.reverse();
        histogram.merge_down_to(usize::from(self.native.max_buckets));
        histogram
    }
}

/// Cells come in order, so those of one bucket stand together.
fn add(buckets: &mut Vec<(i32, f64)>, index: i32, count: f64) {
    match buckets.last_mut().filter(|(last, _)| *last == index) {
        Some((_, total)) => *total += count,
        None => buckets.push((index, count)),
    }
}

/// A native histogram as it is shown: populated buckets only, by ascending index.
///
/// Bucket `i` of the positive side holds what is larger than 2^((i-1)·2^-schema) and not larger than
/// 2^(i·2^-schema); the negative side is its mirror image.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct NativeHistogram {
    /// From -4 to 8: that of the family, or a coarser one.
    pub schema: i8,
    /// What is not larger counts as zero.
    pub zero_threshold: f64,
    /// Observations around zero.
    pub zero_count: f64,
    /// All observations, weighted.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// Index and count.
    pub negative: Vec<(i32, f64)>,
    /// Index and count.
    pub positive: Vec<(i32, f64)>,
}

impl NativeHistogram {
    /// Lowers the schema until there are no more populated buckets than that, or no coarser schema.
    fn merge_down_to(&mut self, max_buckets: usize) {
        while self.negative.len() + self.positive.len() > max_buckets
            && self.schema > *SCHEMAS.start()
        {
            self.schema -= 1;
            for side in [&mut self.negative, &mut self.positive] {
                let mut merged = Vec::with_capacity(side.len());
                for (index, count) in side.iter() {
                    add(&mut merged, index_at(*index, 1, 0), *count);
                }
                *side = merged;
            }
        }
    }

    /// The value that a share `q` of the observations does not exceed, within the width of a bucket: at
    /// the bucket's geometric middle. None without observations.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = q.clamp(0.0, 1.0) * self.count;
        let growth = f64::from(-self.schema).exp2();
        let middle = |index: i32| ((f64::from(index) - 0.5) * growth).exp2();
        let negative = self.negative.iter().rev().map(|(index, count)| (-middle(*index), *count));
        let zero = std::iter::once((0.0, self.zero_count));
        let positive = self.positive.iter().map(|(index, count)| (middle(*index), *count));
        let mut below = 0.0;
        let mut last = None;
        for (value, count) in negative.chain(zero).chain(positive).filter(|(_, count)| *count > 0.0)
        {
            below += count;
            last = Some(value.clamp(f64::MIN, f64::MAX));
            if below >= rank {
                break;
            }
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT_BUCKETS: [f64; 11] =
        [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

    /// What the drain's quicker classifier agrees with.
    fn cell_of(bounds: &[f64], value: f64) -> usize {
        bounds.partition_point(|bound| *bound < value)
    }

    fn odd_values() -> Vec<f64> {
        let mut values = vec![0.0, -0.0, 5e-324, f64::MIN_POSITIVE, f64::MAX];
        let mut bits = 1u64;
        for _ in 0..1_000 {
            bits = bits.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            let any = f64::from_bits(bits);
            let near = ((bits >> 40) as f64 / 16_777_216.0 * 80.0 - 40.0).exp2();
            values.extend([any, near].into_iter().filter(|value| value.is_finite()));
        }
        for exponent in -40..40 {
            let power = f64::from(exponent).exp2();
            values.extend([power, power.next_down(), power.next_up(), power * 1.5]);
        }
        let negative: Vec<f64> = values.iter().map(|value| -value).collect();
        values.extend(negative);
        values
    }

    fn specs() -> Vec<(Vec<f64>, Native)> {
        let mut all = Vec::new();
        for schema in SCHEMAS {
            let around = Native::around(schema.min(5), &DEFAULT_BUCKETS);
            all.push((DEFAULT_BUCKETS.to_vec(), around));
            all.push((
                Vec::new(),
                Native { signed: true, ..Native::new(schema).within(1e-3, 7.0) },
            ));
            all.push((vec![-2.0, 0.0, 0.5, 1.0], Native::new(schema.min(4)).within(0.25, 1e12)));
        }
        all
    }

    /// Does the bucket of that index hold the value? By the definition, with room for rounding.
    fn holds(schema: i8, index: i32, value: f64) -> bool {
        let bound = |index: i32| (f64::from(index) * f64::from(-schema).exp2()).exp2();
        let last = index_at(1024 << 8, 8, schema);
        if index > last {
            return value > 1e6; // where infinity is counted: the ladder has ended
        }
        value > bound(index - 1) * (1.0 - 1e-12) && value <= bound(index) * (1.0 + 1e-12)
    }

    #[test]
    fn every_value_is_shown_in_a_bucket_that_holds_it() {
        for (buckets, native) in specs() {
            assert_eq!(native.complaint(), None, "{native:?}");
            let bounds = bounds(&buckets, Some(&native));
            let map = CellMap::new(&buckets, native);
            assert_eq!(map.cells.len(), bounds.len() + 1);
            for value in odd_values() {
                let mut cells = vec![[0.0; 2]; bounds.len() + 1];
                cells[cell_of(&bounds, value)] = [1.0, value];
                let shown = map.native(&cells);
                assert_eq!((shown.count, shown.sum), (1.0, value));
                let fits = match (&*shown.negative, shown.zero_count, &*shown.positive) {
                    ([], 1.0, []) => value.abs() <= shown.zero_threshold,
                    ([], 0.0, [(index, 1.0)]) => holds(shown.schema, *index, value),
                    ([(index, 1.0)], 0.0, []) => holds(shown.schema, *index, -value),
                    _ => false,
                };
                assert!(fits, "{value:e} of {native:?} in {shown:?}");
                let inside = native.zero_threshold() < value
                    && value <= f64::from(native.max_exponent).exp2();
                assert!(
                    !inside || shown.schema == native.schema,
                    "{value:e} of {native:?} in {shown:?}"
                );
                let mut classic = Vec::new();
                map.classic(&cells, &mut classic);
                let wanted = buckets.partition_point(|bound| *bound < value);
                let found = classic.iter().position(|[count, _]| *count == 1.0);
                assert_eq!((found, classic.len()), (Some(wanted), buckets.len() + 1), "{value:e}");
            }
        }
    }

    #[test]
    fn bounds_belong_to_the_bucket_that_they_end() {
        let native = Native { signed: true, ..Native::new(0).within(0.5, 8.0) };
        let (bounds, map) = (bounds(&[], Some(&native)), CellMap::new(&[], native));
        for (value, positive, negative) in [
            (0.5, None, None),
            (-0.5, None, None),
            (0.6, Some(0), None),
            (1.0, Some(0), None),
            (1.1, Some(1), None),
            (2.0, Some(1), None),
            (-1.0, None, Some(0)),
            (-1.1, None, Some(1)),
            (8.0, Some(3), None),
            (8.1, Some(4), None),
        ] {
            let mut cells = vec![[0.0; 2]; bounds.len() + 1];
            cells[cell_of(&bounds, value)] = [1.0, value];
            let shown = map.native(&cells);
            let index = |side: &[(i32, f64)]| side.first().map(|(index, _)| *index);
            let found = (index(&shown.positive), index(&shown.negative));
            assert_eq!(found, (positive, negative), "{value}");
        }
    }

    #[test]
    fn no_more_buckets_are_shown_than_wanted_and_no_count_is_lost() {
        let native = Native { max_buckets: 10, ..Native::new(3) };
        let (bounds, map) =
            (bounds(&DEFAULT_BUCKETS, Some(&native)), CellMap::new(&DEFAULT_BUCKETS, native));
        let mut cells = vec![[0.0; 2]; bounds.len() + 1];
        let mut schemas = Vec::new();
        for n in 0..1000 {
            let cell = &mut cells[cell_of(&bounds, 1.01f64.powi(n))];
            *cell = [cell[0] + 1.0, cell[1] + 1.0];
            let shown = map.native(&cells);
            let counts = shown.positive.iter().map(|(_, count)| count).sum::<f64>();
            assert_eq!(counts + shown.zero_count, f64::from(n + 1));
            assert!(shown.positive.len() <= 10 && shown.positive.is_sorted_by(|a, b| a.0 < b.0));
            schemas.push(shown.schema);
        }
        assert!(schemas.is_sorted_by(|a, b| a >= b));
        assert_eq!((schemas[0], schemas[999]), (3, -1), "14.4 powers of two in 10 buckets");
    }

    #[test]
    fn quantiles_are_within_a_bucket_of_the_true_ones() {
        let native = Native::new(3);
        let (bounds, map) = (bounds(&[], Some(&native)), CellMap::new(&[], native));
        let mut cells = vec![[0.0; 2]; bounds.len() + 1];
        for n in 1..=10_000 {
            cells[cell_of(&bounds, f64::from(n) / 1000.0)][0] += 1.0;
        }
        let shown = map.native(&cells);
        for q in [0.01, 0.5, 0.9, 0.99, 1.0] {
            let found = shown.quantile(q).unwrap() / (q * 10.0);
            assert!((1.0 / 1.0443..1.0443).contains(&found), "{q}: {found}");
        }
        assert_eq!(NativeHistogram::default().quantile(0.5), None);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let good = Native::new(3);
        for (bad, reason) in [
            (Native { schema: 9, ..good }, "schema"),
            (Native { schema: -5, ..good }, "schema"),
            (Native { min_exponent: 12, ..good }, "end where"),
            (Native { max_exponent: 600, ..good }, "2^512"),
            (Native { max_buckets: 0, ..good }, "max_buckets"),
            (Native { schema: 8, max_exponent: 100, ..good }, "too many"),
        ] {
            assert!(
                bad.complaint().is_some_and(|c| c.contains(reason)),
                "{bad:?} {:?}",
                bad.complaint()
            );
        }
    }
}
