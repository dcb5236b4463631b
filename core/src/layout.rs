//! Every byte of the segment: `repr(C)` types, ids and constants. No behaviour.
//!
//! `core/docs/segment.md` describes the same bytes for people; the test below compares the two.
//! A change of any type here changes [`LAYOUT_VERSION`], which is part of the segment file's name.

use crate::sync::{AtomicU128, AtomicU32, AtomicU64};

/// Part of the file name, so another layout starts its own segment beside the old one.
pub(crate) const LAYOUT_VERSION: u64 = 1;
/// The first eight bytes of every segment: `promring`.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"promring");

pub(crate) use sizes::*;

#[cfg(not(loom))]
mod sizes {
    /// Slots in a ring; a power of two.
    pub(crate) const RING_SLOTS: usize = 1024;
    /// Worker places in one segment.
    pub(crate) const MAX_PLACES: usize = 1024;
    /// Gauge cells in one chunk: 4 KiB.
    pub(crate) const GAUGE_CHUNK: usize = 256;
    /// Heads of the family hash chains.
    pub(crate) const FAMILY_CHAINS: usize = 256;
    /// Families in one segment.
    pub(crate) const MAX_FAMILIES: usize = 8192;
    /// Heads of the hash chains of exemplars.
    pub(crate) const EXEMPLAR_CHAINS: usize = 512;
    /// Series ids there are at the least, losers of races among them.
    pub(super) const MIN_SERIES: u64 = 1024;
    pub(super) const SPARE_SERIES: u64 = 64;
}

/// Loom explores every interleaving, so whatever is walked there is tiny.
#[cfg(loom)]
mod sizes {
    pub(crate) const RING_SLOTS: usize = 2;
    pub(crate) const MAX_PLACES: usize = 3;
    pub(crate) const GAUGE_CHUNK: usize = 2;
    pub(crate) const FAMILY_CHAINS: usize = 1;
    pub(crate) const MAX_FAMILIES: usize = 3;
    pub(crate) const EXEMPLAR_CHAINS: usize = 1;
    pub(super) const MIN_SERIES: u64 = 2;
    pub(super) const SPARE_SERIES: u64 = 2;
}

/// One event: what a single `inc` or `observe` leaves in the ring.
#[cfg_attr(loom, derive(Default))]
#[repr(C)]
pub(crate) struct Slot {
    /// The amount or the observation, f64 bits; a counter's whole amount as an integer. Written before `meta`.
    pub value: AtomicU64,
    /// `series id : 31 | lap parity : 1 | weight as f32 bits : 32`, low bits first; of a counter's whole amount
    /// `cell : 31 | lap parity : 1 | all ones : 32`. Its store publishes the slot.
    pub meta: AtomicU64,
}

/// Bits of [`Slot::meta`] that hold the series id or the cell.
pub(crate) const ID_MASK: u64 = (1 << 31) - 1;
/// The bit of [`Slot::meta`] that tells a fresh slot from one of the lap before.
pub(crate) const PARITY_BIT: u64 = 1 << 31;
/// Where the weight begins in [`Slot::meta`].
pub(crate) const WEIGHT_SHIFT: u32 = 32;

pub(crate) use shared::*;

mod shared {
    use super::*;

    /// Granularity of growth: what is reserved at once.
    pub(crate) const GROW_STEP: u64 = 64 * 1024;
    /// Counters and buckets that can have an exemplar, in one segment.
    pub(crate) const MAX_EXEMPLARS: usize = 4096;
    /// Words of one copy of an exemplar: what it belongs to, value, time, and 552 bytes of labels.
    pub(crate) const EXEMPLAR_WORDS: usize = 72;
    /// Memory page; regions and places are aligned to it.
    pub(crate) const PAGE: u64 = 4096;

    /// The segment may be used; 0 while its creator writes it.
    pub(crate) const SEGMENT_READY: u64 = 1;
    /// A successor stands under the same name; whoever still maps this one must attach anew.
    pub(crate) const SEGMENT_RETIRED: u64 = 2;

    /// A contiguous array inside the file, reserved in steps.
    #[cfg_attr(loom, derive(Default))]
    #[repr(C)]
    pub(crate) struct RegionHeader {
        /// Offset from the start of the file, page aligned. Written once.
        pub base: AtomicU64,
        /// Bytes it may grow to. Written once.
        pub max_bytes: AtomicU64,
        /// Bytes whose pages are reserved; grows only.
        pub committed: AtomicU64,
        /// Bytes handed out; grows only, never above `committed`.
        pub next: AtomicU64,
    }

    /// The regions, in file order.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[repr(usize)]
    pub(crate) enum Region {
        /// Heads of the series hash chains, `AtomicU32` each.
        Chains = 0,
        /// [`FamilyEntry`] by family id.
        Families = 1,
        /// [`SeriesEntry`] by series id.
        Series = 2,
        /// Records of bytes, written once.
        Text = 3,
        /// [`Cell`] totals; the drainer is their only writer.
        Cells = 4,
        /// Direct cells, by the same index as `Cells`; anyone adds by compare-and-swap.
        Direct = 5,
        /// Worker places: [`PlaceHeader`], gauge directory, ring.
        Places = 6,
        /// Chunks of [`GaugeCell`]s, each owned by one place.
        Gauges = 7,
        /// [`ExemplarSlot`]s; anyone writes.
        Exemplars = 8,
    }
    /// Number of regions.
    pub(crate) const N_REGIONS: usize = 9;

    impl Region {
        /// All of them, in file order.
        pub(crate) const ALL: [Region; N_REGIONS] = [
            Region::Chains,
            Region::Families,
            Region::Series,
            Region::Text,
            Region::Cells,
            Region::Direct,
            Region::Places,
            Region::Gauges,
            Region::Exemplars,
        ];
    }

    /// What a successor needs to finish the event or the fold a killed drainer had begun.
    #[cfg_attr(loom, derive(Default))]
    #[repr(C, align(64))]
    pub(crate) struct Redo {
        /// THE COMMIT POINT: `position : 48 | place : 14 | kind : 2`, low bits first; 0 = nothing pending.
        pub commit: AtomicU64,
        /// Zero: keeps what different processes write on cache lines of their own.
        pub _pad: AtomicU64,
        /// Entry `position & 1` belongs to the committed step, the other one may be half written.
        pub entry: [RedoEntry; 2],
    }

    /// Absolute new values of one cell.
    #[cfg_attr(loom, derive(Default))]
    #[repr(C)]
    pub(crate) struct RedoEntry {
        /// Index of the cell.
        pub cell: AtomicU64,
        /// Its new first word.
        pub a: AtomicU64,
        /// Its new second word.
        pub b: AtomicU64,
    }

    /// The first page of the file.
    #[cfg_attr(loom, derive(Default))]
    #[repr(C, align(64))]
    pub(crate) struct Header {
        /// [`MAGIC`], stored last at creation.
        pub magic: AtomicU64,
        /// [`LAYOUT_VERSION`].
        pub layout_version: AtomicU64,
        /// [`layout_hash`]: sizes, pointer width and byte order.
        pub layout_hash: AtomicU64,
        /// Length of the file; most of it is a hole.
        pub file_bytes: AtomicU64,
        /// Unix time of creation.
        pub created_ns: AtomicU64,
        /// Seed of the hash chains; also tells two segments of one name apart.
        pub instance: AtomicU64,
        /// Cap on series per app.
        pub max_series: AtomicU64,
        /// Cap on series per family.
        pub max_series_per_family: AtomicU64,

        /// `SEGMENT_*`.
        pub state: AtomicU64,
        /// Places ever handed out.
        pub n_places: AtomicU64,
        /// Gauge numbers ever handed out.
        pub n_gauges: AtomicU64,
        /// Bumped after each registration, removal and revival: tells cached catalogs that they are old.
        pub catalog_version: AtomicU64,
        /// Unix time of the aggregator's last round.
        pub aggregator_beat_ns: AtomicU64,
        /// Unix time of the last drain.
        pub drained_ns: AtomicU64,
        /// Bumped before a dead worker's gauges are merged: copies of totals made before are out of date.
        pub folds: AtomicU64,
        /// Id of the idle series whose cells are being set to zero; 0 = none. See `drain::Drainer::expire`.
        pub expiring: AtomicU64,

        /// `generation : 48 | place + 1 : 16`, low bits = place; 0 = free.
        pub drain_lock: AtomicU64,
        /// Bumped at each acquisition and before the redo record is cleared, so a peek notices steps that are over.
        pub drain_seq: AtomicU64,
        /// Zero: keeps what different processes write on cache lines of their own.
        pub _pad: [AtomicU64; 6],

        /// See [`Redo`].
        pub redo: Redo,
        /// Bounds and growth of the regions.
        pub regions: [RegionHeader; N_REGIONS],
        /// Self-metrics.
        pub counters: Counters,
        /// Heads of the family hash chains: family id + 1, 0 = empty.
        pub family_chains: [AtomicU32; FAMILY_CHAINS],
        /// Heads of the hash chains of exemplars: slot number + 1, 0 = empty.
        pub exemplar_chains: [AtomicU32; EXEMPLAR_CHAINS],
        /// How long the window of summaries' quantiles and of sets is; 0: there are none. Written once.
        pub window_ns: AtomicU64,
        /// Number of the sub-window whose start was noted last: monotonic time by its length. See `window`.
        pub window_epoch: AtomicU64,
        /// Zero.
        pub _pad1: [AtomicU64; 2],
    }

    /// Self-metrics of the app; plain relaxed counts.
    #[cfg_attr(loom, derive(Default))]
    #[repr(C)]
    pub(crate) struct Counters {
        /// Events applied to totals.
        pub events_drained: AtomicU64,
        /// Events added straight to direct cells.
        pub direct_adds: AtomicU64,
        /// Values refused: NaN or infinite.
        pub refused_not_finite: AtomicU64,
        /// Values refused: negative amounts of counters.
        pub refused_negative: AtomicU64,
        /// Values refused: the operation does not fit the type.
        pub refused_wrong_type: AtomicU64,
        /// Values that found no memory at all.
        pub refused_no_space: AtomicU64,
        /// Label sets sent to an overflow series by a cap.
        pub overflowed_cap: AtomicU64,
        /// Label sets sent to an overflow series because a value was too long.
        pub overflowed_long: AtomicU64,
        /// Drain passes.
        pub drains: AtomicU64,
        /// Time in drain passes.
        pub drain_ns: AtomicU64,
        /// Scrapes answered.
        pub scrapes: AtomicU64,
        /// Time in scrapes.
        pub scrape_ns: AtomicU64,
        /// Scrapes that could only look at the rings.
        pub peeks: AtomicU64,
        /// Places claimed.
        pub claims: AtomicU64,
        /// Dead workers reaped.
        pub reaped: AtomicU64,
        /// Drain locks taken from a dead holder.
        pub takeovers: AtomicU64,
        /// Events of unknown series or cells: someone scribbled.
        pub corrupt_events: AtomicU64,
        /// Exemplars that found no room.
        pub exemplars_no_space: AtomicU64,
        /// Reserved, zero.
        pub spare: [AtomicU64; 6],
    }

    /// One metric family.
    #[cfg_attr(loom, derive(Default))]
    #[repr(C)]
    pub(crate) struct FamilyEntry {
        /// Next family id + 1 of the chain, 0 = end.
        pub next: AtomicU32,
        /// 0 until linked, and for ever when the race to be linked was lost.
        pub state: AtomicU32,
        /// Word offset of its text record.
        pub text: AtomicU32,
        /// Series alive in it.
        pub n_series: AtomicU32,
        /// Id of its overflow series.
        pub overflow: AtomicU32,
        /// Label sets that went to the overflow series.
        pub overflowed: AtomicU32,
        /// Reserved, zero.
        pub spare: [AtomicU32; 2],
    }

    /// One series: a family with one label set.
    #[cfg_attr(loom, derive(Default))]
    #[repr(C)]
    pub(crate) struct SeriesEntry {
        /// Next series id of the chain, 0 = end.
        pub next: AtomicU32,
        /// Family id.
        pub family: AtomicU32,
        /// `generation : 29 | SERIES_ANNOUNCED : 1 | SERIES_* : 2`, low bits = the word.
        pub state: AtomicU32,
        /// Index of its first cell.
        pub cell: AtomicU32,
        /// Word offset of its text record; 0 = overflow series.
        pub text: AtomicU32,
        /// Gauge number, for gauges.
        pub gauge: AtomicU32,
        /// Unix time of creation or revival.
        pub created_ns: AtomicU64,
    }

    /// Exposed; 0 while not linked yet, or when the race to be linked was lost.
    pub(crate) const SERIES_LIVE: u32 = 1;
    /// Hidden; its cells are to be set to zero. With [`SERIES_ANNOUNCED`]: idle, still shown, nothing decided yet.
    pub(crate) const SERIES_REMOVING: u32 = 2;
    /// Hidden, its cells are zero.
    pub(crate) const SERIES_REMOVED: u32 = 3;
    /// Cached catalogs have been told that it lives; until then nobody may count in it.
    pub(crate) const SERIES_ANNOUNCED: u32 = 4;

    /// A total. Counter `{whole: u64, fraction: f64}`; histogram bucket and summary
    /// `{count: f64, sum: f64}`; gauge `{value: f64, stamp: u64}` of the dead (folded) workers.
    #[cfg_attr(loom, derive(Default))]
    #[repr(C, align(16))]
    pub(crate) struct Cell {
        /// First word.
        pub a: AtomicU64,
        /// Second word.
        pub b: AtomicU64,
    }

    /// A total fed by compare-and-swap: `{first: f64, second: f64}` as one 16-byte word.
    /// Counter `{amount, 0}`; histogram and summary `{count, sum}`; shared gauge `{value, 1}`; of a set 16 registers.
    #[cfg_attr(loom, derive(Default))]
    #[repr(C)]
    pub(crate) struct DirectCell(pub AtomicU128);

    /// One worker's value of one gauge series.
    #[cfg_attr(loom, derive(Default))]
    #[repr(C)]
    pub(crate) struct GaugeCell {
        /// The value, f64 bits.
        pub value: AtomicU64,
        /// 0 = never set. Mostrecent modes: Unix time in ns. Others: generation of the series + 1.
        pub stamp: AtomicU64,
    }

    /// The exemplar of one counter or bucket: two copies, written in turns by whoever comes.
    #[repr(C)]
    pub(crate) struct ExemplarSlot {
        /// Next slot number + 1 of the chain, 0 = end.
        pub next: AtomicU32,
        /// Index of the counter's or bucket's cell.
        pub cell: AtomicU32,
        /// Versions handed out to writers; the low bit of a version is its copy.
        pub version: AtomicU64,
        /// Unix time in units of 2^27 ns : 48 | exemplars taken within it : 16, low bits = the count.
        pub window: AtomicU64,
        /// Zero.
        pub _pad: AtomicU64,
        /// See [`TaggedWord`]: word 0 `bytes of labels : 16 | 0 : 16 | series' generation : 32`, word 1
        /// the value, word 2 Unix time in seconds, then the labels.
        pub copies: [[TaggedWord; EXEMPLAR_WORDS]; 2],
    }

    /// Eight bytes and, in the same 16-byte word, the version they belong to: a copy whose words all
    /// carry one version is whole, whoever else has written or died meanwhile.
    #[repr(C)]
    pub(crate) struct TaggedWord(pub AtomicU128);

    /// The head of a worker place; the gauge directory (`AtomicU32` chunk number + 1 each) follows,
    /// and the ring fills the last 16 KiB of the place.
    #[cfg_attr(loom, derive(Default))]
    #[repr(C, align(64))]
    pub(crate) struct PlaceHeader {
        /// `PLACE_* : 8 | generation : 56`, low bits = the word.
        pub state: AtomicU64,
        /// Process id in its own namespace: a label and a second opinion, never proof of life.
        pub pid: AtomicU64,
        /// When it claimed the place, in nanoseconds since boot: who started later under its pid is another.
        pub claimed_boot_ns: AtomicU64,
        /// Inode of its pid namespace.
        pub pid_namespace: AtomicU64,
        /// Unix time of the claim.
        pub claimed_ns: AtomicU64,
        /// `PLACE_HAS_LIVE_GAUGES`.
        pub flags: AtomicU64,
        /// Processor time that the owner has reported.
        pub cpu_ns: AtomicU64,
        /// Look-ups of label sets by the owner that went to an overflow series.
        pub overflowed: AtomicU64,
        /// Events taken from the ring since the segment began; written by the drainer only.
        pub head: AtomicU64,
        /// Zero: keeps what different processes write on cache lines of their own.
        pub _pad1: [AtomicU64; 7],
    }

    /// Nobody's; clean.
    pub(crate) const PLACE_FREE: u64 = 0;
    /// Claimed. Its owner lives as long as the kernel holds the owner's byte lock.
    pub(crate) const PLACE_LIVE: u64 = 1;
    /// Set by the owner when it sets a gauge of a live mode.
    pub(crate) const PLACE_HAS_LIVE_GAUGES: u64 = 1;

    /// Bytes of the ring at the end of a place.
    pub(crate) const RING_BYTES: u64 = (RING_SLOTS * size_of::<Slot>()) as u64;

    /// Series ids there can be when the app may have `max_series` series: each family's overflow
    /// series comes on top of the cap, and so do losers of races.
    pub(crate) const fn series_ids(max_series: u64) -> u64 {
        let series = if max_series < MIN_SERIES { MIN_SERIES } else { max_series };
        series + series / 8 + MAX_FAMILIES as u64 + SPARE_SERIES
    }

    /// Gauge chunks a place can point to: each series may be a gauge.
    pub(crate) const fn gauge_chunks(max_series: u64) -> u64 {
        series_ids(max_series).div_ceil(GAUGE_CHUNK as u64)
    }

    /// Bytes from one place to the next.
    pub(crate) const fn place_stride(max_series: u64) -> u64 {
        let head = size_of::<PlaceHeader>() as u64 + 4 * gauge_chunks(max_series);
        (head + RING_BYTES).div_ceil(PAGE) * PAGE
    }

    /// Differs between builds that could not share a segment although their layout version agrees.
    pub(crate) const fn layout_hash() -> u64 {
        let sizes = [
            size_of::<Header>(),
            size_of::<FamilyEntry>(),
            size_of::<SeriesEntry>(),
            size_of::<Cell>(),
            size_of::<DirectCell>(),
            size_of::<GaugeCell>(),
            size_of::<PlaceHeader>(),
            size_of::<Slot>(),
            size_of::<ExemplarSlot>(),
            RING_SLOTS,
            size_of::<usize>(),
            u16::from_ne_bytes([1, 0]) as usize,
        ];
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        let mut i = 0;
        while i < sizes.len() {
            hash = (hash ^ sizes[i] as u64).wrapping_mul(0x0100_0000_01b3);
            i += 1;
        }
        hash
    }

    #[cfg(not(loom))]
    const _: () = {
        assert!(size_of::<Slot>() == 16);
        assert!(size_of::<Cell>() == 16);
        assert!(size_of::<DirectCell>() == 16);
        assert!(size_of::<GaugeCell>() == 16);
        assert!(size_of::<FamilyEntry>() == 32);
        assert!(size_of::<SeriesEntry>() == 32);
        assert!(size_of::<PlaceHeader>() == 128);
        assert!(size_of::<Redo>() == 64);
        assert!(size_of::<Header>() <= PAGE as usize);
        assert!(RING_SLOTS.is_power_of_two());
        assert!(MAX_PLACES < 1 << 14);
    };
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::mem::offset_of;

    use super::*;

    /// `(offset, bytes, name)` of each field, in order.
    macro_rules! fields {
        ($type:ty: $($field:tt)*) => {
            (stringify!($type), size_of::<$type>(), vec![$((offset_of!($type, $field), stringify!($field))),*])
        };
    }

    /// The rows of the table under `### name`: offset, bytes, field.
    fn documented(name: &str) -> Vec<(usize, usize, String)> {
        let page = include_str!("../docs/segment.md");
        let section = page.split(&format!("### {name}\n")).nth(1).unwrap_or_default();
        let table = section.split("\n#").next().unwrap_or_default();
        table
            .lines()
            .filter_map(|line| {
                let mut columns = line.strip_prefix("| ")?.split(" | ");
                let (offset, bytes) =
                    (columns.next()?.parse().ok()?, columns.next()?.parse().ok()?);
                Some((offset, bytes, columns.next()?.trim_matches('`').to_string()))
            })
            .collect()
    }

    #[test]
    fn the_page_about_the_segment_describes_every_byte() {
        let types = [
            fields!(RegionHeader: base max_bytes committed next),
            fields!(Header: magic layout_version layout_hash file_bytes created_ns instance max_series
                max_series_per_family state n_places n_gauges catalog_version aggregator_beat_ns
                drained_ns folds expiring drain_lock drain_seq _pad redo regions counters family_chains
                exemplar_chains window_ns window_epoch _pad1),
            fields!(Redo: commit _pad entry),
            fields!(RedoEntry: cell a b),
            fields!(FamilyEntry: next state text n_series overflow overflowed spare),
            fields!(SeriesEntry: next family state cell text gauge created_ns),
            fields!(Cell: a b),
            fields!(DirectCell: 0),
            fields!(GaugeCell: value stamp),
            fields!(PlaceHeader: state pid claimed_boot_ns pid_namespace claimed_ns flags cpu_ns overflowed head _pad1),
            fields!(Slot: value meta),
            fields!(ExemplarSlot: next cell version window _pad copies),
            fields!(TaggedWord: 0),
        ];
        for (name, size, fields) in types {
            let rows = documented(name);
            let told: Vec<(usize, &str)> =
                rows.iter().map(|(at, _, field)| (*at, field.as_str())).collect();
            assert_eq!(told, fields, "fields of {name}");
            let mut end = 0;
            for (offset, bytes, field) in &rows {
                assert_eq!(*offset, end, "a gap before {field} of {name}");
                end += bytes;
            }
            assert_eq!(end, size, "size of {name}");
        }
        assert_eq!(Region::Exemplars as usize + 1, N_REGIONS);
    }
}
