//! Sets: about how many different values the last while has brought, over all processes.
//!
//! A set is a gauge of the mode `unique`. StatsD counts a set's values from one flush to the next; a scrape is nobody's
//! flush, so here it is a window that moves by quarters, the one of summaries' quantiles (`window`).
//!
//! Each series is a HyperLogLog sketch for each sub-window: [`REGISTERS`] registers of a byte in its *direct* cells.
//! A value's hash chooses a register and proposes a rank – one more than the zeros that the rest of it begins
//! with – and the register keeps the highest, by compare-and-swap. To add a value twice changes nothing, so an event in
//! the ring would have no use: whoever is killed has added it or has not, and nobody waits for a drain. No
//! clock is read: `window_epoch` of the header says which sub-window it is.
//!
//! ```text
//! groups:   e-3 | e-2 | e-1 | e | spare       shown = the highest ranks of e-3 to e
//! ```
//! Whoever drains all rings clears the spare group before he stores the next epoch (`window::rotate`). Killed amid
//! that, he leaves the epoch as it was and the group unread; the next one clears it again. A process that is stopped
//! between its look at the epoch and its exchange adds its one value to an older sub-window, or, after a whole
//! window, to one to come.
//!
//! The estimate is Ertl's, "New cardinality estimation algorithms for HyperLogLog sketches" (arXiv 1702.01284,
//! algorithm 6): without bias at any number, so without tables and thresholds. Its standard error is
//! 1.04 / sqrt(1024) = 3.25 %. Few values are counted right unless two share a register: of 7, in one of fifty cases.

use crate::layout::*;
use crate::native::{NOTES, SET_GROUP, SUB_WINDOWS};
use crate::segment::Segment;
use crate::sync::Ordering;
use crate::totals::{self, Words};

/// Registers of a sketch; a power of two.
const REGISTERS: usize = GROUP * PER_CELL;
/// Bits of a hash that choose the register.
const INDEX_BITS: u32 = REGISTERS.trailing_zeros();
/// The highest rank that the bits can tell by their zeros; one more says that all of them are zero.
const MOST_ZEROS: u32 = 64 - INDEX_BITS;
/// Registers in a direct cell.
const PER_CELL: usize = size_of::<u128>();
/// Cells of one sub-window.
const GROUP: usize = SET_GROUP as usize;

fn group_of(epoch: u64) -> usize {
    (epoch % NOTES) as usize
}

/// The direct cells of one sub-window.
fn group(segment: &Segment, first: u32, epoch: u64) -> Option<&[DirectCell]> {
    let at = u64::from(first) + (group_of(epoch) * GROUP) as u64;
    let offset = (first != 0).then(|| at * size_of::<DirectCell>() as u64)?;
    segment.slice(Region::Direct, offset, GROUP)
}

/// Register and rank.
fn split(hash: u64) -> (usize, u8) {
    let register = hash >> (64 - INDEX_BITS);
    let rank = (hash << INDEX_BITS).leading_zeros().min(MOST_ZEROS) + 1;
    (register as usize, rank as u8)
}

/// Makes every bit depend on all: MurmurHash3's last step, which is one to one.
fn spread(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// Adds a value, by a hash that is the same in every process of the app, to the sub-window that it is; None when the
/// series has no cells.
pub(crate) fn add(segment: &Segment, first: u32, hash: u64) -> Option<()> {
    let (register, rank) = split(spread(hash));
    let epoch = segment.header().window_epoch.load(Ordering::Acquire); // partner: `window::rotate`
    let cell = group(segment, first, epoch)?.get(register / PER_CELL)?;
    let with = |old: Words| {
        let mut ranks = old.to_bytes();
        let kept = &mut ranks[register % PER_CELL];
        *kept = rank.max(*kept);
        Words::from_bytes(ranks)
    };
    let old = Words::of_direct(cell);
    if with(old) != old {
        totals::update_direct(cell, with); // most values have been there, or one of a higher rank
    }
    Some(())
}

/// Clears a sub-window's group that nobody reads; the drain lock is held.
pub(crate) fn clear(segment: &Segment, first: u32, epoch: u64) {
    for cell in group(segment, first, epoch).unwrap_or_default() {
        totals::update_direct(cell, |_| Words::default()); // ordered by the epoch's store
    }
}

/// About how many different values the window has brought, a whole number.
pub(crate) fn count(segment: &Segment, first: u32) -> f64 {
    let epoch = segment.header().window_epoch.load(Ordering::Acquire); // partner: `window::rotate`
    let mut highest = [0u8; REGISTERS];
    for begun in 0..SUB_WINDOWS {
        let Some(cells) = group(segment, first, epoch.wrapping_add(NOTES - begun)) else {
            continue;
        };
        for (kept, cell) in highest.chunks_exact_mut(PER_CELL).zip(cells) {
            let ranks = Words::of_direct(cell).to_bytes();
            kept.iter_mut().zip(ranks).for_each(|(kept, rank)| *kept = rank.max(*kept));
        }
    }
    estimate(&highest).round()
}

/// Ertl's estimate of how many different values have made these registers.
fn estimate(registers: &[u8; REGISTERS]) -> f64 {
    let mut of_rank = [0.0; MOST_ZEROS as usize + 2];
    for rank in registers {
        of_rank[usize::from(*rank).min(MOST_ZEROS as usize + 1)] += 1.0; // higher ones somebody scribbled
    }
    let m = REGISTERS as f64;
    let full = of_rank[MOST_ZEROS as usize + 1];
    let mut z = m * tau(1.0 - full / m);
    for n in of_rank[1..=MOST_ZEROS as usize].iter().rev() {
        z = 0.5 * (z + n);
    }
    z += m * sigma(of_rank[0] / m);
    m * m / (2.0 * std::f64::consts::LN_2 * z)
}

/// What registers that are zero stand for; infinite where all are.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * y;
        y += y;
        if sum == before {
            return sum;
        }
    }
}

/// What registers at the highest rank stand for.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = sum;
        y *= 0.5;
        sum -= (1.0 - x).powi(2) * y;
        if sum == before {
            return sum / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_becomes_a_register_and_a_rank() {
        // MurmurHash3's own.
        for (hash, wanted) in [(0, 0), (1, 0xb456_bcfc_34c2_cb2c), (2, 0x3abf_2a20_6506_83e7)] {
            assert_eq!(spread(hash), wanted, "{hash}");
        }
        for (hash, wanted) in [
            (0, (0, 55)),
            (u64::MAX, (1023, 1)),
            (1, (0, 54)),
            (1 << 54, (1, 55)),
            (1 << 53, (0, 1)),
            (1 << 52, (0, 2)),
        ] {
            assert_eq!(split(hash), wanted, "{hash:x}");
        }
    }

    /// Over many sketches the estimate is right in the middle, and off by what is promised.
    #[test]
    fn the_standard_error_is_as_stated_and_there_is_no_bias() {
        const SKETCHES: u64 = 400;
        let random = |n: u64| spread(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)); // as splitmix64 has it
        for n in [10u64, 100, 1_000, 2_500, 5_000, 50_000] {
            let offs = (0..SKETCHES).map(|sketch| {
                let mut registers = [0u8; REGISTERS];
                for i in 0..n {
                    let (register, rank) = split(random((sketch << 32) + i + 1));
                    registers[register] = registers[register].max(rank);
                }
                estimate(&registers) / n as f64 - 1.0
            });
            let offs: Vec<f64> = offs.collect();
            let bias = offs.iter().sum::<f64>() / SKETCHES as f64;
            let error = (offs.iter().map(|off| off * off).sum::<f64>() / SKETCHES as f64).sqrt();
            assert!(bias.abs() < 3.0 * 0.0325 / (SKETCHES as f64).sqrt(), "{n}: {bias}");
            assert!(error < 0.0325 * 1.12, "{n}: {error}"); // three standard errors of that
        }
    }

    #[test]
    fn registers_that_are_full_or_scribbled_make_a_number() {
        assert_eq!(estimate(&[0; REGISTERS]), 0.0);
        for rank in [1, 54, 55, 200] {
            let estimate = estimate(&[rank; REGISTERS]);
            assert!(estimate >= 0.0, "{rank}: {estimate}");
        }
    }
}
