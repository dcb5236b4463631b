//! Registry, totals and gauge cells copied out as plain data for one exposition.

use std::sync::Arc;

use crate::config::GaugeLabel;
use crate::drain::{self, Copied};
use crate::exemplar;
use crate::layout::*;
use crate::native::CellMap;
use crate::registry::{self, FamilySpec, GaugeMode};
use crate::segment::Segment;
use crate::sets;
use crate::sync::{AtomicU64, Ordering};
use crate::totals::{Stamped, Words};
use crate::window::Quantiles;
use crate::worker;

pub use crate::exemplar::{Exemplar, MAX_CODE_POINTS};
pub use crate::native::{Native, NativeHistogram};
pub use crate::registry::MetricType;

// ---------------------------------------------------------------------------------------------
// The plain data

/// The families and series that are to be exposed, without their values.
///
/// Shared between scrapes: the same `Arc` comes back as long as nothing was registered or removed,
/// so whatever is derived from it (the cached line prefixes) can be kept beside its `version`.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Differs whenever anything else in here does.
    pub version: u64,
    /// In order of registration; self-metrics last.
    pub families: Vec<CatalogFamily>,
}

/// One metric family.
#[derive(Debug)]
pub struct CatalogFamily {
    /// As registered, any UTF-8.
    pub name: String,
    /// Help text, may be empty.
    pub help: String,
    /// Unit, may be empty.
    pub unit: String,
    /// Its type.
    pub metric_type: MetricType,
    /// A gauge that says what is so and is always 1: of type info, where the format has it.
    pub info: bool,
    /// Label names in the order of the series' values.
    pub label_names: Vec<String>,
    /// A histogram's finite upper bounds, ascending; `+Inf` is implied. A summary's quantiles.
    pub buckets: Vec<f64>,
    /// A histogram's exponential buckets; those that a summary's quantiles are computed from.
    pub native: Option<Native>,
    /// Its series in order of registration.
    pub series: Vec<CatalogSeries>,
}

/// One label set of a family.
#[derive(Debug)]
pub struct CatalogSeries {
    /// Label pairs beyond the family's own, put last: the overflow mark.
    pub extra_label: Option<(&'static str, String)>,
    /// One value per label name; empty for the overflow series.
    pub label_values: Vec<String>,
    /// Creation time, seconds since the Unix epoch.
    pub created_seconds: f64,
}

/// Values for one exposition.
///
/// `numbers` follows the catalog: for each family, for each series, in order:
/// counter `[value, 0]`; summary `[count, sum]` and, for each quantile, `[its value, 0]`; histogram one `[count, sum]` per bucket,
/// **not** cumulative, `+Inf` last; gauge `[value, 1]`, or `[0, 0]` when the series has no merged
/// value (nothing set yet, or a per-worker mode whose samples stand in `per_worker`).
#[derive(Debug)]
pub struct Snapshot {
    /// What the numbers belong to.
    pub catalog: Arc<Catalog>,
    /// See above.
    pub numbers: Vec<[f64; 2]>,
    /// Samples of the gauge modes `all` and `liveall`, ordered by family and series.
    pub per_worker: Vec<WorkerSample>,
    /// Ordered by family, series and bucket.
    pub exemplars: Vec<SeriesExemplar>,
    /// Those of families that have them, ordered by family and series; empty unless asked for.
    pub natives: Vec<SeriesNative>,
    /// True when another process held the drain lock all the time and the rings were only looked at.
    pub peeked: bool,
}

/// One worker's value of one gauge series.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerSample {
    /// Index into `catalog.families`.
    pub family: u32,
    /// Index into that family's `series`.
    pub series: u32,
    /// Name of the additional label, `pid` or `worker`.
    pub label_name: &'static str,
    /// Its value.
    pub label_value: String,
    /// The gauge's value in that worker.
    pub value: f64,
}

/// The exponential buckets of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesNative {
    /// Index into `catalog.families`.
    pub family: u32,
    /// Index into that family's `series`.
    pub series: u32,
    /// What is in them.
    pub histogram: NativeHistogram,
}

/// The exemplar of a counter or of a histogram's bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesExemplar {
    /// Index into `catalog.families`.
    pub family: u32,
    /// Index into that family's `series`.
    pub series: u32,
    /// Index of the classic bucket that the value lies in; 0 for a counter. Where there are exponential
    /// buckets alone a series has several, the newest first.
    pub bucket: u32,
    /// What it is.
    pub exemplar: Exemplar,
}

// ---------------------------------------------------------------------------------------------
// Where a series' values lie

/// A series as the reader needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeriesPlace {
    id: u32,
    pub(crate) metric_type: MetricType,
    mode: GaugeMode,
    cell: u32,
    n_cells: u32,
    gauge: u32,
}

impl SeriesPlace {
    pub(crate) fn of(
        segment: &Segment,
        id: u32,
        spec: &FamilySpec,
        n_cells: u32,
    ) -> Option<SeriesPlace> {
        let entry = segment.series(id)?;
        let cell = entry.cell.load(Ordering::Relaxed); // written before the id was published
        let gauge = entry.gauge.load(Ordering::Relaxed); // as above
                                                         // Numbers that somebody scribbled must not decide how much memory a scrape takes.
        cell.checked_add(n_cells)
            .filter(|_| u64::from(gauge) < series_ids(segment.max_series()))?;
        let (metric_type, mode) = (spec.metric_type, spec.gauge_mode);
        Some(SeriesPlace { id, metric_type, mode, cell, n_cells, gauge })
    }

    /// Its exemplars by bucket; `buckets` are the family's.
    pub(crate) fn exemplars(&self, segment: &Segment, buckets: &[f64]) -> Vec<(usize, Exemplar)> {
        let n = registry::n_exemplars(self.metric_type, buckets);
        if n == 0 || exemplar::n_slots(segment) == 0 {
            return Vec::new();
        }
        let generation = self.generation(segment);
        (self.cell..self.cell + self.n_cells)
            .take(n)
            .enumerate()
            .filter_map(|(number, cell)| {
                let exemplar = exemplar::of_cell(segment, cell, generation)?;
                self.has_place_for(buckets, number, &exemplar).then_some((number, exemplar))
            })
            .collect()
    }

    /// Its value lies where it stands: nothing scribbled makes a page that Prometheus refuses.
    fn has_place_for(&self, buckets: &[f64], number: usize, exemplar: &Exemplar) -> bool {
        let place = registry::exemplar_number(self.metric_type, buckets, exemplar.value);
        place == Some(number)
    }

    fn generation(&self, segment: &Segment) -> u32 {
        let state = segment.series(self.id).map_or(0, |entry| entry.state.load(Ordering::Acquire)); // partner: `registry::revive`
        registry::generation_of(state)
    }
}

/// Where totals are read from: the segment itself (under the lock) or a copy.
pub(crate) enum Totals<'a> {
    /// The drain lock is held.
    Locked,
    /// A copy made under the lock, or a peek's.
    Copy(&'a Copied),
}

impl Totals<'_> {
    #[inline]
    fn at(&self, segment: &Segment, cell: u32) -> Words {
        match self {
            Totals::Locked => segment
                .at::<Cell>(Region::Cells, u64::from(cell) * size_of::<Cell>() as u64)
                .map_or_else(Words::default, Words::of),
            Totals::Copy(copy) => copy.cells.get(cell as usize).copied().unwrap_or_default(),
        }
    }

    fn folded(&self) -> Option<(usize, u32)> {
        match self {
            Totals::Locked => None,
            Totals::Copy(copy) => copy.folded,
        }
    }
}

fn direct_at(segment: &Segment, cell: u32) -> Words {
    segment
        .at::<DirectCell>(Region::Direct, u64::from(cell) * size_of::<DirectCell>() as u64)
        .map_or_else(Words::default, Words::of_direct)
}

/// Appends the numbers of a series that is not a gauge; see [`Snapshot::numbers`].
pub(crate) fn read_events(
    segment: &Segment,
    totals: &Totals,
    place: &SeriesPlace,
    any_direct: bool,
    numbers: &mut Vec<[f64; 2]>,
) {
    for cell in place.cell..place.cell + place.n_cells {
        let total = totals.at(segment, cell);
        let direct = if any_direct { direct_at(segment, cell) } else { Words::default() };
        numbers.push(match place.metric_type {
            MetricType::Counter => [total.counter_sum(direct), 0.0],
            _ => total.bucket_sum(direct),
        });
    }
}

/// One gauge's value over all workers.
#[derive(Debug, Default, Clone)]
pub(crate) struct GaugeValue {
    /// Under the modes with one result.
    pub merged: Option<f64>,
    /// Under `all` and `liveall`: place and value.
    pub per_worker: Vec<(usize, f64)>,
}

/// Reads the workers' cells of gauges. A worker's life is asked for once at the most.
struct GaugeReader<'a> {
    segment: &'a Segment,
    own: Option<usize>,
    dead: Vec<Option<bool>>,
    folded: Option<(usize, u32)>,
}

impl<'a> GaugeReader<'a> {
    fn new(segment: &'a Segment, own: Option<usize>, folded: Option<(usize, u32)>) -> Self {
        GaugeReader { segment, own, dead: vec![None; segment.n_places()], folded }
    }

    /// Takes one worker's cell into a gauge's value.
    fn take(&mut self, series: &SeriesPlace, place: usize, cell: &GaugeCell, into: &mut Merging) {
        let (Some(entry), Some(value)) =
            (self.segment.series(series.id), Stamped::read(&cell.value, &cell.stamp))
        else {
            return;
        };
        let skip = !drain::is_current(entry, series.mode, value)
            || self.folded == Some((place, series.gauge))
            || (series.mode.is_live() && self.is_dead(place));
        if skip {
            return;
        }
        if series.mode.is_per_worker() {
            into.per_worker.push((place, value.value));
        } else {
            into.merged =
                Some(into.merged.map_or(value, |merged| merged.merge(value, series.mode)));
        }
    }

    fn is_dead(&mut self, place: usize) -> bool {
        let (segment, own) = (self.segment, self.own);
        let Some(known) = self.dead.get_mut(place) else { return true };
        *known.get_or_insert_with(|| {
            worker::status(segment, place) == worker::Status::Free
                || worker::is_dead(segment, place, own)
        })
    }

    /// What the dead left behind, or what all share: a gauge's one value, a set's number.
    fn start(&self, series: &SeriesPlace, totals: &Totals) -> Merging {
        let mut merging = Merging::default();
        if series.mode == GaugeMode::Unique {
            let value = sets::count(self.segment, series.cell);
            merging.merged = Some(Stamped { value, stamp: 1 });
        } else if series.mode == GaugeMode::Shared {
            let words = direct_at(self.segment, series.cell);
            if words.b != 0 {
                merging.merged = Some(Stamped { value: words.floats().0, stamp: 1 });
            }
        } else if let Some(entry) = self.segment.series(series.id) {
            let words = totals.at(self.segment, series.cell);
            let folded = Stamped { value: words.floats().0, stamp: words.b };
            if words.b != 0 && drain::is_current(entry, series.mode, folded) {
                merging.merged = Some(folded);
            }
        }
        merging
    }
}

#[derive(Default)]
struct Merging {
    merged: Option<Stamped>,
    per_worker: Vec<(usize, f64)>,
}

impl Merging {
    fn done(self) -> GaugeValue {
        GaugeValue { merged: self.merged.map(|m| m.value), per_worker: self.per_worker }
    }
}

/// One gauge over all workers. `own` is the caller's place.
pub(crate) fn read_gauge(
    segment: &Segment,
    totals: &Totals,
    series: &SeriesPlace,
    own: Option<usize>,
) -> GaugeValue {
    let mut reader = GaugeReader::new(segment, own, totals.folded());
    let mut merging = reader.start(series, totals);
    let (chunk, at) = (series.gauge as usize / GAUGE_CHUNK, series.gauge as usize % GAUGE_CHUNK);
    for place in 0..segment.n_places() {
        let directory = segment.gauge_directory(place).unwrap_or(&[]);
        let number = directory.get(chunk).map_or(0, |entry| entry.load(Ordering::Acquire)); // partner: `Worker::gauge_cell`
        let cells = number.checked_sub(1).and_then(|n| segment.gauge_chunk(n));
        if let Some(cell) = cells.and_then(|cells| cells.get(at)) {
            reader.take(series, place, cell, &mut merging);
        }
    }
    merging.done()
}

/// The label value that stands for a place.
pub(crate) fn worker_label(segment: &Segment, place: usize, label: GaugeLabel) -> String {
    match label {
        GaugeLabel::Worker => place.to_string(),
        GaugeLabel::Pid => segment
            .place(place)
            .map_or(0, |header| header.pid.load(Ordering::Relaxed)) // a label; ordered by the stamp's acquire
            .to_string(),
    }
}

// ---------------------------------------------------------------------------------------------
// The reader of everything

/// What is shown besides the app's metrics.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// Labels of `target_info`; without any, it is not shown.
    pub target: Vec<(String, String)>,
    /// The counters of drains and scrapes.
    pub scrape_metrics: bool,
}

/// Keeps the catalog and where its values lie from one scrape to the next.
pub(crate) struct Reader {
    segment: &'static Segment,
    shown: Shown,
    catalog: Arc<Catalog>,
    /// The segment's version of the catalog; None before the first.
    seen: Option<u64>,
    /// In catalog order, self-metrics not included.
    places: Vec<SeriesPlace>,
    /// Family and series index of each gauge number.
    by_gauge: Vec<Option<(u32, u32, usize)>>,
    /// By family of the catalog: what its series' cells mean if there are exponential buckets.
    cells: Vec<Option<CellMap>>,
    /// By family of the catalog: a summary's quantiles.
    quantiles: Vec<Option<Quantiles>>,
    /// First cell, family and series index, and index in `places`, by cell; made when there are exemplars.
    by_cell: Vec<(u32, u32, u32, usize)>,
    /// Families whose overflow series is in the catalog.
    overflowed: Vec<u32>,
    /// Index of the family whose samples are the workers' look-ups of label sets beyond a cap.
    by_worker: u32,
}

impl Reader {
    pub(crate) fn new(segment: &'static Segment, shown: Shown) -> Reader {
        let catalog = Arc::new(Catalog::default());
        let (places, by_gauge, by_cell) = (Vec::new(), Vec::new(), Vec::new());
        let (cells, quantiles, overflowed) = (Vec::new(), Vec::new(), Vec::new());
        let (seen, by_worker) = (None, 0);
        Reader {
            segment,
            shown,
            catalog,
            seen,
            places,
            by_gauge,
            cells,
            quantiles,
            by_cell,
            overflowed,
            by_worker,
        }
    }

    /// Puts values and catalog together. `copied` was drained or peeked by the caller; exponential
    /// buckets are read if the format has them.
    pub(crate) fn snapshot(
        &mut self,
        copied: &Copied,
        own: Option<usize>,
        label: GaugeLabel,
        peeked: bool,
        with_natives: bool,
    ) -> Snapshot {
        self.update_catalog();
        let segment = self.segment;
        let totals = Totals::Copy(copied);
        let any_direct = segment.header().counters.direct_adds.load(Ordering::Relaxed) > 0; // counted before it is added
        let mut numbers = Vec::with_capacity(self.places.len() * 2 + 32);
        let (gauges, mut per_worker) = self.read_gauges(&totals, own, label);
        let (mut natives, mut cells) = (Vec::new(), Vec::new());
        for (place, (family, series)) in self.places.iter().zip(series_of(&self.catalog)) {
            let map = self.cells.get(family as usize).and_then(Option::as_ref);
            if place.metric_type == MetricType::Gauge {
                let merged = gauges.get(place.gauge as usize).copied().flatten();
                numbers.push(merged.map_or([0.0, 0.0], |value| [value, 1.0]));
            } else if let Some(map) = map {
                cells.clear();
                read_events(segment, &totals, place, any_direct, &mut cells);
                map.classic(&cells, &mut numbers);
                if let Some(Some(quantiles)) = self.quantiles.get(family as usize) {
                    quantiles.read(&cells, copied.window_epoch, &mut numbers);
                } else if with_natives {
                    natives.push(SeriesNative { family, series, histogram: map.native(&cells) });
                }
            } else {
                read_events(segment, &totals, place, any_direct, &mut numbers);
            }
        }
        let own = SelfMetrics::of(&self.shown);
        numbers.extend(own.read(segment, &self.overflowed).map(|value| [value, 1.0]));
        numbers.push([0.0, 0.0]); // of the family whose samples are the workers'
        per_worker.extend(overflowed_by_worker(segment, self.by_worker, label));
        if self.catalog.families.last().is_some_and(|family| family.info) {
            numbers.push([1.0, 1.0]);
        }
        let (catalog, exemplars) = (Arc::clone(&self.catalog), self.read_exemplars());
        Snapshot { catalog, numbers, per_worker, exemplars, natives, peeked }
    }

    /// All exemplars of series that are shown, in their order.
    fn read_exemplars(&mut self) -> Vec<SeriesExemplar> {
        let segment = self.segment;
        let mut all = exemplar::all(segment).peekable();
        if all.peek().is_some() && self.by_cell.is_empty() {
            self.index_cells();
        }
        let found = all.filter_map(|(cell, generation, exemplar)| {
            let at = self.by_cell.partition_point(|(first, ..)| *first <= cell).checked_sub(1)?;
            let (first, family, series, place) = *self.by_cell.get(at)?;
            let place = self.places.get(place)?;
            let family_ = self.catalog.families.get(family as usize)?;
            let number = (cell - first) as usize;
            let shown = place.generation(segment) == generation
                && place.has_place_for(&family_.buckets, number, &exemplar);
            let classic = family_.native.is_none() || !family_.buckets.is_empty();
            let bucket = if classic { number as u32 } else { 0 };
            shown.then_some(SeriesExemplar { family, series, bucket, exemplar })
        });
        let mut found: Vec<_> = found.collect();
        let time = |e: &SeriesExemplar| e.exemplar.unix_seconds;
        found.sort_by(|a, b| {
            let place = |e: &SeriesExemplar| (e.family, e.series, e.bucket);
            place(a).cmp(&place(b)).then(time(b).total_cmp(&time(a)))
        });
        found
    }

    /// Which series has which cells: an exemplar knows its cell only.
    fn index_cells(&mut self) {
        let of_place =
            |(at, ((f, s), place)): (usize, ((u32, u32), &SeriesPlace))| (place.cell, f, s, at);
        let series = series_of(&self.catalog);
        self.by_cell = series.zip(&self.places).enumerate().map(of_place).collect();
        self.by_cell.sort_unstable();
    }

    /// All gauges, worker by worker (cells lie together), by gauge number.
    fn read_gauges(
        &self,
        totals: &Totals,
        own: Option<usize>,
        label: GaugeLabel,
    ) -> (Vec<Option<f64>>, Vec<WorkerSample>) {
        let segment = self.segment;
        let mut reader = GaugeReader::new(segment, own, totals.folded());
        let known = |gauge: usize| Some(self.places[self.by_gauge.get(gauge).copied()??.2]);
        let mut merging: Vec<Option<Merging>> =
            (0..self.by_gauge.len()).map(|g| known(g).map(|s| reader.start(&s, totals))).collect();
        if !self.by_gauge.is_empty() {
            for place in 0..segment.n_places() {
                for (gauge, cell) in worker::gauge_cells(segment, place) {
                    let at = gauge as usize;
                    if let (Some(series), Some(Some(into))) = (known(at), merging.get_mut(at)) {
                        reader.take(&series, place, cell, into);
                    }
                }
            }
        }
        let mut per_worker = Vec::new();
        for (gauge, merging) in merging.iter().enumerate() {
            let (Some(Some((family, series, _))), Some(merging)) =
                (self.by_gauge.get(gauge), merging)
            else {
                continue;
            };
            per_worker.extend(merging.per_worker.iter().map(|(place, value)| WorkerSample {
                family: *family,
                series: *series,
                label_name: label.as_str(),
                label_value: worker_label(segment, *place, label),
                value: *value,
            }));
        }
        per_worker.sort_by_key(|sample| (sample.family, sample.series));
        let merged = merging.into_iter().map(|m| m.and_then(|m| m.done().merged)).collect();
        (merged, per_worker)
    }

    /// Reads the registry anew if anything was registered, removed or revived.
    fn update_catalog(&mut self) {
        let now = self.segment.header().catalog_version.load(Ordering::Acquire); // partner: `catalog_changed`
        if self.seen == Some(now) {
            return;
        }
        let segment = self.segment;
        let mut builder = CatalogBuilder::new(segment);
        for id in 1..registry::n_series(segment) {
            builder.add(id);
        }
        let (mut families, places) = builder.finish();
        self.by_gauge.clear();
        self.by_cell.clear();
        let mut at = 0;
        for (f, family) in families.iter().enumerate() {
            for s in 0..family.series.len() {
                let place = &places[at];
                if place.metric_type == MetricType::Gauge {
                    let gauge = place.gauge as usize;
                    if self.by_gauge.len() <= gauge {
                        self.by_gauge.resize(gauge + 1, None);
                    }
                    self.by_gauge[gauge] = Some((f as u32, s as u32, at));
                }
                at += 1;
            }
        }
        let summary = |f: &&CatalogFamily| f.metric_type == MetricType::Summary;
        let map = |f: &CatalogFamily| {
            let classic: &[f64] = if summary(&f) { &[] } else { &f.buckets };
            f.native.map(|native| CellMap::new(classic, native))
        };
        let quantiles = |f: &CatalogFamily| {
            let native = f.native.as_ref().filter(|_| summary(&f))?;
            Some(Quantiles::new(&f.buckets, native))
        };
        self.cells = families.iter().map(map).collect();
        self.quantiles = families.iter().map(quantiles).collect();
        self.overflowed = overflowed(segment);
        families.extend(SelfMetrics::of(&self.shown).families(segment, &self.overflowed));
        self.by_worker = families.len() as u32 - 1;
        let target = &self.shown.target;
        if !target.is_empty() && families.iter().all(|family| family.name != TARGET_INFO) {
            families.push(target_info(target));
        }
        self.places = places;
        self.catalog = Arc::new(Catalog { version: now, families });
        self.seen = Some(now);
    }
}

/// Family and series index of each series, in order.
fn series_of(catalog: &Catalog) -> impl Iterator<Item = (u32, u32)> + '_ {
    let families = catalog.families.iter().zip(0..);
    families.flat_map(|(family, f)| (0..family.series.len() as u32).map(move |s| (f, s)))
}

/// A family, the cells that each of its series has, and these, as they are gathered.
type Gathered = (FamilySpec, u32, Vec<(CatalogSeries, SeriesPlace)>);

/// Groups series by family.
struct CatalogBuilder<'a> {
    segment: &'a Segment,
    /// By family id.
    families: Vec<Option<Gathered>>,
}

impl<'a> CatalogBuilder<'a> {
    fn new(segment: &'a Segment) -> Self {
        let families = (0..registry::n_families(segment))
            .map(|id| {
                let spec = registry::family_spec(segment, id)?;
                let n_cells = spec.cells_per_series() as u32;
                Some((spec, n_cells, Vec::new()))
            })
            .collect();
        CatalogBuilder { segment, families }
    }

    fn add(&mut self, id: u32) -> Option<()> {
        let entry = self.segment.series(id)?;
        let state = entry.state.load(Ordering::Acquire); // partner: `registry::publish`
        if !registry::is_shown(state) {
            return None;
        }
        let family = entry.family.load(Ordering::Relaxed) as usize; // published with `state`
        let (spec, n_cells, series) = self.families.get_mut(family)?.as_mut()?;
        let overflow = entry.text.load(Ordering::Relaxed) == 0; // published with `state`
        let label_values =
            if overflow { Vec::new() } else { registry::label_values(self.segment, entry)? };
        if !overflow && label_values.len() != spec.label_names.len() {
            return None; // scribbled
        }
        let place = SeriesPlace::of(self.segment, id, spec, *n_cells)?;
        let described = CatalogSeries {
            extra_label: overflow.then(|| ("promring_overflow", "true".to_string())),
            label_values,
            created_seconds: entry.created_ns.load(Ordering::Relaxed) as f64 / 1e9, // published with `state`
        };
        series.push((described, place));
        Some(())
    }

    fn finish(self) -> (Vec<CatalogFamily>, Vec<SeriesPlace>) {
        let mut places = Vec::new();
        let families = self
            .families
            .into_iter()
            .flatten()
            .map(|(spec, _, series)| {
                let series = series
                    .into_iter()
                    .map(|(described, place)| {
                        places.push(place);
                        described
                    })
                    .collect();
                CatalogFamily {
                    name: spec.name,
                    help: spec.help,
                    unit: spec.unit,
                    metric_type: spec.metric_type,
                    info: false,
                    label_names: spec.label_names,
                    buckets: spec.buckets,
                    native: spec.native,
                    series,
                }
            })
            .collect();
        (families, places)
    }
}

// ---------------------------------------------------------------------------------------------
// Self-metrics

/// What promring says about itself, `promring_*`.
struct SelfMetrics(&'static [&'static [SelfMetric]]);

/// One family of them: name, help, type, and its series: label value and how to read it.
type SelfMetric =
    (&'static str, &'static str, MetricType, &'static [(&'static str, fn(&Segment) -> f64)]);

macro_rules! counter_of {
    ($field:ident) => {
        |segment| count(&segment.header().counters.$field)
    };
}

fn count(word: &AtomicU64) -> f64 {
    word.load(Ordering::Relaxed) as f64 // a count, no order
}

impl SelfMetrics {
    fn of(shown: &Shown) -> SelfMetrics {
        const ALL: &[&[SelfMetric]] = &[SelfMetrics::STEADY, SelfMetrics::OF_SCRAPES];
        SelfMetrics(if shown.scrape_metrics { ALL } else { &ALL[..1] })
    }

    /// Those that change only if something happens in the app.
    const STEADY: &'static [SelfMetric] = &[
        ("promring_workers", "Worker places claimed now.", MetricType::Gauge, &[("", claimed)]),
        (
            "promring_workers_claimed_total",
            "Worker places claimed since the segment began.",
            MetricType::Counter,
            &[("", counter_of!(claims))],
        ),
        (
            "promring_workers_reaped_total",
            "Dead workers whose events and gauges were taken over.",
            MetricType::Counter,
            &[("", counter_of!(reaped))],
        ),
        (
            "promring_events_drained_total",
            "Events moved from rings into totals.",
            MetricType::Counter,
            &[("", counter_of!(events_drained))],
        ),
        (
            "promring_direct_adds_total",
            "Events added past a full ring, straight to shared cells.",
            MetricType::Counter,
            &[("", counter_of!(direct_adds))],
        ),
        (
            "promring_refused_values_total",
            "Values that were not counted, by reason.",
            MetricType::Counter,
            &[
                ("not_finite", counter_of!(refused_not_finite)),
                ("negative", counter_of!(refused_negative)),
                ("wrong_type", counter_of!(refused_wrong_type)),
                ("no_space", counter_of!(refused_no_space)),
            ],
        ),
        (
            "promring_overflowed_label_sets_total",
            "Look-ups of label sets that went to an overflow series, by reason.",
            MetricType::Counter,
            &[
                ("cap", counter_of!(overflowed_cap)),
                ("value_too_long", counter_of!(overflowed_long)),
            ],
        ),
        (
            "promring_corrupt_events_total",
            "Events of unknown series: memory was scribbled over.",
            MetricType::Counter,
            &[("", counter_of!(corrupt_events))],
        ),
        (
            "promring_exemplars_dropped_total",
            "Exemplars that found no room: so many counters and buckets have one.",
            MetricType::Counter,
            &[("", counter_of!(exemplars_no_space))],
        ),
        (
            "promring_drain_lock_takeovers_total",
            "Drain locks taken from a dead holder.",
            MetricType::Counter,
            &[("", counter_of!(takeovers))],
        ),
        (
            "promring_peeks_total",
            "Expositions made without the drain lock, because its holder was stopped.",
            MetricType::Counter,
            &[("", counter_of!(peeks))],
        ),
        (
            "promring_segment_bytes",
            "Memory reserved for the segment.",
            MetricType::Gauge,
            &[("", |segment| segment.reserved_bytes() as f64)],
        ),
    ];

    /// Those that every drain and every scrape changes.
    const OF_SCRAPES: &'static [SelfMetric] = &[
        (
            "promring_drains_total",
            "Drain passes over all rings.",
            MetricType::Counter,
            &[("", counter_of!(drains))],
        ),
        (
            "promring_drain_seconds_total",
            "Time spent in them.",
            MetricType::Counter,
            &[("", |segment| count(&segment.header().counters.drain_ns) / 1e9)],
        ),
        (
            "promring_scrapes_total",
            "Expositions rendered.",
            MetricType::Counter,
            &[("", counter_of!(scrapes))],
        ),
        (
            "promring_scrape_seconds_total",
            "Time spent in them.",
            MetricType::Counter,
            &[("", |segment| count(&segment.header().counters.scrape_ns) / 1e9)],
        ),
    ];

    fn all(&self) -> impl Iterator<Item = &'static SelfMetric> {
        self.0.iter().copied().flatten()
    }

    /// Their families, plus one sample for each family whose cap was reached, plus one family of the workers'.
    fn families(&self, segment: &Segment, overflowed: &[u32]) -> Vec<CatalogFamily> {
        let created_seconds = count(&segment.header().created_ns) / 1e9;
        let family =
            |name: &str, help: &str, metric_type, label: Option<&str>, values: Vec<String>| {
                CatalogFamily {
                    name: name.into(),
                    help: help.into(),
                    unit: String::new(),
                    metric_type,
                    info: false,
                    label_names: label.map(String::from).into_iter().collect(),
                    buckets: Vec::new(),
                    native: None,
                    series: values
                        .into_iter()
                        .map(|value| CatalogSeries {
                            extra_label: None,
                            label_values: if label.is_some() { vec![value] } else { Vec::new() },
                            created_seconds,
                        })
                        .collect(),
                }
            };
        let mut all: Vec<CatalogFamily> = self
            .all()
            .map(|(name, help, metric_type, series)| {
                let label = (series.len() > 1).then_some("reason");
                let values = series.iter().map(|(value, _)| (*value).to_string()).collect();
                family(name, help, *metric_type, label, values)
            })
            .collect();
        let name_of =
            |id: &u32| registry::family_spec(segment, *id).map_or_else(String::new, |s| s.name);
        let names = overflowed.iter().map(name_of).collect();
        all.push(family(
            "promring_family_overflowed_total",
            "Look-ups of label sets beyond the cap, by metric family.",
            MetricType::Counter,
            Some("family"),
            names,
        ));
        all.push(family(
            "promring_worker_overflowed_lookups",
            "Look-ups of label sets that went to an overflow series, by living worker.",
            MetricType::Gauge,
            None,
            vec![String::new()],
        ));
        all
    }

    /// Their values, in the order of `families`, without the workers'.
    fn read<'a>(
        &self,
        segment: &'a Segment,
        overflowed: &'a [u32],
    ) -> impl Iterator<Item = f64> + 'a {
        let fixed = self.all().flat_map(|(_, _, _, series)| series.iter());
        let lookups = |id: &u32| {
            segment.family(*id).map_or(0.0, |f| f64::from(f.overflowed.load(Ordering::Relaxed)))
            // a count, no order
        };
        fixed.map(|(_, read)| read(segment)).chain(overflowed.iter().map(lookups))
    }
}

const TARGET_INFO: &str = "target_info";

/// What is known of the app besides its metrics.
fn target_info(labels: &[(String, String)]) -> CatalogFamily {
    let (label_names, label_values) = labels.iter().cloned().unzip();
    CatalogFamily {
        name: TARGET_INFO.into(),
        help: "Target metadata.".into(),
        unit: String::new(),
        metric_type: MetricType::Gauge,
        info: true,
        label_names,
        buckets: Vec::new(),
        native: None,
        series: vec![CatalogSeries { extra_label: None, label_values, created_seconds: 0.0 }],
    }
}

fn claimed(segment: &Segment) -> f64 {
    let places = 0..segment.n_places();
    places.filter(|place| worker::status(segment, *place) == worker::Status::Claimed).count() as f64
}

/// The workers that have looked up label sets beyond a cap, and how often.
fn overflowed_by_worker(
    segment: &Segment,
    family: u32,
    label: GaugeLabel,
) -> impl Iterator<Item = WorkerSample> + '_ {
    (0..segment.n_places()).filter_map(move |place| {
        let lookups = count(&segment.place(place)?.overflowed);
        let claimed = worker::status(segment, place) == worker::Status::Claimed;
        (claimed && lookups > 0.0).then(|| WorkerSample {
            family,
            series: 0,
            label_name: label.as_str(),
            label_value: worker_label(segment, place, label),
            value: lookups,
        })
    })
}

/// Ids of the families whose overflow series is exposed.
fn overflowed(segment: &Segment) -> Vec<u32> {
    let exposed = |id: &u32| {
        let overflow = registry::overflow_series(segment, *id);
        let state = segment.series(overflow).map_or(0, |s| s.state.load(Ordering::Acquire)); // partner: `revive`
        registry::state_of(state) == SERIES_LIVE
    };
    (0..registry::n_families(segment)).filter(exposed).collect()
}
