//! Prometheus' protobuf: each family a `MetricFamily` of `metrics.proto`, preceded by its length.
//!
//! Written by hand: six small messages. Fields may come in any order, so what is constant of a series –
//! its labels, its creation time – stands before its numbers and is kept from scrape to scrape. Where a
//! count has a fraction (sampled events), the float field stands beside the rounded whole one.

use super::names::{self, Names};
use super::page;
use super::Escaping;
use crate::snapshot::{
    CatalogFamily, CatalogSeries, Exemplar, MetricType, NativeHistogram, SeriesExemplar,
    SeriesNative, Snapshot, WorkerSample,
};

/// The constant bytes of all families.
pub(super) struct Constants {
    version: u64,
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
    escaping: Escaping,
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
            families: families.map(|(f, names)| Family::new(f, names, escaping)).collect(),
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
        let mut natives = snapshot.natives.as_slice();
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
            let of_family = |n: &&SeriesNative| n.family as usize == f;
            let (own_natives, others) =
                natives.split_at(natives.iter().take_while(of_family).count());
            natives = others;
            metrics.clear();
            let own_exemplars = Exemplars(own_exemplars);
            kept.write_metrics(family, mine, own_exemplars, own_natives, &mut metrics);
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
const SUMMARY_QUANTILE: u32 = 3;
const QUANTILE: u32 = 1;
const QUANTILE_VALUE: u32 = 2;
const HISTOGRAM_BUCKET: u32 = 3;
const HISTOGRAM_COUNT_FLOAT: u32 = 4;
const BUCKET_COUNT: u32 = 1;
const BUCKET_UPPER_BOUND: u32 = 2;
const BUCKET_COUNT_FLOAT: u32 = 4;
const COUNTER_EXEMPLAR: u32 = 2;
const BUCKET_EXEMPLAR: u32 = 3;
const NATIVE_SCHEMA: u32 = 5;
const NATIVE_ZERO_THRESHOLD: u32 = 6;
const NATIVE_ZERO_COUNT: u32 = 7;
const NATIVE_ZERO_COUNT_FLOAT: u32 = 8;
const NATIVE_NEGATIVE_SPAN: u32 = 9;
const NATIVE_NEGATIVE_DELTA: u32 = 10;
const NATIVE_NEGATIVE_COUNT: u32 = 11;
const NATIVE_POSITIVE_SPAN: u32 = 12;
const NATIVE_POSITIVE_DELTA: u32 = 13;
const NATIVE_POSITIVE_COUNT: u32 = 14;
const NATIVE_EXEMPLAR: u32 = 16;
const SPAN_OFFSET: u32 = 1;
const SPAN_LENGTH: u32 = 2;
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
    fn new(family: &CatalogFamily, names: Names, escaping: Escaping) -> Family {
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
        Family { head, labels, created, label_names: names.labels, escaping }
    }

    fn write_metrics(
        &self,
        family: &CatalogFamily,
        numbers: &[[f64; 2]],
        mut exemplars: Exemplars,
        natives: &[SeriesNative],
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
                    if let Some(e) = exemplars.of_series(s).first() {
                        write_exemplar(COUNTER_EXEMPLAR, &e.exemplar, self.escaping, &mut value);
                    }
                }
                (MetricType::Summary, _) => {
                    write_uint(SAMPLE_COUNT, numbers[0][0].round() as u64, &mut value);
                    write_double(SAMPLE_SUM, numbers[0][1], &mut value);
                    for (quantile, [at, _]) in family.buckets.iter().zip(&numbers[1..]) {
                        write_quantile(*quantile, *at, &mut value);
                    }
                }
                (MetricType::Histogram, _) => {
                    let of_series = exemplars.of_series(s);
                    let native = natives.iter().find(|n| n.series as usize == s);
                    write_buckets(family, numbers, of_series, self.escaping, &mut value);
                    if let Some(native) = native {
                        write_native(&native.histogram, &mut value);
                        for e in of_series {
                            write_exemplar(NATIVE_EXEMPLAR, &e.exemplar, self.escaping, &mut value);
                        }
                    }
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

/// A family's exemplars, those of the series before left out.
struct Exemplars<'a>(&'a [SeriesExemplar]);

impl<'a> Exemplars<'a> {
    /// Those of a series; to be asked in order.
    fn of_series(&mut self, series: usize) -> &'a [SeriesExemplar] {
        let before = self.0.partition_point(|e| (e.series as usize) < series);
        let end = self.0.partition_point(|e| e.series as usize <= series);
        let (found, rest) = (&self.0[before..end], &self.0[end..]);
        self.0 = rest;
        found
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

/// Cumulative counts of the classic buckets, if there are any; `+Inf` is left out, since it is the count,
/// unless it has an exemplar. Then count and sum.
fn write_buckets(
    family: &CatalogFamily,
    numbers: &[[f64; 2]],
    exemplars: &[SeriesExemplar],
    escaping: Escaping,
    out: &mut Vec<u8>,
) {
    let (mut count, mut sum) = (0.0, 0.0);
    let native_alone = family.native.is_some_and(|n| n.alone || family.buckets.is_empty());
    let mut bucket = Vec::with_capacity(32);
    for (i, [n, amount]) in numbers.iter().enumerate() {
        count += n;
        sum += amount;
        let exemplar = exemplars.iter().find(|e| e.bucket as usize == i);
        if native_alone || exemplar.is_none() && i == family.buckets.len() {
            continue;
        }
        bucket.clear();
        write_count(BUCKET_COUNT, BUCKET_COUNT_FLOAT, count, &mut bucket);
        let bound = family.buckets.get(i).copied().unwrap_or(f64::INFINITY);
        write_double(BUCKET_UPPER_BOUND, bound, &mut bucket);
        if let Some(e) = exemplar {
            write_exemplar(BUCKET_EXEMPLAR, &e.exemplar, escaping, &mut bucket);
        }
        write_bytes(HISTOGRAM_BUCKET, &bucket, out);
    }
    write_count(SAMPLE_COUNT, HISTOGRAM_COUNT_FLOAT, count, out);
    write_double(SAMPLE_SUM, sum, out);
}

/// The exponential buckets: whole counts as differences, counts of sampled events as they are.
fn write_quantile(quantile: f64, value: f64, out: &mut Vec<u8>) {
    let mut message = Vec::with_capacity(18);
    write_double(QUANTILE, quantile, &mut message);
    write_double(QUANTILE_VALUE, value, &mut message);
    write_bytes(SUMMARY_QUANTILE, &message, out);
}

fn write_native(histogram: &NativeHistogram, out: &mut Vec<u8>) {
    let NativeHistogram { schema, zero_threshold, zero_count, negative, positive, .. } = histogram;
    let counts = || negative.iter().chain(positive).map(|(_, count)| *count).chain([*zero_count]);
    let fractions = counts().any(|count| count.fract() != 0.0);
    write_uint(NATIVE_SCHEMA, zigzag(i64::from(*schema)), out);
    write_double(NATIVE_ZERO_THRESHOLD, *zero_threshold, out);
    if fractions {
        // By this field a reader tells one of fractions, though their sum may be whole.
        write_double(HISTOGRAM_COUNT_FLOAT, histogram.count, out);
        write_double(NATIVE_ZERO_COUNT_FLOAT, *zero_count, out);
    } else {
        write_uint(NATIVE_ZERO_COUNT, *zero_count as u64, out);
    }
    for (buckets, spans, deltas, floats) in [
        (negative, NATIVE_NEGATIVE_SPAN, NATIVE_NEGATIVE_DELTA, NATIVE_NEGATIVE_COUNT),
        (positive, NATIVE_POSITIVE_SPAN, NATIVE_POSITIVE_DELTA, NATIVE_POSITIVE_COUNT),
    ] {
        write_spans(buckets, spans, out);
        let mut packed = Vec::with_capacity(2 * buckets.len());
        let mut last = 0;
        for (_, count) in buckets {
            if fractions {
                packed.extend_from_slice(&count.to_le_bytes());
            } else {
                write_varint(zigzag(*count as i64 - last), &mut packed);
                last = *count as i64;
            }
        }
        if !packed.is_empty() {
            write_bytes(if fractions { floats } else { deltas }, &packed, out);
        }
    }
}

/// Runs of neighbouring buckets: how far from the end of the one before, and how many.
fn write_spans(buckets: &[(i32, f64)], field: u32, out: &mut Vec<u8>) {
    let mut end = 0;
    for run in buckets.chunk_by(|(a, _), (b, _)| *b == a + 1) {
        let start = run[0].0;
        let mut span = Vec::with_capacity(8);
        write_uint(SPAN_OFFSET, zigzag(i64::from(start - end)), &mut span);
        write_uint(SPAN_LENGTH, run.len() as u64, &mut span);
        write_bytes(field, &span, out);
        end = start + run.len() as i32;
    }
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

/// Whole numbers around zero as small ones.
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
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
