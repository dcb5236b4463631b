//! The same families through the encoder of the crate prometheus-client, for pages that others make.
//!
//! The crate has its own idea of names, and fewer types. What comes out is called as on our own pages:
//!
//! | here | there |
//! |---|---|
//! | counter `x_total` | counter `x`, to which the crate appends `_total` |
//! | counter without `_total`, which the crate would rename | gauge of that name |
//! | summary `x`, which the crate does not have | gauges `x_sum`, `x_count` and, for its quantiles, `x` |
//! | info `x_info` | info `x` |
//! | name or label that needs quotes, which the crate does not write | escaped by `underscores` |
//! | help, which the crate writes as it is | escaped as a text page wants it |
//!
//! Counts are whole there, so sums of sampled observations are rounded, cumulatively. The crate lets nobody
//! hand it a creation time (but with exponential buckets) or the exemplar of a bucket.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use prometheus_client::encoding::{
    DescriptorEncoder, MetricEncoder, NativeHistogram as Native, NativeHistogramBuckets,
};
use prometheus_client::metrics::exemplar::{CounterWithExemplar, Exemplar as TheirExemplar};
use prometheus_client::metrics::MetricType as TheirType;
use prometheus_client::registry::Unit;

use super::names::{self, Names};
use super::{page, text, Escaping, Format};
use crate::snapshot::{
    CatalogFamily, CatalogSeries, Exemplar, MetricType, NativeHistogram, SeriesExemplar,
    SeriesNative, Snapshot, WorkerSample,
};

/// Label pairs as the crate takes them.
type Labels<'a> = Vec<(&'a str, &'a str)>;
/// An exemplar's, which may be escaped.
type OwnLabels = Vec<(String, String)>;
/// Those of buckets: nobody but the crate can make one without a counter around it.
const NO_EXEMPLARS: Option<&HashMap<usize, TheirExemplar<OwnLabels, f64>>> = None;

/// Hands all families of a snapshot to an encoder of the crate prometheus-client.
///
/// `collector::Collector` is what programs register; this is its pure part.
///
/// # Errors
/// Those of the encoder, when what it writes to takes no more.
pub fn encode(snapshot: &Snapshot, mut encoder: DescriptorEncoder) -> fmt::Result {
    let names = names::resolve(&snapshot.catalog, Format::OpenMetrics, Escaping::Underscores);
    let mut numbers = snapshot.numbers.as_slice();
    for (f, (family, names)) in snapshot.catalog.families.iter().zip(&names).enumerate() {
        let n = family.series.len() * page::numbers_per_series(family);
        let (mine, rest) = numbers.split_at(numbers.len().min(n));
        numbers = rest;
        One { snapshot, f, family, names, numbers: mine }.encode(&mut encoder)?;
    }
    Ok(())
}

/// One family of a snapshot.
struct One<'a> {
    snapshot: &'a Snapshot,
    f: usize,
    family: &'a CatalogFamily,
    names: &'a Names,
    numbers: &'a [[f64; 2]],
}

impl One<'_> {
    fn encode(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        match (self.family.metric_type, self.names.type_word) {
            (MetricType::Counter, "counter") => self.counter(encoder),
            (MetricType::Counter, _) => self.plain(encoder, "", |numbers| Some(numbers[0][0])),
            (MetricType::Gauge, "info") => self.info(encoder),
            (MetricType::Gauge, _) => self.plain(encoder, "", |numbers| {
                (numbers[0][1] != 0.0).then_some(numbers[0][0]) // a merged value; else each worker's follows
            }),
            (MetricType::Summary, _) => {
                self.quantiles(encoder)?;
                self.plain(encoder, "_sum", |numbers| Some(numbers[0][1]))?;
                self.plain(encoder, "_count", |numbers| Some(numbers[0][0]))
            }
            (MetricType::Histogram, _) => self.histogram(encoder),
        }
    }

    /// Calls `write` with an encoder of the family that is called `name` there, but for its unit.
    fn described(
        &self,
        encoder: &mut DescriptorEncoder,
        name: &str,
        metric_type: TheirType,
        write: impl FnOnce(&mut MetricEncoder) -> fmt::Result,
    ) -> fmt::Result {
        let unit = self.family.unit.as_str();
        let plain = !unit.is_empty() && names::is_legal(&format!("_{unit}"), false);
        let bare = name.strip_suffix(unit).and_then(|name| name.strip_suffix('_'));
        let bare = bare.filter(|bare| plain && !bare.is_empty());
        let unit = bare.map(|_| Unit::Other(unit.to_string()));
        let help = text::escaped(&self.family.help, true);
        let name = bare.unwrap_or(name);
        write(&mut encoder.encode_descriptor(name, &help, unit.as_ref(), metric_type)?)
    }

    /// A sample for each series that has a value, under a name that stays what it is: a gauge's.
    fn plain(
        &self,
        encoder: &mut DescriptorEncoder,
        suffix: &str,
        value_of: impl Fn(&[[f64; 2]]) -> Option<f64>,
    ) -> fmt::Result {
        let name = format!("{}{suffix}", self.names.sample);
        self.described(encoder, &name, TheirType::Gauge, |metric| {
            for (series, numbers) in self.series() {
                if let Some(value) = value_of(numbers) {
                    with_labels(metric, &self.labels(series), |m| m.encode_gauge(&value))?;
                }
            }
            let own = |sample: &&WorkerSample| sample.family as usize == self.f;
            for sample in self.snapshot.per_worker.iter().filter(own) {
                let Some(series) = self.family.series.get(sample.series as usize) else { continue };
                let name = names::free_label(sample.label_name, &self.names.labels);
                let mut labels = self.labels(series);
                labels.push((&name, &sample.label_value));
                with_labels(metric, &labels, |m| m.encode_gauge(&sample.value))?;
            }
            Ok(())
        })
    }

    /// A summary's, if it has some.
    fn quantiles(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        if self.family.buckets.is_empty() {
            return Ok(());
        }
        let wanted: Vec<String> =
            self.family.buckets.iter().map(|q| text::bound_text(*q)).collect();
        self.described(encoder, &self.names.sample, TheirType::Gauge, |metric| {
            for (series, numbers) in self.series() {
                for (quantile, [value, _]) in wanted.iter().zip(&numbers[1..]) {
                    let mut labels = self.labels(series);
                    labels.push(("quantile", quantile));
                    with_labels(metric, &labels, |m| m.encode_gauge(value))?;
                }
            }
            Ok(())
        })
    }

    /// Each series with its numbers.
    fn series(&self) -> impl Iterator<Item = (&CatalogSeries, &[[f64; 2]])> {
        let numbers = self.numbers.chunks_exact(page::numbers_per_series(self.family));
        self.family.series.iter().zip(numbers)
    }

    fn counter(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        self.described(encoder, &self.names.family, TheirType::Counter, |metric| {
            for (s, (series, numbers)) in self.series().enumerate() {
                let value = &numbers[0][0];
                let exemplar = self.exemplar(s).and_then(theirs);
                // Theirs cannot be made, but one that a counter holds can be lent.
                let held = exemplar.as_ref().map(CounterWithExemplar::get);
                let lent = held.as_ref().and_then(|(_, exemplar)| exemplar.as_ref());
                with_labels(metric, &self.labels(series), |m| m.encode_counter(value, lent))?;
            }
            Ok(())
        })
    }

    fn info(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        self.described(encoder, &self.names.family, TheirType::Info, |metric| {
            let mut series = self.family.series.iter();
            series.try_for_each(|series| metric.encode_info(&self.labels(series)))
        })
    }

    fn histogram(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        self.described(encoder, &self.names.family, TheirType::Histogram, |metric| {
            for (s, (series, numbers)) in self.series().enumerate() {
                let bounds = self.family.buckets.iter().copied().chain([f64::INFINITY]);
                let (counts, count) = whole(numbers.iter().map(|[count, _]| *count));
                let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
                let sum = numbers.iter().fold(0.0, |sum, [_, amount]| sum + amount);
                with_labels(metric, &self.labels(series), |m| match self.native(s) {
                    Some(native) => encode_native(m, sum, &buckets, native, series.created_seconds),
                    None => m.encode_histogram(sum, count, &buckets, NO_EXEMPLARS),
                })?;
            }
            Ok(())
        })
    }

    fn labels<'a>(&'a self, series: &'a CatalogSeries) -> Labels<'a> {
        let names = self.names.labels.iter().map(String::as_str);
        let values = series.label_values.iter().map(String::as_str);
        let more = series.extra_label.iter().map(|(name, value)| (*name, value.as_str()));
        names.zip(values).chain(more).collect()
    }

    fn exemplar(&self, series: usize) -> Option<&Exemplar> {
        let all = &self.snapshot.exemplars;
        let at = |e: &SeriesExemplar| (e.family as usize, e.series as usize);
        let found = all.get(all.partition_point(|e| at(e) < (self.f, series)))?;
        (at(found) == (self.f, series)).then_some(&found.exemplar)
    }

    fn native(&self, series: usize) -> Option<&NativeHistogram> {
        let all = &self.snapshot.natives;
        let at = |n: &SeriesNative| (n.family as usize, n.series as usize);
        let found = all.get(all.partition_point(|n| at(n) < (self.f, series)))?;
        (at(found) == (self.f, series)).then_some(&found.histogram)
    }
}

/// The crate writes braces for a label set that is empty, so there must be none.
fn with_labels(
    metric: &mut MetricEncoder,
    labels: &Labels,
    write: impl FnOnce(&mut MetricEncoder) -> fmt::Result,
) -> fmt::Result {
    if labels.is_empty() {
        write(metric)
    } else {
        write(&mut metric.encode_family(labels)?)
    }
}

/// A counter that holds the exemplar and nothing else; None when its labels have become too long.
fn theirs(exemplar: &Exemplar) -> Option<CounterWithExemplar<OwnLabels, f64>> {
    let labels = names::exemplar_labels(exemplar, Escaping::Underscores)?;
    let labels = labels.into_iter().map(|(name, value)| (name, value.to_string())).collect();
    let since = Duration::try_from_secs_f64(exemplar.unix_seconds).ok()?;
    let counter = CounterWithExemplar::default();
    counter.inc_by(exemplar.value, Some(labels), UNIX_EPOCH.checked_add(since));
    Some(counter)
}

/// Counts without fractions, and their sum: it is rounded, and so are the sums on the way to it.
fn whole(counts: impl Iterator<Item = f64>) -> (Vec<u64>, u64) {
    let (mut exact, mut so_far) = (0.0, 0);
    let rounded = counts.map(|count| {
        exact += count;
        let before = std::mem::replace(&mut so_far, f64::round(exact) as u64);
        so_far.saturating_sub(before)
    });
    (rounded.collect(), so_far)
}

/// Classic buckets and exponential ones. Both must add up to the one count that the message has.
fn encode_native(
    metric: &mut MetricEncoder,
    sum: f64,
    buckets: &[(f64, u64)],
    histogram: &NativeHistogram,
    created_seconds: f64,
) -> fmt::Result {
    let NativeHistogram { negative, positive, zero_count, .. } = histogram;
    let of = |side: &[(i32, f64)]| side.iter().map(|(_, count)| *count).collect::<Vec<_>>();
    let (counts, count) = whole(of(negative).into_iter().chain([*zero_count]).chain(of(positive)));
    let (below, rest) = counts.split_at(negative.len());
    let (below, above) = (Sparse::new(negative, below), Sparse::new(positive, &rest[1..]));
    let since = Duration::try_from_secs_f64(created_seconds).ok().filter(|since| !since.is_zero());
    let native = Native {
        schema: histogram.schema.into(),
        zero_threshold: histogram.zero_threshold,
        zero_count: rest[0],
        negative: below.as_theirs(),
        positive: above.as_theirs(),
        created: since.and_then(|since| UNIX_EPOCH.checked_add(since)),
    };
    metric.encode_histogram_with_native(sum, count, buckets, NO_EXEMPLARS, native)
}

/// One side of exponential buckets as the wire has it.
#[derive(Default)]
struct Sparse {
    /// Gap to the bucket before – of the first one its index – and length.
    spans: Vec<(i32, u32)>,
    /// Each count less the one before.
    deltas: Vec<i64>,
}

impl Sparse {
    fn new(buckets: &[(i32, f64)], counts: &[u64]) -> Sparse {
        let mut sparse = Sparse::default();
        let (mut next, mut last) = (0, 0);
        for ((index, _), count) in buckets.iter().zip(counts) {
            match sparse.spans.last_mut() {
                Some((_, length)) if *index == next => *length += 1,
                _ => sparse.spans.push((index - next, 1)),
            }
            sparse.deltas.push(*count as i64 - last);
            (next, last) = (index + 1, *count as i64);
        }
        sparse
    }

    fn as_theirs(&self) -> NativeHistogramBuckets<'_> {
        NativeHistogramBuckets { spans: &self.spans, deltas: &self.deltas }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounded_counts_add_up_to_the_rounded_sum() {
        let (counts, sum) = whole([1.4, 1.4, 0.0, 1.4, 0.1].into_iter());
        assert_eq!((counts, sum), (vec![1, 2, 0, 1, 0], 4));
        assert_eq!(whole(std::iter::empty()), (vec![], 0));
    }

    #[test]
    fn spans_and_deltas_can_be_undone() {
        let buckets = [(-3, 5.0), (-2, 2.0), (0, 7.0), (9, 1.0)];
        let sparse = Sparse::new(&buckets, &[5, 2, 7, 1]);
        assert_eq!(sparse.spans, [(-3, 2), (1, 1), (8, 1)]);
        assert_eq!(sparse.deltas, [5, -3, 5, -6]);
    }
}
