//! Exemplars: a small table in the segment, of the last traced call of a counter or bucket, past the rings.
//!
//! An exemplar is a sample, not a count: it may be lost, and must never be torn, nor block anybody. So
//! there is no lock. Slots hang in hash chains by cell index, appended as series are. A slot has two
//! copies of tagged 16-byte words:
//!
//! ```text
//! write: version <- slot.version + 1 (fetch_add)        read: for both copies:
//!        for each word of copy version & 1:                       (length, version) <- word 0
//!            word <- {content, version}   one store               the other words: all of that version?
//!                                                             the newest copy that is whole
//! ```
//! No two writers have one version, so words of one version are one writer's. A writer killed half way,
//! and two that meet in one copy, leave words of two versions: that copy is not shown, the other is.
//! The 16-byte stores vouch for each other; nothing has to be ordered.
//!
//! The first [`PER_WINDOW`] exemplars of a slot in 134 ms are taken, the others are not: a page needs one.

use crate::error::Error;
use crate::layout::*;
use crate::os;
use crate::segment::{Full, Segment};
use crate::sync::{AtomicU64, Ordering};

/// Most code points of an exemplar's label names and values together; OpenMetrics has this limit.
pub const MAX_CODE_POINTS: usize = 128;

/// Exemplars that a slot takes within one window.
const PER_WINDOW: u64 = 16;
/// A window's length: 2^27 ns.
const WINDOW_SHIFT: u32 = 27;
/// Words before the labels.
const HEAD_WORDS: usize = 3;
/// Longest labels, with a separator behind each name and each value.
const MAX_LABEL_BYTES: usize = (EXEMPLAR_WORDS - HEAD_WORDS) * 8;
/// Behind each name and value: no byte of UTF-8.
const SEPARATOR: u8 = 0xff;

/// A traced call: what led there, what it counted, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// Usually `trace_id` and `span_id`.
    pub labels: Vec<(String, String)>,
    /// The amount or the observation.
    pub value: f64,
    /// When, seconds since the Unix epoch.
    pub unix_seconds: f64,
}

// ---------------------------------------------------------------------------------------------
// Labels as bytes

/// The labels of an exemplar, checked, as a slot holds them.
pub(crate) struct Labels {
    bytes: [u8; MAX_LABEL_BYTES],
    len: usize,
}

impl Labels {
    /// `metric` is named when they are refused.
    pub(crate) fn new(metric: &str, labels: &[(&str, &str)]) -> Result<Labels, Error> {
        let refuse = |reason: String| Error::Exemplar { metric: metric.to_string(), reason };
        if let Some(reason) = complaint(labels) {
            return Err(refuse(reason));
        }
        let mut all = Labels { bytes: [0; MAX_LABEL_BYTES], len: 0 };
        for text in labels.iter().flat_map(|(name, value)| [name, value]) {
            let end = all.len + text.len();
            let Some(room) = all.bytes.get_mut(all.len..=end) else {
                return Err(refuse(format!("has labels of more than {MAX_LABEL_BYTES} bytes")));
            };
            room[..text.len()].copy_from_slice(text.as_bytes());
            room[text.len()] = SEPARATOR;
            all.len = end + 1;
        }
        Ok(all)
    }

    fn words(&self) -> impl Iterator<Item = u64> + '_ {
        self.bytes[..self.len.div_ceil(8) * 8].chunks_exact(8).map(|chunk| {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            u64::from_le_bytes(word)
        })
    }
}

/// What is wrong with an exemplar's labels.
fn complaint(labels: &[(&str, &str)]) -> Option<String> {
    let code_points: usize =
        labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
    if code_points > MAX_CODE_POINTS {
        return Some(format!("has labels of {code_points} characters, {MAX_CODE_POINTS} at most"));
    }
    for (i, (name, _)) in labels.iter().enumerate() {
        let reason = if name.is_empty() {
            "is empty"
        } else if name.chars().any(char::is_control) {
            "holds a control character"
        } else if labels[..i].iter().any(|(other, _)| other == name) {
            "is given twice"
        } else {
            continue;
        };
        return Some(format!("has a label name {name:?} that {reason}"));
    }
    None
}

/// The labels that a slot holds; None of what no [`Labels`] has written.
fn decode(bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let mut rest = bytes;
    let mut next = || {
        let end = rest.iter().position(|byte| *byte == SEPARATOR)?;
        let text = std::str::from_utf8(&rest[..end]).ok()?;
        rest = &rest[end + 1..];
        Some((text.to_string(), rest.is_empty()))
    };
    let mut labels = Vec::new();
    let mut at_end = bytes.is_empty();
    while !at_end {
        let (name, _) = next()?;
        let value;
        (value, at_end) = next()?;
        labels.push((name, value));
    }
    let pairs: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    complaint(&pairs).is_none().then_some(labels)
}

// ---------------------------------------------------------------------------------------------
// Slots

/// Slots handed out so far.
pub(crate) fn n_slots(segment: &Segment) -> u32 {
    (segment.used(Region::Exemplars) / size_of::<ExemplarSlot>() as u64) as u32
}

/// The slot of a cell between `head` and `stop` (exclusive) of its chain.
fn find(segment: &Segment, head: u32, stop: u32, cell: u32) -> Option<&ExemplarSlot> {
    let mut at = head;
    for _ in 0..MAX_EXEMPLARS {
        if at == stop {
            return None;
        }
        let slot = segment.exemplar(at.checked_sub(1)?)?;
        if slot.cell.load(Ordering::Relaxed) == cell {
            return Some(slot); // written before the slot was linked
        }
        at = slot.next.load(Ordering::Relaxed); // as above
    }
    None // a ring of links: someone scribbled
}

fn find_or_add(segment: &Segment, cell: u32) -> Result<&ExemplarSlot, Full> {
    let chain = &segment.header().exemplar_chains[cell as usize % EXEMPLAR_CHAINS];
    let mut mine = None;
    let mut seen = 0; // chain entries from here on were looked at already
    loop {
        let head = chain.load(Ordering::Acquire); // partner: the exchange below
        if let Some(slot) = find(segment, head, seen, cell) {
            return Ok(slot); // if we had made one, it stays unused
        }
        seen = head;
        let number = match mine {
            Some(number) => number,
            None => {
                let size = size_of::<ExemplarSlot>() as u64;
                *mine.insert((segment.alloc(Region::Exemplars, size)? / size) as u32)
            }
        };
        let slot = segment.exemplar(number).ok_or(Full)?;
        slot.cell.store(cell, Ordering::Relaxed); // published by the exchange
        slot.next.store(head, Ordering::Relaxed); // published by the exchange
        if chain.compare_exchange(head, number + 1, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return Ok(slot);
        }
    }
}

/// Has this window's share not been taken yet? Two writers that count at once let one more through.
fn takes_another(window: &AtomicU64, now_ns: u64) -> bool {
    let current = now_ns >> WINDOW_SHIFT << 16;
    let seen = window.load(Ordering::Relaxed); // a pace, no order
    let taken = if seen & !0xffff == current { seen & 0xffff } else { 0 };
    if taken >= PER_WINDOW {
        return false;
    }
    window.store(current | (taken + 1), Ordering::Relaxed); // as above
    true
}

/// Keeps an exemplar of a cell, of its series' present generation. False when enough have come just
/// before, or there is no room for another cell's.
pub(crate) fn keep(
    segment: &Segment,
    cell: u32,
    generation: u32,
    labels: &Labels,
    value: f64,
    unix_seconds: f64,
) -> bool {
    let Ok(slot) = find_or_add(segment, cell) else {
        segment.header().counters.exemplars_no_space.fetch_add(1, Ordering::Relaxed); // a count, no order
        return false;
    };
    let taken = takes_another(&slot.window, os::unix_ns());
    if taken {
        let head = labels.len as u64 | u64::from(generation) << 32;
        write(
            slot,
            [head, value.to_bits(), unix_seconds.to_bits()].into_iter().chain(labels.words()),
        );
    }
    taken
}

fn write(slot: &ExemplarSlot, words: impl Iterator<Item = u64>) {
    // A number that no other writer has; the words need no order (see the top).
    let version = slot.version.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    for (place, word) in slot.copies[(version & 1) as usize].iter().zip(words) {
        place.0.store(u128::from(word) | u128::from(version) << 64, Ordering::Relaxed);
        // as above
    }
}

/// A copy, with its version and generation, if it is whole.
fn read_copy(copy: &[TaggedWord; EXEMPLAR_WORDS]) -> Option<(u64, u32, Exemplar)> {
    let get = |word: &TaggedWord| {
        let wide = word.0.load(Ordering::Relaxed); // vouched for by its tag
        (wide as u64, (wide >> 64) as u64)
    };
    let (head, version) = get(&copy[0]);
    let len = (head & 0xffff) as usize;
    let mut content = [0; EXEMPLAR_WORDS];
    for (place, word) in content.iter_mut().zip(copy.get(..HEAD_WORDS + len.div_ceil(8))?) {
        let (word, tag) = get(word);
        if tag != version {
            return None;
        }
        *place = word;
    }
    let bytes: Vec<u8> = content[HEAD_WORDS..].iter().flat_map(|word| word.to_le_bytes()).collect();
    let exemplar = Exemplar {
        labels: decode(bytes.get(..len)?)?,
        value: f64::from_bits(content[1]),
        unix_seconds: f64::from_bits(content[2]),
    };
    let dated = (0.0..f64::INFINITY).contains(&exemplar.unix_seconds);
    (version != 0 && dated).then_some((version, (head >> 32) as u32, exemplar))
}

fn read_slot(slot: &ExemplarSlot) -> Option<(u32, Exemplar)> {
    let whole = slot.copies.iter().filter_map(read_copy);
    whole
        .max_by_key(|(version, _, _)| *version)
        .map(|(_, generation, exemplar)| (generation, exemplar))
}

/// The exemplar of a cell, if it is of that generation.
pub(crate) fn of_cell(segment: &Segment, cell: u32, generation: u32) -> Option<Exemplar> {
    let chain = &segment.header().exemplar_chains[cell as usize % EXEMPLAR_CHAINS];
    let slot = find(segment, chain.load(Ordering::Acquire), 0, cell)?; // partner: `find_or_add`
    read_slot(slot).filter(|(of, _)| *of == generation).map(|(_, exemplar)| exemplar)
}

/// All exemplars: cell, generation and what it is.
pub(crate) fn all(segment: &Segment) -> impl Iterator<Item = (u32, u32, Exemplar)> + '_ {
    (0..n_slots(segment)).filter_map(|number| {
        let slot = segment.exemplar(number)?;
        let (generation, exemplar) = read_slot(slot)?;
        Some((slot.cell.load(Ordering::Relaxed), generation, exemplar)) // written before any version
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Caps;

    fn segment() -> Segment {
        let caps = Caps { max_series: 1024, max_series_per_family: 1024 };
        Segment::inherited(caps).expect("memory for a segment")
    }

    #[test]
    fn labels_that_cannot_be_an_exemplars_are_refused_with_a_reason() {
        let long = "x".repeat(MAX_CODE_POINTS - 1);
        let wide = "\u{1f980}".repeat(MAX_CODE_POINTS - 1);
        for labels in [&[("a", long.as_str())][..], &[("a", &wide)], &[], &[("a", ""), ("b", "")]] {
            assert!(Labels::new("m", labels).is_ok(), "{labels:?}");
        }
        let longer = "x".repeat(MAX_CODE_POINTS);
        for (labels, reason) in [
            (&[("a", longer.as_str())][..], "129 characters"),
            (&[("", "1")], "is empty"),
            (&[("a\nb", "1")], "control character"),
            (&[("a", "1"), ("a", "2")], "given twice"),
        ] {
            let error = Labels::new("m", labels).err().expect("refused").to_string();
            assert!(error.contains(reason) && error.contains("\"m\""), "{error}");
        }
    }

    #[test]
    fn whoever_writes_at_the_same_time_no_torn_exemplar_is_read() {
        const WRITES: u64 = 100_000;
        let segment = segment();
        let slot = find_or_add(&segment, 7).unwrap();
        let done = AtomicU64::new(0);
        let write_all = |writer: u64| {
            for n in 0..WRITES {
                let number = (2 * n + writer).to_string();
                let trace = number.repeat(1 + (n % 6) as usize);
                let labels = Labels::new("m", &[("n", &number), ("trace", &trace)]).unwrap();
                let value = (2 * n + writer) as f64;
                write(
                    slot,
                    [labels.len as u64, value.to_bits(), 0].into_iter().chain(labels.words()),
                );
            }
        };
        std::thread::scope(|scope| {
            let writers = [0, 1].map(|writer| scope.spawn(move || write_all(writer)));
            let reader = scope.spawn(|| {
                let mut read = 0;
                while done.load(Ordering::Relaxed) == 0 {
                    let Some(exemplar) = of_cell(&segment, 7, 0) else { continue };
                    let [(_, number), (_, trace)] = exemplar.labels.as_slice() else {
                        panic!("torn: {exemplar:?}")
                    };
                    let whole = trace.replace(number.as_str(), "").is_empty();
                    assert!(whole && exemplar.value.to_string() == *number, "torn: {exemplar:?}");
                    read += 1;
                }
                read
            });
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            done.store(1, Ordering::Relaxed);
            assert!(reader.join().unwrap() > 0);
        });
        assert_eq!(of_cell(&segment, 7, 0).expect("the last").labels.len(), 2);
    }

    #[test]
    fn the_table_is_bounded_and_says_so() {
        let segment = segment();
        let labels = Labels::new("m", &[("trace", "1")]).unwrap();
        let n = MAX_EXEMPLARS as u32 + 10;
        let kept = (1..=n).filter(|cell| keep(&segment, *cell, 0, &labels, 1.0, 1.0)).count();
        assert_eq!((kept, all(&segment).count()), (MAX_EXEMPLARS, MAX_EXEMPLARS));
        assert_eq!(segment.header().counters.exemplars_no_space.load(Ordering::Relaxed), 10);
        assert!(keep(&segment, 1, 0, &labels, 2.0, 2.0), "one that has its place keeps it");
        assert_eq!(of_cell(&segment, 1, 0).unwrap().value, 2.0);
    }

    #[test]
    fn bytes_that_nobody_wrote_so_are_no_exemplar() {
        let segment = segment();
        let slot = find_or_add(&segment, 7).unwrap();
        for len in [0xffff, 1, 2, 552] {
            for word in [u64::MAX, 0xfefe_fefe_fefe_fefe, 0xff61_ff61_ff61_ff61, 0] {
                write(slot, [len, 1f64.to_bits(), 1].into_iter().chain([word; 69]));
                assert_eq!(of_cell(&segment, 7, 0), None, "{len} {word:x}");
            }
        }
        slot.next.store(1, Ordering::Relaxed); // a ring of links
        assert_eq!(of_cell(&segment, 7 + EXEMPLAR_CHAINS as u32, 0), None);
    }
}
