//! Arithmetic of the cells: what an event does to a total, which bucket an observation falls into,
//! how two workers' gauges merge. Pure functions; only `drain` stores their results.

use crate::layout::{Cell, DirectCell};
use crate::registry::GaugeMode;
use crate::sync::{load_f64, AtomicU64, Ordering};

/// The two words of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub(crate) struct Words {
    pub a: u64,
    pub b: u64,
}

impl Words {
    /// Reads a total. Relaxed: the drain lock, or the peek's check of the redo record, orders it.
    #[inline]
    pub(crate) fn of(cell: &Cell) -> Words {
        let get = |word: &AtomicU64| word.load(Ordering::Relaxed);
        Words { a: get(&cell.a), b: get(&cell.b) }
    }

    /// Reads a direct cell, both words at once.
    pub(crate) fn of_direct(cell: &DirectCell) -> Words {
        Words::from_wide(cell.0.load(Ordering::Relaxed)) // one word, nothing else to order
    }

    /// As a direct cell has them in memory.
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.to_wide().to_le_bytes()
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Words {
        Words::from_wide(u128::from_le_bytes(bytes))
    }

    fn from_wide(wide: u128) -> Words {
        Words { a: wide as u64, b: (wide >> 64) as u64 }
    }

    fn to_wide(self) -> u128 {
        u128::from(self.a) | (u128::from(self.b) << 64)
    }

    /// As `{count, sum}` or `{value, _}`.
    #[inline]
    pub(crate) fn floats(self) -> (f64, f64) {
        (f64::from_bits(self.a), f64::from_bits(self.b))
    }

    fn from_floats(a: f64, b: f64) -> Words {
        Words { a: a.to_bits(), b: b.to_bits() }
    }

    /// As a counter: whole part exact to 2^64, fraction apart.
    #[inline]
    pub(crate) fn counter_value(self) -> f64 {
        self.a as f64 + f64::from_bits(self.b)
    }

    /// A counter after `amount` more (finite, not negative).
    ///
    /// Whole numbers go to the integer, so 1 added to 2^53 is not lost; what does not fit into it
    /// (more than 2^64 in all) stays in the fraction's f64.
    #[inline]
    pub(crate) fn counter_plus(self, amount: f64) -> Words {
        // The fraction stays within half of one: what is nearest goes to the integer, without a branch that nobody
        // could foresee.
        let (whole, rest) = split(amount);
        let fraction = f64::from_bits(self.b) + rest;
        let (carry, rest) = split(fraction);
        match self.a.checked_add_signed(whole.wrapping_add(carry)) {
            Some(a) if amount < SPLITTABLE && fraction.abs() < SPLITTABLE => {
                Words { a, b: rest.to_bits() }
            }
            _ => self.counter_plus_much(amount),
        }
    }

    #[cold]
    #[inline(never)]
    fn counter_plus_much(self, amount: f64) -> Words {
        let whole = amount as u64; // saturates
        let mut fraction = f64::from_bits(self.b) + (amount - whole as f64);
        let mut total = self.a;
        match total.checked_add(whole) {
            Some(sum) => total = sum,
            None => fraction += whole as f64,
        }
        if (1.0..9e15).contains(&fraction) {
            let carry = fraction as u64;
            if let Some(sum) = total.checked_add(carry) {
                total = sum;
                fraction -= carry as f64;
            }
        }
        Words { a: total, b: fraction.min(f64::MAX).to_bits() }
    }

    /// A bucket or a summary after one observation that counts `weight` times.
    #[inline]
    pub(crate) fn observation_plus(self, value: f64, weight: f64) -> Words {
        let (count, sum) = self.floats();
        // A sum that has become infinite would turn to NaN with the next one of the other sign.
        let sum = (sum + (value * weight).clamp(f64::MIN, f64::MAX)).clamp(f64::MIN, f64::MAX);
        Words::from_floats(count + weight, sum)
    }

    /// Two counters together.
    pub(crate) fn counter_sum(self, other: Words) -> f64 {
        self.counter_value() + other.counter_value()
    }

    /// Two buckets together.
    #[inline]
    pub(crate) fn bucket_sum(self, other: Words) -> [f64; 2] {
        let ((count, sum), (count2, sum2)) = (self.floats(), other.floats());
        [count + count2, sum + sum2]
    }
}

/// The amount as an integer if it is one below 2^52: added to 2^52 it stands in the mantissa's low bits. The
/// conversion that saturates costs more than all the rest of an event.
#[inline]
pub(crate) fn whole(amount: f64) -> Option<u64> {
    const ONES: f64 = (1u64 << 52) as f64; // from here on an f64's last bit is worth 1
    let sum = amount + ONES;
    let whole = sum.to_bits().wrapping_sub(ONES.to_bits()); // huge for what is negative or too large
    (whole < 1 << 52 && sum - ONES == amount).then_some(whole)
}

/// Below it, in amount, [`split`] is exact.
const SPLITTABLE: f64 = (1u64 << 51) as f64;

/// The nearest whole number, and what is left, at most half of one either way.
#[inline]
fn split(number: f64) -> (i64, f64) {
    const ONES: f64 = (3u64 << 51) as f64; // an f64 whose last bit is worth 1, as those below it to 2^52
    let sum = number + ONES;
    let whole = sum.to_bits().wrapping_sub(ONES.to_bits()) as i64;
    (whole, number - (sum - ONES))
}

/// What the cells of a series mean, and hence what an event does to one of them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum CellKind {
    /// `{whole, fraction}`.
    Counter,
    /// `{count, sum}`.
    Observations,
}

impl CellKind {
    /// The words after one event.
    #[inline]
    pub(crate) fn apply(self, words: Words, value: f64, weight: f64) -> Words {
        match self {
            CellKind::Counter => words.counter_plus(value),
            CellKind::Observations => words.observation_plus(value, weight),
        }
    }
}

/// Adds an event to a direct cell, both words in one compare-and-swap: a kill leaves all or nothing.
pub(crate) fn add_direct(cell: &DirectCell, kind: CellKind, value: f64, weight: f64) {
    update_direct(cell, |words| kind.apply(words, value, weight));
}

/// Changes a direct cell by compare-and-swap until nobody came in between.
pub(crate) fn update_direct(cell: &DirectCell, change: impl Fn(Words) -> Words) {
    let mut old = cell.0.load(Ordering::Relaxed); // one word, nothing else to order
    loop {
        let new = change(Words::from_wide(old)).to_wide();
        match cell.0.compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => old = now,
        }
    }
}

/// A shared gauge's words: the value, and the mark that it was ever set.
pub(crate) fn shared_gauge(value: f64) -> Words {
    Words { a: value.to_bits(), b: 1 }
}

/// Finds the bucket of an observation: a table by the f64's exponent, and by as many bits of its mantissa
/// as many bounds ask for, gives a start close below. Nobody can foresee an observation, so nothing branches on it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Classifier {
    /// Ascending; the last one is `+Inf`.
    bounds: Box<[f64]>,
    /// What is left of a positive value's bits is its row, counted from `first_row`.
    shift: u32,
    first_row: i64,
    starts: Box<[u16]>,
    /// How many bounds a value is compared with.
    steps: u16,
    /// Below the first row there are bounds, too: some are not positive.
    has_lower: bool,
}

impl Classifier {
    /// Most rows of a table: 16 KiB.
    const MAX_ROWS: usize = 8192;

    /// `bounds`: finite, ascending, at least one.
    pub(crate) fn new(bounds: &[f64]) -> Classifier {
        let mut classifier = Self::with_shift(bounds, 52);
        while classifier.steps > 1 && classifier.starts.len() * 2 < Self::MAX_ROWS {
            classifier = Self::with_shift(bounds, classifier.shift - 1);
        }
        classifier
    }

    fn with_shift(bounds: &[f64], shift: u32) -> Classifier {
        let positive = || bounds.iter().filter(|bound| **bound > 0.0).map(|bound| bound.to_bits());
        let first_row = positive().min().unwrap_or(0) >> shift;
        let last_row = positive().max().unwrap_or(0) >> shift;
        // For a row: the first bucket whose bound is not below every value of that row.
        let starts: Box<[u16]> = (first_row..=last_row + 1)
            .map(|row| {
                let smallest = f64::from_bits(row << shift);
                bounds.partition_point(|bound| *bound < smallest) as u16
            })
            .collect();
        Classifier {
            bounds: bounds.iter().copied().chain([f64::INFINITY]).collect(),
            shift,
            first_row: first_row as i64,
            steps: starts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0),
            starts,
            has_lower: bounds[0] <= 0.0,
        }
    }

    /// Buckets, `+Inf` included.
    pub(crate) fn n_buckets(&self) -> usize {
        self.bounds.len()
    }

    /// Index of the first bound that is not below `value`; the number of bounds for `+Inf`.
    #[inline]
    pub(crate) fn bucket(&self, value: f64) -> usize {
        // Of signed bits: what is negative is below any row.
        let row = (value.to_bits() as i64 >> self.shift) - self.first_row;
        if self.has_lower && row < 0 {
            return self.bounds.partition_point(|bound| *bound < value);
        }
        let row = row.clamp(0, self.starts.len() as i64 - 1);
        let mut at = usize::from(self.starts[row as usize]);
        for _ in 0..self.steps {
            at += usize::from(value > self.bounds[at]); // once it is not above, it stays there
        }
        at
    }
}

/// A gauge's value with the stamp that decides under the mostrecent modes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stamped {
    pub value: f64,
    pub stamp: u64,
}

impl Stamped {
    /// Reads a value and its stamp; None when it was never set.
    pub(crate) fn read(value: &AtomicU64, stamp: &AtomicU64) -> Option<Stamped> {
        let stamp = stamp.load(Ordering::Acquire); // partner: the release store of the stamp
        (stamp != 0).then(|| Stamped { value: load_f64(value, Ordering::Relaxed), stamp })
    }

    /// This worker's value and another's, under a merge rule that has one result.
    pub(crate) fn merge(self, other: Stamped, mode: GaugeMode) -> Stamped {
        use GaugeMode::{LiveMax, LiveMin, LiveMostRecent, LiveSum, Max, Min, MostRecent, Sum};
        let newer = if other.stamp >= self.stamp { other } else { self };
        let value = match mode {
            Sum | LiveSum => self.value + other.value,
            Max | LiveMax => self.value.max(other.value),
            Min | LiveMin => self.value.min(other.value),
            MostRecent | LiveMostRecent => newer.value,
            GaugeMode::All | GaugeMode::LiveAll | GaugeMode::Shared | GaugeMode::Unique => {
                other.value
            }
        };
        Stamped { value, stamp: newer.stamp }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counter_stays_exact_past_two_to_the_53() {
        let mut words = Words::default().counter_plus(9_007_199_254_740_992.0);
        for _ in 0..1_000 {
            words = words.counter_plus(1.0);
        }
        assert_eq!(words.a, 9_007_199_254_741_992);
    }

    #[test]
    fn whole_numbers_are_read_from_their_bits() {
        let cases = [0.0, -0.0, 1.0, 2.0, 3.0, 767.0, 1e6, 4_503_599_627_370_495.0];
        for amount in cases {
            assert_eq!(whole(amount), Some(amount as u64), "{amount}");
        }
        let others = [0.5, 1.5, 767.25, -1.0, 4_503_599_627_370_496.0, 4_503_599_627_370_498.0];
        for amount in others.into_iter().chain([f64::MAX, f64::NAN, f64::INFINITY, 5e-324]) {
            assert_eq!(whole(amount), None, "{amount}");
        }
    }

    #[test]
    fn fractions_carry_into_the_whole() {
        let mut words = Words::default();
        for _ in 0..10 {
            words = words.counter_plus(0.25);
        }
        assert_eq!((words.a, f64::from_bits(words.b)), (2, 0.5));
    }

    /// Sums of multiples of 2^-20, small and large, against the same sums as integers.
    #[test]
    fn fractions_add_up_exactly() {
        let (mut words, mut sum, mut random) = (Words::default(), 0u128, 1u64);
        for round in 0..10_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let amount = random >> if round % 3 == 0 { 12 } else { 40 }; // 2^52 or 2^24 at the most
            words = words.counter_plus(amount as f64 / f64::from(1 << 20));
            sum += u128::from(amount);
            let shown = (i128::from(words.a) << 20)
                + (f64::from_bits(words.b) * f64::from(1 << 20)) as i128;
            assert_eq!(shown, sum as i128, "after {round}");
        }
    }

    #[test]
    fn huge_amounts_do_not_wrap() {
        let words = Words::default().counter_plus(1.8e19).counter_plus(1.8e19);
        assert!((words.counter_value() - 3.6e19).abs() < 1e5);
    }

    #[test]
    fn no_cell_ever_holds_an_infinity() {
        let mut words = Words::default();
        for value in [f64::MAX, f64::MAX, f64::MIN, f64::MIN, f64::MIN] {
            words = words.observation_plus(value, 3e38);
            assert!(words.floats().1.is_finite());
        }
        let counter = Words::default().counter_plus(f64::MAX).counter_plus(f64::MAX);
        assert!(counter.counter_value().is_finite());
    }

    #[test]
    fn classifier_agrees_with_a_plain_search() {
        let layouts: [&[f64]; 5] = [
            &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0],
            &[-2.0, -0.5, 0.0, 0.3, 7.0],
            &[1.0],
            &[1e-300, 1.0, 1e300],
            &[-3.0, -1.0],
        ];
        let powers = |n: i32| (-n..n).map(|i| (f64::from(i) / 8.0).exp2()).collect::<Vec<f64>>();
        let layouts: Vec<Vec<f64>> = layouts
            .iter()
            .map(|bounds| bounds.to_vec())
            .chain([powers(200), powers(3000)])
            .collect();
        for bounds in layouts {
            let classifier = Classifier::new(&bounds);
            let mut values: Vec<f64> = bounds.clone();
            for bound in &bounds {
                values.extend([
                    bound * 1.000_001,
                    bound * 0.999_999,
                    bound * 2.0,
                    bound / 2.0,
                    -bound,
                ]);
            }
            values.extend([0.0, -0.0, f64::MIN_POSITIVE, 5e-324, f64::MAX, f64::MIN]);
            for value in values {
                let plain = bounds.partition_point(|bound| *bound < value);
                assert_eq!(classifier.bucket(value), plain, "{value} in {bounds:?}");
            }
        }
    }
}
