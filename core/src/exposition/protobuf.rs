//! Prometheus' protobuf: each family a `MetricFamily` of `metrics.proto`, preceded by its length.
//!
//! Written by hand: six small messages. Fields may come in any order, so what is constant of a series –
//! its labels, its creation time – stands before its numbers and is kept from scrape to scrape. Where a
//! count has a fraction (sampled events), the float field stands beside the rounded whole one.

use super::names::{self, Names};
use super::page;
use super::Escaping;
use crate::snapshot::{
    CatalogFamily, CatalogSeries, Exemplar, MetricType, SeriesExemplar, Snapshot, WorkerSample,
};

/// The constant bytes of all families.
pub(super) struct Constants {
    version: u64,
    escaping: Escaping,
    families: Vec<Family>,
}

struct Family {
    /// Name, help, type, unit.
    head: Vec<u8>,
    /// Label pairs of each series as fields of `Metric`, ending at `ends`.
    labels: Parts,
    /// The start timestamp of each series as a field of its value.
    created: Parts,
    label_names: Vec<String>,
}

/// Byte strings one after the other.
#[derive(Default)]
struct Parts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Parts {
    fn close(&mut self) {
        self.ends.push(self.bytes.len());
    }

    fn get(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.bytes[start..self.ends[i]]
    }
}

impl Constants {
    pub(super) fn new(snapshot: &Snapshot, escaping: Escaping) -> Constants {
        let names = names::resolve(&snapshot.catalog, super::Format::Protobuf, escaping);
        let families = snapshot.catalog.families.iter().zip(names);
        Constants {
            version: snapshot.catalog.version,
            escaping,
            families: families.map(|(family, names)| Family::new(family, names)).collect(),
        }
    }

    pub(super) fn fits(&self, snapshot: &Snapshot) -> bool {
        self.version == snapshot.catalog.version
    }

    /// Replaces what is in `out` by the page. A family without a metric is left out: Prometheus has no use for one.
    pub(super) fn render(&self, snapshot: &Snapshot, out: &mut Vec<u8>) {
        let mut numbers = snapshot.numbers.as_slice();
        let mut samples = snapshot.per_worker.as_slice();
        let mut exemplars = snapshot.exemplars.as_slice();
        let mut metrics = Vec::new();
        out.clear();
        for (f, (kept, family)) in self.families.iter().zip(&snapshot.catalog.families).enumerate()
        {
            let n = family.series.len() * page::numbers_per_series(family);
            let (mine, rest) = numbers.split_at(numbers.len().min(n));
            let n_samples = samples.iter().take_while(|s| s.family as usize == f).count();
            let (own_samples, other_samples) = samples.split_at(n_samples);
            let of_family = |e: &&SeriesExemplar| e.family as usize == f;
            let (own_exemplars, others) =
                exemplars.split_at(exemplars.iter().take_while(of_family).count());
            exemplars = others;
            metrics.clear();
            let own_exemplars = Exemplars { rest: own_exemplars, escaping: self.escaping };
            kept.write_metrics(family, mine, own_exemplars, &mut metrics);
            kept.write_worker_samples(family, own_samples, &mut metrics);
            if !metrics.is_empty() {
                write_varint((kept.head.len() + metrics.len()) as u64, out);
                out.extend_from_slice(&kept.head);
                out.extend_from_slice(&metrics);
            }
            (numbers, samples) = (rest, other_samples);
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Field numbers of metrics.proto

const FAMILY_NAME: u32 = 1;
const FAMILY_HELP: u32 = 2;
const FAMILY_TYPE: u32 = 3;
const FAMILY_METRIC: u32 = 4;
const FAMILY_UNIT: u32 = 5;
const METRIC_LABEL: u32 = 1;
const METRIC_GAUGE: u32 = 2;
const METRIC_COUNTER: u32 = 3;
const METRIC_SUMMARY: u32 = 4;
const METRIC_HISTOGRAM: u32 = 7;
const LABEL_NAME: u32 = 1;
const LABEL_VALUE: u32 = 2;
const VALUE: u32 = 1;
const SAMPLE_COUNT: u32 = 1;
const SAMPLE_SUM: u32 = 2;
const HISTOGRAM_BUCKET: u32 = 3;
const HISTOGRAM_COUNT_FLOAT: u32 = 4;
const BUCKET_COUNT: u32 = 1;
const BUCKET_UPPER_BOUND: u32 = 2;
const BUCKET_COUNT_FLOAT: u32 = 4;
const COUNTER_EXEMPLAR: u32 = 2;
const BUCKET_EXEMPLAR: u32 = 3;
const EXEMPLAR_VALUE: u32 = 2;
const EXEMPLAR_TIMESTAMP: u32 = 3;
const TIMESTAMP_SECONDS: u32 = 1;
const TIMESTAMP_NANOS: u32 = 2;

fn type_number(metric_type: MetricType) -> u64 {
    match metric_type {
        MetricType::Counter => 0,
        MetricType::Gauge => 1,
        MetricType::Summary => 2,
        MetricType::Histogram => 4,
    }
}

fn value_field(metric_type: MetricType) -> u32 {
    match metric_type {
        MetricType::Counter => METRIC_COUNTER,
        MetricType::Gauge => METRIC_GAUGE,
        MetricType::Summary => METRIC_SUMMARY,
        MetricType::Histogram => METRIC_HISTOGRAM,
    }
}

/// Where the start timestamp stands in the value's message; a gauge has none.
fn created_field(metric_type: MetricType) -> Option<u32> {
    match metric_type {
        MetricType::Counter => Some(3),
        MetricType::Gauge => None,
        MetricType::Summary => Some(4),
        MetricType::Histogram => Some(15),
    }
}

// ---------------------------------------------------------------------------------------------
// Families

impl Family {
    fn new(family: &CatalogFamily, names: Names) -> Family {
        let mut head = Vec::new();
        write_bytes(FAMILY_NAME, names.family.as_bytes(), &mut head);
        if !family.help.is_empty() {
            write_bytes(FAMILY_HELP, family.help.as_bytes(), &mut head);
        }
        write_uint(FAMILY_TYPE, type_number(family.metric_type), &mut head);
        if !family.unit.is_empty() {
            write_bytes(FAMILY_UNIT, family.unit.as_bytes(), &mut head);
        }
        let (mut labels, mut created) = (Parts::default(), Parts::default());
        for series in &family.series {
            write_labels(&names.labels, series, &mut labels.bytes);
            labels.close();
            if let Some(field) = created_field(family.metric_type) {
                write_created(field, series.created_seconds, &mut created.bytes);
            }
            created.close();
        }
        Family { head, labels, created, label_names: names.labels }
    }

    fn write_metrics(
        &self,
        family: &CatalogFamily,
        numbers: &[[f64; 2]],
        mut exemplars: Exemplars,
        out: &mut Vec<u8>,
    ) {
        let mut value = Vec::new();
        let per_series = page::numbers_per_series(family);
        for (s, numbers) in numbers.chunks_exact(per_series).enumerate() {
            value.clear();
            value.extend_from_slice(self.created.get(s));
            match (family.metric_type, numbers) {
                (MetricType::Gauge, [[_, present]]) if *present == 0.0 => continue,
                (MetricType::Counter | MetricType::Gauge, _) => {
                    write_double(VALUE, numbers[0][0], &mut value);
                    exemplars.write(s, 0, COUNTER_EXEMPLAR, &mut value);
                }
                (MetricType::Summary, _) => {
                    write_uint(SAMPLE_COUNT, numbers[0][0].round() as u64, &mut value);
                    write_double(SAMPLE_SUM, numbers[0][1], &mut value);
                }
                (MetricType::Histogram, _) => {
                    let mut exemplar = |bucket, out: &mut Vec<u8>| {
                        exemplars.write(s, bucket, BUCKET_EXEMPLAR, out)
                    };
                    write_buckets(&family.buckets, numbers, &mut exemplar, &mut value);
                }
            }
            self.write_metric(family, self.labels.get(s), &value, out);
        }
    }

    fn write_worker_samples(
        &self,
        family: &CatalogFamily,
        samples: &[WorkerSample],
        out: &mut Vec<u8>,
    ) {
        for sample in samples {
            let series = sample.series as usize;
            if series >= family.series.len() {
                continue;
            }
            let mut labels = self.labels.get(series).to_vec();
            let name = names::free_label(sample.label_name, &self.label_names);
            write_label(&name, &sample.label_value, &mut labels);
            let mut value = Vec::new();
            write_double(VALUE, sample.value, &mut value);
            self.write_metric(family, &labels, &value, out);
        }
    }

    /// Labels and a value, wrapped in their messages.
    fn write_metric(&self, family: &CatalogFamily, labels: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let field = value_field(family.metric_type);
        let value_size = 1 + varint_size(value.len() as u64) + value.len();
        write_key(FAMILY_METRIC, LENGTH_DELIMITED, out);
        write_varint((labels.len() + value_size) as u64, out);
        out.extend_from_slice(labels);
        write_bytes(field, value, out);
    }
}

/// A family's exemplars that have not been written yet.
struct Exemplars<'a> {
    rest: &'a [SeriesExemplar],
    escaping: Escaping,
}

impl Exemplars<'_> {
    /// Writes that of a series' bucket as a field; false when there is none. To be asked in their order.
    fn write(&mut self, series: usize, bucket: usize, field: u32, out: &mut Vec<u8>) -> bool {
        let place = |e: &SeriesExemplar| (e.series as usize, e.bucket as usize);
        let before = self.rest.iter().take_while(|e| place(e) < (series, bucket)).count();
        self.rest = &self.rest[before..];
        let found = self.rest.first().filter(|e| place(e) == (series, bucket));
        found.is_some_and(|found| {
            write_exemplar(field, &found.exemplar, self.escaping, out).is_some()
        })
    }
}

/// None when its labels have become too long by the escaping.
fn write_exemplar(
    field: u32,
    exemplar: &Exemplar,
    escaping: Escaping,
    out: &mut Vec<u8>,
) -> Option<()> {
    let mut message = Vec::new();
    for (name, value) in names::exemplar_labels(exemplar, escaping)? {
        write_label(&name, value, &mut message);
    }
    write_double(EXEMPLAR_VALUE, exemplar.value, &mut message);
    write_timestamp(EXEMPLAR_TIMESTAMP, exemplar.unix_seconds, &mut message);
    write_bytes(field, &message, out);
    Some(())
}

/// Cumulative counts; `+Inf` is left out, since it is the count, unless it has an exemplar.
fn write_buckets(
    bounds: &[f64],
    numbers: &[[f64; 2]],
    write_exemplar: &mut impl FnMut(usize, &mut Vec<u8>) -> bool,
    out: &mut Vec<u8>,
) {
    let (mut count, mut sum) = (0.0, 0.0);
    let mut bucket = Vec::with_capacity(32);
    for (i, [n, amount]) in numbers.iter().enumerate() {
        count += n;
        sum += amount;
        bucket.clear();
        let has_exemplar = write_exemplar(i, &mut bucket);
        if has_exemplar || i < bounds.len() {
            write_count(BUCKET_COUNT, BUCKET_COUNT_FLOAT, count, &mut bucket);
            let bound = bounds.get(i).copied().unwrap_or(f64::INFINITY);
            write_double(BUCKET_UPPER_BOUND, bound, &mut bucket);
            write_bytes(HISTOGRAM_BUCKET, &bucket, out);
        }
    }
    write_count(SAMPLE_COUNT, HISTOGRAM_COUNT_FLOAT, count, out);
    write_double(SAMPLE_SUM, sum, out);
}

fn write_count(whole_field: u32, float_field: u32, count: f64, out: &mut Vec<u8>) {
    write_uint(whole_field, count.round() as u64, out);
    if count.fract() != 0.0 {
        write_double(float_field, count, out);
    }
}

fn write_labels(names: &[String], series: &CatalogSeries, out: &mut Vec<u8>) {
    for (name, value) in names.iter().zip(&series.label_values) {
        write_label(name, value, out);
    }
    if let Some((name, value)) = &series.extra_label {
        write_label(name, value, out);
    }
}

fn write_label(name: &str, value: &str, out: &mut Vec<u8>) {
    let size = |text: &str| 1 + varint_size(text.len() as u64) + text.len();
    write_key(METRIC_LABEL, LENGTH_DELIMITED, out);
    write_varint((size(name) + size(value)) as u64, out);
    write_bytes(LABEL_NAME, name.as_bytes(), out);
    write_bytes(LABEL_VALUE, value.as_bytes(), out);
}

fn write_created(field: u32, seconds: f64, out: &mut Vec<u8>) {
    if seconds > 0.0 {
        write_timestamp(field, seconds, out); // else it is not known
    }
}

fn write_timestamp(field: u32, seconds: f64, out: &mut Vec<u8>) {
    let mut timestamp = Vec::new();
    write_uint(TIMESTAMP_SECONDS, seconds.floor() as u64, &mut timestamp);
    write_uint(TIMESTAMP_NANOS, (seconds.fract() * 1e9) as u64, &mut timestamp);
    write_bytes(field, &timestamp, out);
}

// ---------------------------------------------------------------------------------------------
// The wire

const VARINT: u32 = 0;
const FIXED_64: u32 = 1;
const LENGTH_DELIMITED: u32 = 2;

fn write_key(field: u32, wire_type: u32, out: &mut Vec<u8>) {
    write_varint(u64::from(field << 3 | wire_type), out);
}

fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_size(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn write_uint(field: u32, value: u64, out: &mut Vec<u8>) {
    write_key(field, VARINT, out);
    write_varint(value, out);
}

fn write_double(field: u32, value: f64, out: &mut Vec<u8>) {
    write_key(field, FIXED_64, out);
    out.extend_from_slice(&value.to_le_bytes());
}

fn write_bytes(field: u32, bytes: &[u8], out: &mut Vec<u8>) {
    write_key(field, LENGTH_DELIMITED, out);
    write_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}
