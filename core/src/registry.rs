//! Append-only, lock-free registry in the segment: family -> series (label set) -> dense ids; rules for names and labels.
//!
//! Both families and series hang in hash chains whose heads are words of the segment. An entry is
//! written completely and then linked by one compare-and-swap of the head; a loser of that race looks
//! at what the winner put in front of it. So two processes can never register one name or one label
//! set twice, nobody waits, and a process killed before the link leaves only unused bytes.
//! Ids are never given back: a removed series is hidden and may be revived (see `core/docs/why.md`).

use crate::error::Error;
use crate::layout::*;
use crate::native::{self, Native};
use crate::os;
use crate::segment::{Full, Segment};
use crate::sync::{AtomicU32, Ordering};

/// Longest metric or label name, bytes.
pub const MAX_NAME_BYTES: usize = 512;
/// Longest label value, bytes; a longer one goes to the family's overflow series.
pub const MAX_LABEL_VALUE_BYTES: usize = 1024;
/// Most labels of a family.
pub const MAX_LABELS: usize = 64;
/// Most finite buckets of a histogram.
pub const MAX_BUCKETS: usize = 1024;
/// Most quantiles of a summary.
const MAX_QUANTILES: usize = 16;
/// Longest help text, bytes; the rest is cut off.
const MAX_HELP_BYTES: usize = 16 * 1024;
/// Bytes of a family's exponential buckets: schema, sides, limits, how many are shown.
const NATIVE_BYTES: usize = 9;
/// Longest record of a family: a longer one is damage.
const MAX_FAMILY_BYTES: usize =
    (MAX_LABELS + 2) * (MAX_NAME_BYTES + 4) + MAX_HELP_BYTES + 8 * MAX_BUCKETS + 64 + NATIVE_BYTES;
/// Longest record of a label set.
const MAX_LABELS_BYTES: usize = 4 + MAX_LABELS * (MAX_LABEL_VALUE_BYTES + 2);

/// What a metric family is, as Prometheus defines it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum MetricType {
    /// Only ever grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations counted in buckets, with their sum.
    Histogram,
    /// Count and sum of observations.
    Summary,
}

impl MetricType {
    const ALL: [MetricType; 4] =
        [MetricType::Counter, MetricType::Gauge, MetricType::Histogram, MetricType::Summary];

    /// The word of the text format.
    pub fn as_str(self) -> &'static str {
        match self {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
            MetricType::Summary => "summary",
        }
    }
}

/// How the workers' values of one gauge combine; prometheus_client's `multiprocess_mode`, and one of ours.
///
/// The `Live` modes leave out workers that have ended; the others keep what they last set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum GaugeMode {
    /// One sample per worker, living and dead.
    All,
    /// One sample per living worker.
    LiveAll,
    /// Sum over all workers.
    Sum,
    /// Sum over living workers.
    LiveSum,
    /// Maximum over all workers.
    Max,
    /// Maximum over living workers.
    LiveMax,
    /// Minimum over all workers.
    Min,
    /// Minimum over living workers.
    LiveMin,
    /// The value set last.
    MostRecent,
    /// The value set last by a living worker.
    LiveMostRecent,
    /// One value for the whole app, as StatsD has it: the last writer wins, `add` is atomic.
    Shared,
    /// About how many different values were added to it in the last while, as StatsD's sets have it: see
    /// `Series::add_to_set`.
    Unique,
}

impl GaugeMode {
    const ALL: [(GaugeMode, &'static str); 12] = [
        (GaugeMode::All, "all"),
        (GaugeMode::LiveAll, "liveall"),
        (GaugeMode::Sum, "sum"),
        (GaugeMode::LiveSum, "livesum"),
        (GaugeMode::Max, "max"),
        (GaugeMode::LiveMax, "livemax"),
        (GaugeMode::Min, "min"),
        (GaugeMode::LiveMin, "livemin"),
        (GaugeMode::MostRecent, "mostrecent"),
        (GaugeMode::LiveMostRecent, "livemostrecent"),
        (GaugeMode::Shared, "shared"),
        (GaugeMode::Unique, "unique"),
    ];

    /// The mode of that word (`all`, `livesum`, …).
    ///
    /// ```
    /// use promring::client::GaugeMode;
    /// assert_eq!(GaugeMode::parse("livemax"), Some(GaugeMode::LiveMax));
    /// assert_eq!(GaugeMode::parse("average"), None);
    /// ```
    pub fn parse(word: &str) -> Option<GaugeMode> {
        Self::ALL.iter().find(|(_, name)| *name == word).map(|(mode, _)| *mode)
    }

    /// The word of this mode.
    pub fn as_str(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Does it leave out workers that have ended?
    pub fn is_live(self) -> bool {
        use GaugeMode::{LiveAll, LiveMax, LiveMin, LiveMostRecent, LiveSum};
        matches!(self, LiveAll | LiveSum | LiveMax | LiveMin | LiveMostRecent)
    }

    /// Is there one sample per worker?
    pub fn is_per_worker(self) -> bool {
        matches!(self, GaugeMode::All | GaugeMode::LiveAll)
    }

    /// Does the time of the last `set` decide?
    pub fn is_most_recent(self) -> bool {
        matches!(self, GaugeMode::MostRecent | GaugeMode::LiveMostRecent)
    }
}

/// What a family is registered with.
#[derive(Clone, Debug, PartialEq)]
pub struct FamilySpec {
    /// Any UTF-8 without control characters; the exposition escapes what a format cannot carry.
    pub name: String,
    /// Help text.
    pub help: String,
    /// Unit, may be empty.
    pub unit: String,
    /// Its type.
    pub metric_type: MetricType,
    /// For gauges; `All` otherwise.
    pub gauge_mode: GaugeMode,
    /// Label names; values are given in this order.
    pub label_names: Vec<String>,
    /// Finite upper bounds of a histogram, ascending; `+Inf` is implied. Of a summary: the quantiles that it shows,
    /// 0 to 1, ascending.
    pub buckets: Vec<f64>,
    /// A histogram's exponential buckets, beside the others or, when there are none, alone. Of a summary: those that
    /// its quantiles are computed from.
    pub native: Option<Native>,
}

impl FamilySpec {
    /// Cells that one series takes.
    pub(crate) fn cells_per_series(&self) -> u64 {
        match self.metric_type {
            MetricType::Histogram => {
                self.buckets.len() as u64 + self.native.as_ref().map_or(0, Native::n_bounds) + 1
            }
            MetricType::Gauge if self.is_set() => native::SET_CELLS,
            _ => self.event_cells().map_or(1, |n| n + native::window_cells(n)),
        }
    }

    /// Is it one of StatsD's sets?
    pub(crate) fn is_set(&self) -> bool {
        self.metric_type == MetricType::Gauge && self.gauge_mode == GaugeMode::Unique
    }

    /// Of a summary with quantiles: the cells of a series that events change. They stand first.
    pub(crate) fn event_cells(&self) -> Option<u64> {
        let native = self.native.filter(|_| self.metric_type == MetricType::Summary);
        native.map(|native| native.n_bounds() + 1)
    }

    /// A histogram's own bounds.
    pub(crate) fn classic_bounds(&self) -> &[f64] {
        if self.metric_type == MetricType::Histogram {
            &self.buckets
        } else {
            &[]
        }
    }

    /// The bounds between a series' cells.
    pub(crate) fn bounds(&self) -> Vec<f64> {
        native::bounds(self.classic_bounds(), self.native.as_ref())
    }

    /// Names the first thing that Prometheus or the segment could not carry.
    pub fn validate(&self) -> Result<(), Error> {
        if let Some(reason) = bad_name(&self.name) {
            return Err(Error::MetricName { name: self.name.clone(), reason });
        }
        let bad_label = |label: &str, reason| Error::LabelName {
            metric: self.name.clone(),
            label: label.to_string(),
            reason,
        };
        for (i, label) in self.label_names.iter().enumerate() {
            if let Some(reason) = bad_name(label) {
                return Err(bad_label(label, reason));
            }
            if self.label_names[..i].contains(label) {
                return Err(bad_label(label, "is given twice"));
            }
            let own = match self.metric_type {
                MetricType::Histogram => label == "le",
                MetricType::Summary => label == "quantile",
                _ => false,
            };
            if own || label.starts_with("__") {
                return Err(Error::ReservedLabel {
                    metric: self.name.clone(),
                    label: label.clone(),
                });
            }
        }
        if self.label_names.len() > MAX_LABELS {
            return Err(bad_label(&self.label_names[MAX_LABELS], "is one too many: 64 at most"));
        }
        self.validate_buckets()
    }

    fn validate_buckets(&self) -> Result<(), Error> {
        let refuse = |reason| Err(Error::Buckets { metric: self.name.clone(), reason });
        let complaint = self.native.as_ref().and_then(Native::complaint);
        if self.metric_type == MetricType::Summary && !self.buckets.is_empty() {
            return match complaint.or_else(|| self.quantiles_complaint()) {
                Some(complaint) => refuse(complaint),
                None => Ok(()),
            };
        }
        if self.metric_type != MetricType::Histogram {
            return if self.buckets.is_empty() && self.native.is_none() {
                Ok(())
            } else {
                refuse("do not fit: it is no histogram")
            };
        }
        if let Some(complaint) = complaint {
            return refuse(complaint);
        }
        if self.buckets.is_empty() && self.native.is_none() {
            return refuse("are empty: give at least one upper bound");
        }
        if self.buckets.len() > MAX_BUCKETS {
            return refuse("are too many: 1024 at most");
        }
        if self.buckets.iter().any(|bound| !bound.is_finite()) {
            return refuse("must be finite (+Inf is added by itself)");
        }
        if self.buckets.windows(2).any(|pair| pair[0] >= pair[1]) {
            return refuse("must be in ascending order, each once");
        }
        Ok(())
    }

    fn quantiles_complaint(&self) -> Option<&'static str> {
        if self.native.is_none() {
            Some("of quantiles need exponential ones to be computed from")
        } else if self.buckets.len() > MAX_QUANTILES {
            Some("of quantiles are too many: 16 at most")
        } else if self.buckets.iter().any(|quantile| !(0.0..=1.0).contains(quantile)) {
            Some("of quantiles must be from 0 to 1")
        } else if self.buckets.windows(2).any(|pair| pair[0] >= pair[1]) {
            Some("of quantiles must be in ascending order, each once")
        } else {
            None
        }
    }

    /// Says what it is, for messages.
    fn describe(&self) -> String {
        let mut text = self.metric_type.as_str().to_string();
        if self.metric_type == MetricType::Gauge {
            text += &format!(" of mode {}", self.gauge_mode.as_str());
        }
        text += &format!(" with labels [{}]", self.label_names.join(", "));
        if self.metric_type == MetricType::Histogram {
            text += &format!(" and buckets {:?}", self.buckets);
            let schema =
                |native: Native| format!(" and exponential ones of schema {}", native.schema);
            text += &self.native.map(schema).unwrap_or_default();
        }
        text
    }

    /// Same thing under the same name? The help and the order of the labels may differ, and so may
    /// exponential buckets and quantiles: they are a matter of configuration, and whoever comes first decides.
    fn agrees_with(&self, other: &FamilySpec) -> bool {
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort();
            names
        };
        self.metric_type == other.metric_type
            && self.gauge_mode == other.gauge_mode
            && self.classic_bounds() == other.classic_bounds()
            && sorted(&self.label_names) == sorted(&other.label_names)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_text(&mut bytes, &self.name);
        bytes.push(self.metric_type as u8);
        bytes.push(self.gauge_mode as u8);
        put_text(&mut bytes, cut(&self.help, MAX_HELP_BYTES));
        put_text(&mut bytes, cut(&self.unit, MAX_NAME_BYTES));
        bytes.extend((self.label_names.len() as u32).to_le_bytes());
        for label in &self.label_names {
            put_text(&mut bytes, label);
        }
        bytes.extend((self.buckets.len() as u32).to_le_bytes());
        for bound in &self.buckets {
            bytes.extend(bound.to_bits().to_le_bytes());
        }
        if let Some(native) = &self.native {
            let Native { schema, min_exponent, max_exponent, signed, max_buckets, alone } = *native;
            bytes.extend([schema as u8, u8::from(signed), u8::from(alone)]);
            bytes.extend(min_exponent.to_le_bytes());
            bytes.extend(max_exponent.to_le_bytes());
            bytes.extend(max_buckets.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<FamilySpec> {
        let mut rest = bytes;
        let name = take_text(&mut rest)?;
        let metric_type = *MetricType::ALL.get(usize::from(*take(&mut rest, 1)?.first()?))?;
        let gauge_mode = GaugeMode::ALL.get(usize::from(*take(&mut rest, 1)?.first()?))?.0;
        let help = take_text(&mut rest)?;
        let unit = take_text(&mut rest)?;
        let n_labels = take_u32(&mut rest)? as usize;
        let label_names =
            (0..n_labels.min(MAX_LABELS)).map(|_| take_text(&mut rest)).collect::<Option<_>>()?;
        let n_buckets = take_u32(&mut rest)? as usize;
        let buckets = (0..n_buckets.min(MAX_BUCKETS))
            .map(|_| Some(f64::from_bits(u64::from_le_bytes(take(&mut rest, 8)?.try_into().ok()?))))
            .collect::<Option<_>>()?;
        let native = if rest.is_empty() { None } else { Some(take_native(&mut rest)?) };
        let spec =
            FamilySpec { name, help, unit, metric_type, gauge_mode, label_names, buckets, native };
        spec.validate().is_ok().then_some(spec)
    }
}

/// Exemplars that a series has whose histogram has exponential buckets alone.
const NATIVE_EXEMPLARS: u64 = 8;

/// How many exemplars a series of that kind has at the most.
pub(crate) fn n_exemplars(metric_type: MetricType, buckets: &[f64]) -> usize {
    match metric_type {
        MetricType::Counter => 1,
        MetricType::Histogram if buckets.is_empty() => NATIVE_EXEMPLARS as usize,
        MetricType::Histogram => buckets.len() + 1,
        MetricType::Gauge | MetricType::Summary => 0,
    }
}

/// Which of its series' exemplars a value belongs to: a counter has one, a histogram one for each classic
/// bucket; where it has none, values of neighbouring powers of two have different ones.
pub(crate) fn exemplar_number(
    metric_type: MetricType,
    buckets: &[f64],
    value: f64,
) -> Option<usize> {
    match metric_type {
        MetricType::Counter => (0.0..f64::INFINITY).contains(&value).then_some(0),
        MetricType::Histogram if value.is_finite() && buckets.is_empty() => {
            Some(((value.to_bits() >> 52) % NATIVE_EXEMPLARS) as usize)
        }
        MetricType::Histogram if value.is_finite() => {
            Some(buckets.partition_point(|bound| *bound < value))
        }
        _ => None,
    }
}

fn bad_name(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("is empty")
    } else if name.len() > MAX_NAME_BYTES {
        Some("is longer than 512 bytes")
    } else if name.chars().any(char::is_control) {
        Some("holds a control character")
    } else {
        None
    }
}

/// The beginning of a text, whole characters only.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(n)?;
    *rest = tail;
    Some(head)
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(take(rest, 4)?.try_into().ok()?))
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    let n = take_u32(rest)? as usize;
    Some(String::from_utf8_lossy(take(rest, n)?).into_owned())
}

fn take_native(rest: &mut &[u8]) -> Option<Native> {
    let [schema, signed, alone] = take(rest, 3)?.try_into().ok()?;
    let mut number = || take(rest, 2)?.try_into().ok();
    Some(Native {
        schema: schema as i8,
        signed: signed != 0,
        alone: alone != 0,
        min_exponent: i16::from_le_bytes(number()?),
        max_exponent: i16::from_le_bytes(number()?),
        max_buckets: u16::from_le_bytes(number()?),
    })
}

/// A quick hash, the same in every process of the app; the segment's seed keeps label values from
/// being chosen to collide.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(K);
    for chunk in bytes.chunks(8) {
        let mut word = [0u8; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(K);
        hash ^= hash >> 29;
    }
    hash.wrapping_mul(K) ^ (hash >> 32)
}

pub(crate) fn segment_hash(segment: &Segment, bytes: &[u8]) -> u64 {
    hash(segment.header().instance.load(Ordering::Relaxed), bytes) // written once at creation
}

// ---------------------------------------------------------------------------------------------
// Families

/// What is registered under a family id; None for ids not (yet) linked or damaged.
pub(crate) fn family_spec(segment: &Segment, id: u32) -> Option<FamilySpec> {
    let entry = segment.family(id)?;
    if entry.state.load(Ordering::Acquire) == 0 {
        return None; // partner: `publish_family`
    }
    spec_of(segment, entry)
}

/// The spec in an entry that was found by its link, published or not.
fn spec_of(segment: &Segment, entry: &FamilyEntry) -> Option<FamilySpec> {
    let text = entry.text.load(Ordering::Relaxed); // written once before linked
    FamilySpec::decode(&segment.read_text(text, MAX_FAMILY_BYTES)?)
}

/// A linked family is exposed; an entry that lost the race to be linked never is, and whoever finds
/// one whose writer died in between does it for him.
fn publish_family(segment: &Segment, id: u32) {
    let Some(entry) = segment.family(id) else { return };
    if entry.state.load(Ordering::Relaxed) == 0 {
        entry.state.store(1, Ordering::Release); // partner: `family_spec`; any number of times is fine
        catalog_changed(segment);
    }
}

/// Number of family ids handed out; 0 is none.
pub(crate) fn n_families(segment: &Segment) -> u32 {
    (segment.used(Region::Families) / size_of::<FamilyEntry>() as u64) as u32
}

/// Number of series ids handed out; 0 is none.
pub(crate) fn n_series(segment: &Segment) -> u32 {
    (segment.used(Region::Series) / size_of::<SeriesEntry>() as u64) as u32
}

/// Number of series that are exposed.
pub(crate) fn n_live_series(segment: &Segment) -> usize {
    let live = |id: &u32| {
        let state = segment.series(*id).map_or(0, |entry| entry.state.load(Ordering::Acquire)); // partner: `publish`
        is_shown(state)
    };
    (1..n_series(segment)).filter(live).count()
}

/// The head of the chain in which a family of that name stands.
fn family_chain<'a>(segment: &'a Segment, name: &str) -> &'a AtomicU32 {
    let number = segment_hash(segment, name.as_bytes()) as usize % FAMILY_CHAINS;
    &segment.header().family_chains[number]
}

/// The id of the family of that name, registered now if it is new, and how it is registered.
pub(crate) fn find_or_add_family(
    segment: &Segment,
    spec: &FamilySpec,
) -> Result<(u32, FamilySpec), Error> {
    spec.validate()?;
    let chain = family_chain(segment, &spec.name);
    let mut mine = None;
    let mut seen = 0; // chain entries from here on were looked at already
    loop {
        let head = chain.load(Ordering::Acquire); // partner: the exchange below
        if let Some((id, theirs)) = find_family(segment, head, seen, &spec.name) {
            publish_family(segment, id);
            return if spec.agrees_with(&theirs) {
                Ok((id, theirs))
            } else {
                Err(conflict(spec, &theirs))
            };
        }
        seen = head;
        let id = match mine {
            Some(id) => id,
            None => *mine.insert(write_family(segment, spec).map_err(|_| no_room(spec))?),
        };
        let entry = segment.family(id).ok_or_else(|| no_room(spec))?;
        entry.next.store(head, Ordering::Relaxed); // published by the exchange
        if chain.compare_exchange(head, id + 1, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            publish_family(segment, id);
            return Ok((id, spec.clone()));
        }
    }
}

/// How the family of that name is registered.
pub(crate) fn family_named(segment: &Segment, name: &str) -> Option<FamilySpec> {
    let head = family_chain(segment, name).load(Ordering::Acquire); // partner: the exchange in `find_or_add_family`
    find_family(segment, head, 0, name).map(|(_, spec)| spec)
}

/// Walks a chain from `head` until `stop` (exclusive) or its end.
fn find_family(segment: &Segment, head: u32, stop: u32, name: &str) -> Option<(u32, FamilySpec)> {
    let mut at = head;
    for _ in 0..MAX_FAMILIES {
        if at == 0 || at == stop {
            return None;
        }
        let entry = segment.family(at - 1)?;
        if let Some(spec) = spec_of(segment, entry).filter(|spec| spec.name == name) {
            return Some((at - 1, spec));
        }
        at = entry.next.load(Ordering::Relaxed); // written before the entry was linked
    }
    None
}

/// Writes a family with its overflow series, not linked yet.
fn write_family(segment: &Segment, spec: &FamilySpec) -> Result<u32, Full> {
    let size = size_of::<FamilyEntry>() as u64;
    let text = segment.write_text(0, &spec.encode())?;
    let id = (segment.alloc(Region::Families, size)? / size) as u32;
    // The overflow series exists from the start: a full segment must still have it.
    let overflow = write_series(segment, id, spec, 0)?;
    let entry = segment.family(id).ok_or(Full)?;
    entry.text.store(text, Ordering::Relaxed); // published by the link
    entry.overflow.store(overflow, Ordering::Relaxed); // published by the link
    Ok(id)
}

fn conflict(spec: &FamilySpec, theirs: &FamilySpec) -> Error {
    Error::FamilyConflict {
        metric: spec.name.clone(),
        existing: theirs.describe(),
        requested: spec.describe(),
    }
}

fn no_room(spec: &FamilySpec) -> Error {
    Error::Full {
        what: format!("metric {:?}", spec.name),
        remedy:
            "the segment or its file system is full: enlarge the tmpfs or register fewer metrics; \
                 this metric is not counted",
    }
}

/// Tells cached catalogs that something was registered, removed or revived.
pub(crate) fn catalog_changed(segment: &Segment) {
    segment.header().catalog_version.fetch_add(1, Ordering::Release); // partner: `snapshot::Reader`
}

// ---------------------------------------------------------------------------------------------
// Series

/// Where a label set's values go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Placed {
    /// Its own series.
    Series(u32),
    /// The family's overflow series.
    Overflow(u32),
}

/// Splits a state word.
pub(crate) fn state_of(word: u32) -> u32 {
    word & 3
}

/// The generation of a state word: how often the series was revived.
pub(crate) fn generation_of(word: u32) -> u32 {
    word >> 3
}

/// Is a series with that state word on the page?
pub(crate) fn is_shown(word: u32) -> bool {
    state_of(word) == SERIES_LIVE || is_undecided(word)
}

/// Is it idle and hidden from those who want to count, until it is certain that nobody just did?
fn is_undecided(word: u32) -> bool {
    state_of(word) == SERIES_REMOVING && word & SERIES_ANNOUNCED != 0
}

/// May one count in a series with that state word?
#[inline]
pub(crate) fn takes_counts(word: u32) -> bool {
    const WHOLE: u32 = SERIES_ANNOUNCED | 3;
    word & WHOLE == SERIES_ANNOUNCED | SERIES_LIVE
}

/// The word after this one: another state, and the next generation when it comes (back) to life.
pub(crate) fn next_state(word: u32, state: u32) -> u32 {
    let generation = generation_of(word).wrapping_add(u32::from(state == SERIES_LIVE));
    (generation << 3) | state
}

/// The series that stands for a family's label sets beyond the caps; 0 for an unknown family.
pub(crate) fn overflow_series(segment: &Segment, family: u32) -> u32 {
    segment.family(family).map_or(0, |f| f.overflow.load(Ordering::Relaxed)) // written once
}

/// The series of a label set (values in the family's own order), added now if it is new.
pub(crate) fn find_or_add_series(
    segment: &Segment,
    family: u32,
    spec: &FamilySpec,
    label_values: &[&str],
) -> Placed {
    let overflow = overflow_series(segment, family);
    if label_values.iter().any(|value| value.len() > MAX_LABEL_VALUE_BYTES) {
        segment.header().counters.overflowed_long.fetch_add(1, Ordering::Relaxed); // a count, no order
        return Placed::Overflow(overflow);
    }
    let bytes = encode_labels(family, label_values);
    let hash = segment_hash(segment, &bytes);
    match insert_series(segment, family, spec, hash, &bytes) {
        Ok(id) => Placed::Series(id),
        Err(Full) => {
            segment.header().counters.overflowed_cap.fetch_add(1, Ordering::Relaxed); // a count, no order
            if let Some(family) = segment.family(family) {
                family.overflowed.fetch_add(1, Ordering::Relaxed); // a count, no order
            }
            Placed::Overflow(overflow)
        }
    }
}

fn insert_series(
    segment: &Segment,
    family: u32,
    spec: &FamilySpec,
    hash: u64,
    bytes: &[u8],
) -> Result<u32, Full> {
    let chain = segment.series_chain(hash).ok_or(Full)?;
    let mut mine = None;
    let mut seen = 0;
    loop {
        let head = chain.load(Ordering::Acquire); // partner: the exchange below
        if let Some(id) = find_series(segment, head, seen, hash, bytes) {
            if mine.is_some() {
                count_out(segment, family); // somebody was quicker: what we had written stays unused
            }
            publish(segment, id);
            return Ok(id);
        }
        seen = head;
        let id = match mine {
            Some(id) => id,
            None => {
                count_in(segment, family)?;
                let text = segment.write_text(hash, bytes);
                let written = text.and_then(|text| write_series(segment, family, spec, text));
                *mine.insert(written.inspect_err(|_| count_out(segment, family))?)
            }
        };
        segment.series(id).ok_or(Full)?.next.store(head, Ordering::Relaxed); // published by the exchange
        if chain.compare_exchange(head, id, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            publish(segment, id);
            return Ok(id);
        }
    }
}

/// A linked series is exposed; whoever finds one whose writer died in between does it for him.
fn publish(segment: &Segment, id: u32) {
    let Some(entry) = segment.series(id) else { return };
    let live = next_state(0, SERIES_LIVE);
    // Release: the entry's fields come before it; partner: the acquire load of `state` in readers.
    let _ = entry.state.compare_exchange(0, live, Ordering::Release, Ordering::Relaxed);
    announce(segment, entry);
}

/// Tells cached catalogs that a series lives, and only then marks it as usable: were the telling lost
/// with its process, others would count where no scrape looks. Telling twice is harmless.
fn announce(segment: &Segment, entry: &SeriesEntry) {
    let word = entry.state.load(Ordering::Acquire); // partner: the exchanges of `state`
    if state_of(word) == SERIES_LIVE && !takes_counts(word) {
        catalog_changed(segment);
        let usable = word | SERIES_ANNOUNCED;
        let _ = entry.state.compare_exchange(word, usable, Ordering::Release, Ordering::Relaxed);
    }
}

fn find_series(segment: &Segment, head: u32, stop: u32, hash: u64, bytes: &[u8]) -> Option<u32> {
    let mut at = head;
    for _ in 0..=n_series(segment) {
        if at == 0 || at == stop {
            return None;
        }
        let entry = segment.series(at)?;
        if segment.text_is(entry.text.load(Ordering::Relaxed), hash, bytes) {
            return Some(at); // the text was written before the entry was linked
        }
        at = entry.next.load(Ordering::Relaxed); // as above
    }
    None // a ring of links: someone scribbled
}

/// Takes one of the family's and the app's series, or says that the cap is reached.
fn count_in(segment: &Segment, family: u32) -> Result<(), Full> {
    let entry = segment.family(family).ok_or(Full)?;
    let cap = segment.header().max_series_per_family.load(Ordering::Relaxed); // written once
    let overflow_entries = u64::from(n_families(segment));
    if u64::from(n_series(segment)) >= segment.max_series() + overflow_entries {
        return Err(Full);
    }
    if u64::from(entry.n_series.fetch_add(1, Ordering::Relaxed)) >= cap {
        entry.n_series.fetch_sub(1, Ordering::Relaxed); // a count: one too many for a moment is harmless
        return Err(Full);
    }
    Ok(())
}

fn count_out(segment: &Segment, family: u32) {
    if let Some(entry) = segment.family(family) {
        entry.n_series.fetch_sub(1, Ordering::Relaxed); // a count, no order
    }
}

/// Writes a series, not linked and not exposed yet.
fn write_series(segment: &Segment, family: u32, spec: &FamilySpec, text: u32) -> Result<u32, Full> {
    let size = size_of::<SeriesEntry>() as u64;
    let cell = segment.alloc_cells(spec.cells_per_series())?;
    let id = u32::try_from(segment.alloc(Region::Series, size)? / size).map_err(|_| Full)?;
    let entry = segment.series(id).ok_or(Full)?;
    let set = |word: &AtomicU32, value: u32| word.store(value, Ordering::Relaxed); // published by the link
    set(&entry.family, family);
    set(&entry.cell, cell);
    set(&entry.text, text);
    if spec.metric_type == MetricType::Gauge {
        let gauge = segment.header().n_gauges.fetch_add(1, Ordering::Relaxed); // a number nobody else gets
        set(&entry.gauge, u32::try_from(gauge).map_err(|_| Full)?);
    }
    entry.created_ns.store(os::unix_ns(), Ordering::Relaxed); // published by the link
    Ok(id)
}

fn encode_labels(family: u32, label_values: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + label_values.iter().map(|v| v.len() + 2).sum::<usize>());
    bytes.extend(family.to_le_bytes());
    for value in label_values {
        bytes.extend((value.len() as u16).to_le_bytes());
        bytes.extend(value.as_bytes());
    }
    bytes
}

/// The label values of a series, in the family's own order; None when damaged.
pub(crate) fn label_values(segment: &Segment, entry: &SeriesEntry) -> Option<Vec<String>> {
    let bytes = segment.read_text(entry.text.load(Ordering::Relaxed), MAX_LABELS_BYTES)?; // written before linked
    let mut rest = bytes.get(4..)?;
    let mut values = Vec::new();
    while !rest.is_empty() {
        let n = u16::from_le_bytes(take(&mut rest, 2)?.try_into().ok()?);
        values.push(String::from_utf8_lossy(take(&mut rest, usize::from(n))?).into_owned());
    }
    Some(values)
}

/// Brings a hidden series back to life as a new generation. False when it cannot be used yet: what
/// its last life has counted must be set to zero first.
pub(crate) fn revive(segment: &Segment, id: u32) -> bool {
    let Some(entry) = segment.series(id) else { return false };
    let word = entry.state.load(Ordering::Acquire); // partner: the exchanges of `state`
    if state_of(word) == SERIES_REMOVING {
        return false;
    }
    if state_of(word) == SERIES_LIVE {
        announce(segment, entry);
        return true;
    }
    entry.created_ns.store(os::unix_ns(), Ordering::Relaxed); // ordered by the exchange
    let live = next_state(word, SERIES_LIVE);
    if entry.state.compare_exchange(word, live, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
        let family = entry.family.load(Ordering::Relaxed); // written once
        if let Some(family) = segment.family(family) {
            family.n_series.fetch_add(1, Ordering::Relaxed); // a count, no order
        }
    }
    announce(segment, entry); // ours, or that of whoever was quicker
    true
}

/// Hides a series that is shown; true if this call did it. Its cells are then to be set to zero, then [`hidden`].
pub(crate) fn hide(segment: &Segment, id: u32) -> bool {
    let Some(entry) = segment.series(id) else { return false };
    let word = entry.state.load(Ordering::Acquire); // partner: the exchanges of `state`
    if !is_shown(word) {
        return false;
    }
    let removing = next_state(word, SERIES_REMOVING);
    let done =
        entry.state.compare_exchange(word, removing, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    if done {
        count_out(segment, entry.family.load(Ordering::Relaxed)); // written once
        catalog_changed(segment);
    }
    done
}

/// Has it been hidden, with cells that are not zero yet?
pub(crate) fn is_removing(segment: &Segment, id: u32) -> bool {
    let word = segment.series(id).map_or(0, |entry| entry.state.load(Ordering::Acquire)); // partner: `hide`
    state_of(word) == SERIES_REMOVING
}

/// The cells of a series being removed are zero.
pub(crate) fn hidden(segment: &Segment, id: u32) {
    let Some(entry) = segment.series(id) else { return };
    let word = entry.state.load(Ordering::Acquire); // partner: the exchanges of `state`
    if state_of(word) == SERIES_REMOVING {
        let removed = next_state(word, SERIES_REMOVED);
        let _ = entry.state.compare_exchange(word, removed, Ordering::AcqRel, Ordering::Relaxed);
    }
}

// ---------------------------------------------------------------------------------------------
// Idle series: the steps of `drain::Drainer::expire`, under the drain lock

/// The generation of a series on the page that can be idle. Not one without labels, which its metric has from the
/// start, nor the overflow series, which says that something overflowed.
pub(crate) fn can_idle(segment: &Segment, id: u32) -> Option<u32> {
    let entry = segment.series(id)?;
    let word = entry.state.load(Ordering::Acquire); // partner: the exchanges of `state`
    (state_of(word) == SERIES_LIVE && is_labelled(segment, entry)).then(|| generation_of(word))
}

/// A record of a label set begins with the family's id, and ends there without labels.
fn is_labelled(segment: &Segment, entry: &SeriesEntry) -> bool {
    let text = entry.text.load(Ordering::Relaxed); // written before it was linked
    text != 0 && segment.text_bytes(text).is_some_and(|bytes| bytes > size_of::<u32>())
}

/// Has it been removed, and its cells set to zero?
pub(crate) fn is_removed(segment: &Segment, id: u32) -> bool {
    let word = segment.series(id).map_or(0, |entry| entry.state.load(Ordering::Acquire)); // partner: `hidden`
    state_of(word) == SERIES_REMOVED
}

/// Nobody begins to count in it from now on; it is still shown, and not decided yet.
pub(crate) fn suspend(segment: &Segment, id: u32) -> bool {
    exchange_state(segment, id, |word| {
        let undecided = (word & !3) | SERIES_REMOVING;
        takes_counts(word).then_some(undecided)
    })
}

/// As it was before [`suspend`]: somebody has counted, or who suspended it has died.
pub(crate) fn resume(segment: &Segment, id: u32) -> bool {
    exchange_state(segment, id, |word| is_undecided(word).then_some((word & !3) | SERIES_LIVE))
}

/// Hides what [`suspend`] has left on the page.
pub(crate) fn hide_suspended(segment: &Segment, id: u32) -> bool {
    let removing = |word| next_state(word, SERIES_REMOVING);
    let done = exchange_state(segment, id, |word| is_undecided(word).then(|| removing(word)));
    if let (true, Some(entry)) = (done, segment.series(id)) {
        count_out(segment, entry.family.load(Ordering::Relaxed)); // written once
        catalog_changed(segment);
    }
    done
}

/// Exchanges the state for what `change` makes of it; false if that is nothing, or somebody was quicker.
fn exchange_state(segment: &Segment, id: u32, change: impl Fn(u32) -> Option<u32>) -> bool {
    let Some(entry) = segment.series(id) else { return false };
    let word = entry.state.load(Ordering::Acquire); // partner: the exchanges of `state`
    change(word).is_some_and(|new| {
        entry.state.compare_exchange(word, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    })
}
