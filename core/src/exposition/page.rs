//! The order of lines on a page, and the values on them: what the text formats share.
//!
//! [`walk`] is the one place that knows which samples a family has. Called with a visitor that builds
//! text it makes the template; with one that takes values only it feeds a template that exists.

use crate::snapshot::{CatalogFamily, MetricType, Snapshot, WorkerSample};

/// What a line tells of its series.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Line<'a> {
    /// A counter's or gauge's value.
    Value,
    /// A summary's quantile of that index.
    Quantile(usize),
    /// Observations up to the bound of that index; `+Inf` is the one past the last.
    Bucket(usize),
    /// `_sum`.
    Sum,
    /// `_count`.
    Count,
    /// One worker's value of a gauge.
    Worker(&'a WorkerSample),
}

impl Line<'_> {
    /// Which of its series' exemplars may stand behind it.
    pub(super) fn exemplar(&self) -> Option<usize> {
        match self {
            Line::Value => Some(0),
            Line::Bucket(index) => Some(*index),
            Line::Quantile(_) | Line::Sum | Line::Count | Line::Worker(_) => None,
        }
    }
}

/// Where a line stands.
pub(super) struct Place<'a> {
    pub family: usize,
    pub series: usize,
    pub line: Line<'a>,
}

/// Shows all lines in order; a line without a value is one that is left out this time.
///
/// `strict` is OpenMetrics 1.0: counts are whole, there is no `_count` without `_sum`, and no `_sum`
/// of what may be negative.
#[inline]
pub(super) fn walk<'a>(
    snapshot: &'a Snapshot,
    strict: bool,
    mut visit: impl FnMut(Place<'a>, Option<f64>),
) {
    let mut numbers = snapshot.numbers.as_slice();
    let mut samples = snapshot.per_worker.as_slice();
    for (f, family) in snapshot.catalog.families.iter().enumerate() {
        let n = family.series.len() * numbers_per_series(family);
        let (mine, rest) = numbers.split_at(numbers.len().min(n));
        let n_samples = samples.iter().take_while(|sample| sample.family as usize == f).count();
        let (own_samples, other_samples) = samples.split_at(n_samples);
        walk_family(family, f, mine, strict, &mut visit);
        for sample in own_samples {
            let series = sample.series as usize;
            if series < family.series.len() {
                let line = Line::Worker(sample);
                visit(Place { family: f, series, line }, Some(sample.value));
            }
        }
        (numbers, samples) = (rest, other_samples);
    }
}

/// Pairs of numbers that one series has in a snapshot.
pub(super) fn numbers_per_series(family: &CatalogFamily) -> usize {
    match family.metric_type {
        MetricType::Histogram | MetricType::Summary => family.buckets.len() + 1,
        _ => 1,
    }
}

/// May a histogram's `_sum` be shown? Below zero it would not be a counter.
pub(super) fn has_sum(family: &CatalogFamily) -> bool {
    family.buckets.first().is_none_or(|first| *first >= 0.0)
}

#[inline]
fn walk_family<'a>(
    family: &CatalogFamily,
    f: usize,
    numbers: &[[f64; 2]],
    strict: bool,
    visit: &mut impl FnMut(Place<'a>, Option<f64>),
) {
    let whole = |count: f64| if strict { count.round() } else { count };
    let place = |series, line| Place { family: f, series, line };
    match family.metric_type {
        MetricType::Counter => {
            for (s, [value, _]) in numbers.iter().enumerate() {
                visit(place(s, Line::Value), Some(*value));
            }
        }
        MetricType::Gauge => {
            for (s, [value, present]) in numbers.iter().enumerate() {
                visit(place(s, Line::Value), (*present != 0.0).then_some(*value));
            }
        }
        MetricType::Summary => {
            for (s, numbers) in numbers.chunks_exact(numbers_per_series(family)).enumerate() {
                let ([count, sum], quantiles) = (numbers[0], &numbers[1..]);
                for (q, [value, _]) in quantiles.iter().enumerate() {
                    visit(place(s, Line::Quantile(q)), Some(*value));
                }
                let shown = !strict || sum >= 0.0;
                visit(place(s, Line::Sum), shown.then_some(sum));
                visit(place(s, Line::Count), Some(whole(count)));
            }
        }
        MetricType::Histogram => {
            let may_sum = has_sum(family);
            for (s, buckets) in numbers.chunks_exact(numbers_per_series(family)).enumerate() {
                let (mut count, mut sum) = (0.0, 0.0);
                for (b, [n, amount]) in buckets.iter().enumerate() {
                    count += n;
                    sum += amount;
                    visit(place(s, Line::Bucket(b)), Some(whole(count)));
                }
                let shown = may_sum && (!strict || sum >= 0.0);
                visit(place(s, Line::Sum), shown.then_some(sum));
                visit(place(s, Line::Count), (shown || !strict).then_some(whole(count)));
            }
        }
    }
}
