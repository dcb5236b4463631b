//! What is on a page, in every format, against readers of our own and of others.

#[path = "support/messages.rs"]
mod messages;
#[path = "support/odd.rs"]
mod odd;
#[path = "support/strict.rs"]
mod strict;

use std::collections::HashSet;

use promring::exposition::{Choice, Escaping, Format, Renderer};
use promring::snapshot::{
    Catalog, CatalogFamily, CatalogSeries, Exemplar, MetricType, NativeHistogram, SeriesExemplar,
    Snapshot,
};
use strict::{Dialect, Family};

const TEXTS: [(Format, Dialect); 3] = [
    (Format::Text, Dialect::Text),
    (Format::TextUtf8, Dialect::TextUtf8),
    (Format::OpenMetrics, Dialect::OpenMetrics),
];

fn choices() -> Vec<(Choice, Dialect)> {
    let with = |(format, dialect)| {
        Escaping::ALL.map(|escaping| (Choice { format, escaping, gzip: false }, dialect))
    };
    let all = TEXTS.into_iter().flat_map(with);
    // Nothing is quoted in 0.0.4, and negotiation never has it so.
    all.filter(|(c, _)| (c.format, c.escaping) != (Format::Text, Escaping::AllowUtf8)).collect()
}

fn render(snapshot: &Snapshot, choice: Choice) -> Vec<u8> {
    let mut page = Vec::new();
    Renderer::new().render(snapshot, choice, &mut page);
    page
}

/// A sample as the snapshot has it: suffix, values of the labels in order, value.
type Expected = (&'static str, Vec<String>, f64);

/// What a family's samples are, worked out plainly and without the encoder.
fn expected(snapshot: &Snapshot, f: usize, open_metrics: bool) -> Vec<Expected> {
    let family = &snapshot.catalog.families[f];
    let n = |family: &CatalogFamily| family.series.len() * (family.buckets.len() + 1);
    let start: usize = snapshot.catalog.families[..f].iter().map(n).sum();
    let mut all = Vec::new();
    for (s, series) in family.series.iter().enumerate() {
        let numbers =
            &snapshot.numbers[start + s * (family.buckets.len() + 1)..][..family.buckets.len() + 1];
        all.extend(expected_of_series(family, series, numbers, open_metrics));
    }
    for sample in snapshot.per_worker.iter().filter(|sample| sample.family as usize == f) {
        let mut labels = label_values(&family.series[sample.series as usize]);
        labels.push(sample.label_value.clone());
        all.push(("", labels, sample.value));
    }
    all
}

fn label_values(series: &CatalogSeries) -> Vec<String> {
    let mut values = series.label_values.clone();
    values.extend(series.extra_label.iter().map(|(_, value)| value.clone()));
    values
}

fn expected_of_series(
    family: &CatalogFamily,
    series: &CatalogSeries,
    numbers: &[[f64; 2]],
    open_metrics: bool,
) -> Vec<Expected> {
    let labels = label_values(series);
    let count: f64 = numbers.iter().map(|[n, _]| n).sum();
    let sum: f64 = numbers.iter().map(|[_, sum]| sum).sum();
    let whole = |n: f64| if open_metrics { n.round() } else { n };
    let mut all = Vec::new();
    match family.metric_type {
        MetricType::Counter => all.push(("", labels, numbers[0][0])),
        MetricType::Gauge if numbers[0][1] == 0.0 => {}
        MetricType::Gauge => all.push(("", labels, numbers[0][0])),
        MetricType::Summary => {
            let ([count, sum], quantiles) = (numbers[0], &numbers[1..]);
            for (quantile, [value, _]) in family.buckets.iter().zip(quantiles) {
                let mut labels = labels.clone();
                labels.push(format!("quantile {quantile}"));
                all.push(("", labels, *value));
            }
            if !open_metrics || sum >= 0.0 {
                all.push(("_sum", labels.clone(), sum));
            }
            all.push(("_count", labels, whole(count)));
        }
        MetricType::Histogram => {
            let mut so_far = 0.0;
            for (i, [n, _]) in numbers.iter().enumerate() {
                so_far += n;
                let bound = family.buckets.get(i).copied().unwrap_or(f64::INFINITY);
                let mut labels = labels.clone();
                labels.push(format!("le {bound}"));
                all.push(("_bucket", labels, whole(so_far)));
            }
            let negative = family.buckets.first().is_some_and(|first| *first < 0.0);
            let summed = !negative && (!open_metrics || sum >= 0.0);
            if summed {
                all.push(("_sum", labels.clone(), sum));
            }
            if summed || !open_metrics {
                all.push(("_count", labels, whole(count)));
            }
        }
    }
    all
}

/// What was read of a family, in the same form; creation times apart.
fn found(family: &Family, metric_type: MetricType) -> Vec<(String, Vec<String>, f64)> {
    let of_family = |name: &str| match family.type_word.as_str() {
        "counter" if name.strip_prefix(&family.name) == Some("_total") => String::new(),
        "info" if name.strip_prefix(&family.name) == Some("_info") => String::new(),
        _ => name.strip_prefix(&family.name).unwrap_or("another family's").to_string(),
    };
    let samples = family.samples.iter().map(|sample| {
        let value_of = |(name, value): &(String, String)| match name.as_str() {
            "le" if metric_type == MetricType::Histogram => {
                format!("le {}", value.replace("+Inf", "inf").parse::<f64>().unwrap())
            }
            "quantile" if metric_type == MetricType::Summary => {
                format!("quantile {}", value.parse::<f64>().unwrap())
            }
            _ => value.clone(),
        };
        (of_family(&sample.name), sample.labels.iter().map(value_of).collect(), sample.value)
    });
    samples.filter(|(suffix, _, _)| suffix != "_created").collect()
}

/// An exemplar in words: its bucket's upper bound, if it has one, its labels' values, value and time.
type Traced = (Option<u64>, Vec<String>, f64, f64);

/// The exemplars of a family that a page should have: an `unknown` has none.
fn expected_exemplars(snapshot: &Snapshot, f: usize, unknown: bool) -> Vec<Traced> {
    let family = &snapshot.catalog.families[f];
    let own = snapshot.exemplars.iter().filter(|e| e.family as usize == f && !unknown);
    let bound = |bucket: u32| match family.metric_type {
        MetricType::Histogram => {
            let bound = family.buckets.get(bucket as usize).copied().unwrap_or(f64::INFINITY);
            Some(bound.to_bits())
        }
        _ => None,
    };
    own.map(|e| {
        let values = e.exemplar.labels.iter().map(|(_, value)| value.clone()).collect();
        (bound(e.bucket), values, e.exemplar.value, e.exemplar.unix_seconds)
    })
    .collect()
}

fn found_exemplars(family: &Family) -> Vec<Traced> {
    let bound = |sample: &strict::Sample| {
        let le =
            sample.labels.iter().find(|(name, _)| name == "le" && family.type_word == "histogram");
        le.map(|(_, value)| value.replace("+Inf", "inf").parse::<f64>().unwrap().to_bits())
    };
    let traced =
        family.samples.iter().filter_map(|sample| Some((sample, sample.exemplar.as_ref()?)));
    traced
        .map(|(sample, e)| {
            let values = e.labels.iter().map(|(_, value)| value.clone()).collect();
            (bound(sample), values, e.value, e.timestamp)
        })
        .collect()
}

fn same_bits(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// Whatever is registered comes back from the page: every sample, every label value, every bit.
fn check_round_trip(snapshot: &Snapshot, choice: Choice, dialect: Dialect) -> Result<(), String> {
    let page = render(snapshot, choice);
    let families = strict::read(&page, dialect)?;
    let open_metrics = dialect == Dialect::OpenMetrics;
    if families.len() != snapshot.catalog.families.len() {
        return Err(format!("{} families", families.len()));
    }
    for (f, (read, registered)) in families.iter().zip(&snapshot.catalog.families).enumerate() {
        let wanted = expected(snapshot, f, open_metrics);
        let found = found(read, registered.metric_type);
        let same = wanted.len() == found.len()
            && wanted.iter().zip(&found).all(|(wanted, found)| {
                wanted.0 == found.0 && wanted.1 == found.1 && same_bits(wanted.2, found.2)
            });
        if !same {
            return Err(format!("{}: wanted {wanted:?}\nfound {found:?}", registered.name));
        }
        let (wanted, found) = match dialect {
            Dialect::OpenMetrics => (
                expected_exemplars(snapshot, f, read.type_word == "unknown"),
                found_exemplars(read),
            ),
            _ => (Vec::new(), found_exemplars(read)),
        };
        // What an escaping scheme has made too long is left out; `values` alone makes names that long.
        let same = wanted == found
            || choice.escaping == Escaping::Values && found.iter().all(|e| wanted.contains(e));
        if !same {
            return Err(format!("{}: exemplars {wanted:?}\nfound {found:?}", registered.name));
        }
        let word = registered.metric_type.as_str();
        let unknown = open_metrics && word == "counter" && read.type_word == "unknown";
        let help = read.help.as_deref().unwrap_or("");
        let info = open_metrics && registered.info && read.type_word == "info";
        if help != registered.help || (read.type_word != word && !unknown && !info) {
            return Err(format!("{}: {} {help:?}", registered.name, read.type_word));
        }
    }
    Ok(())
}

#[test]
fn whatever_is_registered_comes_back() {
    for seed in 0..3_000 {
        let snapshot = odd::snapshot(seed);
        for (choice, dialect) in choices() {
            if let Err(error) = check_round_trip(&snapshot, choice, dialect) {
                let page = String::from_utf8_lossy(&render(&snapshot, choice)).into_owned();
                panic!("snapshot {seed}, {choice:?}: {error}\n{page}");
            }
        }
    }
}

#[test]
fn names_stay_what_they_are() {
    for seed in 0..1_000 {
        let snapshot = odd::snapshot(seed);
        let choice =
            Choice { format: Format::TextUtf8, escaping: Escaping::AllowUtf8, gzip: false };
        let families = strict::read(&render(&snapshot, choice), Dialect::TextUtf8).unwrap();
        let mut taken = HashSet::new();
        for (read, registered) in families.iter().zip(&snapshot.catalog.families) {
            let suffixes: &[&str] = match registered.metric_type {
                MetricType::Histogram => &["", "_sum", "_count", "_bucket"],
                MetricType::Summary => &["", "_sum", "_count"],
                _ => &[""],
            };
            let names: Vec<String> =
                suffixes.iter().map(|suffix| format!("{}{suffix}", registered.name)).collect();
            let free = names.iter().all(|name| !taken.contains(name));
            assert_eq!(read.name == registered.name, free, "snapshot {seed}: {}", registered.name);
            taken.extend(suffixes.iter().map(|suffix| format!("{}{suffix}", read.name)));
        }
    }
}

/// A metric's name and a label's by each scheme, written by hand.
const BY_SCHEME: [(Escaping, &str, &str); 4] = [
    (Escaping::AllowUtf8, "wait.for_a é", "l.b_l é"),
    (Escaping::Underscores, "wait_for_a__", "l_b_l__"),
    (Escaping::Dots, "wait_dot_for__a____", "l_dot_b__l____"),
    (Escaping::Values, "U__wait_2e_for__a_20__e9_", "U__l_2e_b__l_20__e9_"),
];

#[test]
fn names_follow_the_scheme_in_every_format() {
    let types =
        [MetricType::Counter, MetricType::Gauge, MetricType::Histogram, MetricType::Summary];
    let [(_, raw_name, raw_label), ..] = BY_SCHEME;
    for (metric_type, (escaping, name, label)) in
        types.into_iter().flat_map(|metric_type| BY_SCHEME.map(|scheme| (metric_type, scheme)))
    {
        let total = if metric_type == MetricType::Counter { "_total" } else { "" };
        let mut family = one_family(metric_type, &format!("{raw_name}{total}"), "");
        family.label_names = vec![raw_label.into()];
        let mut snapshot = one_snapshot(vec![family]);
        let labels = vec![(raw_label.to_string(), "t".to_string())];
        let exemplar = Exemplar { labels, value: 0.000001, unix_seconds: 1.5 };
        let traced = matches!(metric_type, MetricType::Counter | MetricType::Histogram);
        let exemplar = SeriesExemplar { family: 0, series: 0, bucket: 0, exemplar };
        snapshot.exemplars.extend(traced.then_some(exemplar));
        // These two double what is in the suffix, too.
        let doubled = [Escaping::Dots, Escaping::Values].contains(&escaping);
        let total = if doubled { total.replace('_', "__") } else { total.into() };
        let whole = format!("{name}{total}");
        let short = whole.strip_suffix("_total").unwrap_or(&whole);
        for (choice, dialect) in choices().into_iter().filter(|(c, _)| c.escaping == escaping) {
            let families = strict::read(&render(&snapshot, choice), dialect).unwrap();
            let found: Vec<_> = families.iter().flat_map(|family| &family.samples).collect();
            let good = |sample: &&strict::Sample| {
                let own =
                    sample.name.starts_with(&whole) || sample.name == format!("{short}_created");
                let e = sample.exemplar.as_ref().is_none_or(|e| e.labels[0].0 == label);
                own && sample.labels[0].0 == label && e
            };
            let wrong: Vec<_> = found.iter().filter(|sample| !good(sample)).collect();
            assert!(!found.is_empty() && wrong.is_empty(), "{choice:?}: {wrong:?}");
        }
        let families = messages::read(&render(&snapshot, protobuf(escaping))).unwrap();
        assert_eq!(families[0].name(), whole, "protobuf, {escaping:?}");
        for metric in &families[0].metric {
            assert_eq!(metric.label[0].name(), label, "protobuf, {escaping:?}");
            let counter = metric.counter.as_ref().and_then(|c| c.exemplar.as_ref());
            let bucket = metric.histogram.as_ref().and_then(|h| h.bucket[0].exemplar.as_ref());
            let exemplar = counter.or(bucket);
            assert!(exemplar.is_none_or(|e| e.label[0].name() == label), "{exemplar:?}");
        }
    }
}

#[test]
fn what_is_kept_makes_no_difference() {
    let mut renderer = Renderer::new();
    for seed in 0..300 {
        let first = odd::snapshot(seed);
        // The same catalog: other gauges are set, other workers are there, then other numbers.
        let mut second = Snapshot {
            catalog: first.catalog.clone(),
            numbers: first.numbers.iter().map(|[a, b]| [*a, 1.0 - b.clamp(0.0, 1.0)]).collect(),
            per_worker: first.per_worker.iter().skip(1).cloned().collect(),
            exemplars: first.exemplars.clone(),
            natives: first.natives.clone(),
            peeked: false,
        };
        let mut third = odd::snapshot(seed);
        stir(&mut third, &mut odd::Random::new(seed));
        second.per_worker.iter_mut().for_each(|sample| sample.label_value.push('7'));
        for (choice, _) in choices() {
            for snapshot in [&first, &second, &third, &first] {
                let mut page = Vec::new();
                renderer.render(snapshot, choice, &mut page);
                assert!(page == render(snapshot, choice), "snapshot {seed}, {choice:?}");
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Protobuf

fn protobuf(escaping: Escaping) -> Choice {
    Choice { format: Format::Protobuf, escaping, gzip: false }
}

/// A message in the form of [`expected`]; the `+Inf` bucket, which is not sent, is put back.
fn found_in_message(family: &messages::MetricFamily) -> Vec<(String, Vec<String>, f64)> {
    let mut all = Vec::new();
    for metric in &family.metric {
        let labels: Vec<String> = metric.label.iter().map(|l| l.value().to_string()).collect();
        let mut add = |suffix: &str, extra: Option<String>, value: f64| {
            all.push((suffix.to_string(), labels.iter().cloned().chain(extra).collect(), value));
        };
        if let Some(counter) = &metric.counter {
            add("", None, counter.value());
        } else if let Some(gauge) = &metric.gauge {
            add("", None, gauge.value());
        } else if let Some(summary) = &metric.summary {
            for at in &summary.quantile {
                add("", Some(format!("quantile {}", at.quantile())), at.value());
            }
            add("_sum", None, summary.sample_sum());
            add("_count", None, summary.sample_count() as f64);
        } else if let Some(histogram) = &metric.histogram {
            let finite = |b: &&messages::Bucket| b.upper_bound() < f64::INFINITY;
            for bucket in histogram.bucket.iter().filter(finite) {
                let exact = bucket.cumulative_count_float;
                let count = exact.unwrap_or(bucket.cumulative_count() as f64);
                assert_eq!(count.round(), bucket.cumulative_count() as f64);
                add("_bucket", Some(format!("le {}", bucket.upper_bound())), count);
            }
            let exact = histogram.sample_count_float;
            let count = exact.unwrap_or(histogram.sample_count() as f64);
            add("_bucket", Some("le inf".into()), count);
            add("_sum", None, histogram.sample_sum());
            add("_count", None, count);
        }
    }
    all
}

/// As [`expected`], where protobuf says more or less than text: a summary's count is whole, a
/// histogram's sum always there.
fn expected_in_message(snapshot: &Snapshot, f: usize) -> Vec<Expected> {
    let family = &snapshot.catalog.families[f];
    let mut positive = expected(snapshot, f, false);
    match family.metric_type {
        MetricType::Summary => {
            positive.iter_mut().filter(|e| e.0 == "_count").for_each(|e| e.2 = e.2.round())
        }
        MetricType::Histogram => positive.retain(|e| e.0 != "_sum"),
        _ => {}
    }
    positive
}

fn check_exemplars(
    snapshot: &Snapshot,
    f: usize,
    read: &messages::MetricFamily,
    escaping: Escaping,
) {
    let family = &snapshot.catalog.families[f];
    let mut found: Vec<Traced> = Vec::new();
    let mut of_native: Vec<Traced> = Vec::new();
    let traced = |bound: Option<u64>, exemplar: &messages::Exemplar| {
        let values = exemplar.label.iter().map(|label| label.value().to_string()).collect();
        let time = exemplar.timestamp.as_ref().expect("a timestamp");
        let seconds = time.seconds as f64 + f64::from(time.nanos) / 1e9;
        (bound, values, exemplar.value(), seconds)
    };
    for metric in &read.metric {
        for exemplar in metric.histogram.iter().flat_map(|histogram| &histogram.exemplars) {
            of_native.push(traced(None, exemplar));
        }
        let counter = metric.counter.iter().map(|counter| (None, &counter.exemplar));
        let buckets = metric.histogram.iter().flat_map(|histogram| &histogram.bucket);
        let buckets = buckets.map(|b| (Some(b.upper_bound().to_bits()), &b.exemplar));
        for (bound, exemplar) in counter.chain(buckets) {
            let Some(exemplar) = exemplar else { continue };
            found.push(traced(bound, exemplar));
        }
    }
    let wanted = expected_exemplars(snapshot, f, false);
    let same = |wanted: &[Traced], found: &[Traced]| {
        let fewer = escaping == Escaping::Values && found.iter().all(|e| wanted.contains(e));
        assert!(wanted == found || fewer, "{wanted:?}\nfound {found:?}");
    };
    if family.native.is_some() {
        let anywhere: Vec<Traced> = wanted.iter().cloned().map(|e| (None, e.1, e.2, e.3)).collect();
        same(&anywhere, &of_native);
    }
    if family.native.is_none() || !family.buckets.is_empty() {
        same(&wanted, &found);
    } else {
        assert!(found.is_empty());
    }
}

/// The exponential buckets of a family, as a reader of messages puts them together.
fn check_natives(snapshot: &Snapshot, f: usize, read: &messages::MetricFamily) {
    let wanted = snapshot.natives.iter().filter(|native| native.family as usize == f);
    let mut metrics = read.metric.iter().filter_map(|metric| metric.histogram.as_ref());
    for NativeHistogram { schema, zero_threshold, zero_count, count, negative, positive, .. } in
        wanted.map(|native| &native.histogram)
    {
        let found = metrics.next().expect("a histogram");
        assert_eq!((found.schema(), found.zero_threshold()), (i32::from(*schema), *zero_threshold));
        let counts = negative.iter().chain(positive).map(|(_, count)| *count);
        if counts.chain([*zero_count]).any(|count| count.fract() != 0.0) {
            assert_eq!(
                (found.sample_count_float, found.zero_count_float),
                (Some(*count), Some(*zero_count))
            );
        } else {
            assert_eq!(found.zero_count(), *zero_count as u64);
        }
        assert_eq!((&found.negative(), &found.positive()), (negative, positive));
    }
    let plain = snapshot.catalog.families[f].native.is_none();
    assert!(!plain || metrics.all(|histogram| histogram.schema.is_none()));
}

#[test]
fn messages_hold_whatever_is_registered() {
    for seed in 0..2_000 {
        let snapshot = odd::snapshot(seed);
        for escaping in Escaping::ALL {
            let page = render(&snapshot, protobuf(escaping));
            let families = messages::read(&page).unwrap_or_else(|e| panic!("snapshot {seed}: {e}"));
            let mut families = families.iter();
            for (f, registered) in snapshot.catalog.families.iter().enumerate() {
                let wanted = expected_in_message(&snapshot, f);
                if wanted.is_empty() {
                    continue; // a family without metrics is left out
                }
                let read = families.next().expect("a family");
                let mut found = found_in_message(read);
                found.retain(|f| registered.metric_type != MetricType::Histogram || f.0 != "_sum");
                let same = wanted.len() == found.len()
                    && wanted
                        .iter()
                        .zip(&found)
                        .all(|(w, f)| w.0 == f.0 && w.1 == f.1 && same_bits(w.2, f.2));
                assert!(same, "snapshot {seed}: wanted {wanted:?}\nfound {found:?}");
                check_exemplars(&snapshot, f, read, escaping);
                check_natives(&snapshot, f, read);
                assert_eq!((read.help(), read.unit()), (&*registered.help, &*registered.unit));
            }
            assert_eq!(families.next(), None);
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Creation times

fn one_family(metric_type: MetricType, name: &str, unit: &str) -> CatalogFamily {
    let histogram = metric_type == MetricType::Histogram;
    CatalogFamily {
        name: name.into(),
        help: "A \"help\".".into(),
        unit: unit.into(),
        metric_type,
        label_names: vec!["k".into()],
        buckets: if histogram { vec![0.00001, 1.0, 1e6] } else { Vec::new() },
        native: None,
        info: false,
        series: ["a", "b"]
            .map(|value| CatalogSeries {
                extra_label: None,
                label_values: vec![value.into()],
                created_seconds: 1764000000.25,
            })
            .into(),
    }
}

fn one_snapshot(families: Vec<CatalogFamily>) -> Snapshot {
    let n: usize = families.iter().map(|f| f.series.len() * (f.buckets.len() + 1)).sum();
    let numbers = (0..n).map(|i| [i as f64 + 1.0, 1.0]).collect();
    let catalog = Catalog { version: 1, families };
    Snapshot {
        catalog: catalog.into(),
        numbers,
        per_worker: Vec::new(),
        exemplars: Vec::new(),
        natives: Vec::new(),
        peeked: false,
    }
}

#[test]
fn openmetrics_to_the_letter() {
    let mut snapshot = one_snapshot(vec![
        one_family(MetricType::Counter, "waits_seconds_total", "seconds"),
        one_family(MetricType::Counter, "visits", "seconds"),
        one_family(MetricType::Histogram, "size_bytes", "bytes"),
        CatalogFamily { info: true, ..one_family(MetricType::Gauge, "target_info", "") },
    ]);
    snapshot.numbers.iter_mut().rev().take(2).for_each(|info| *info = [1.0, 1.0]);
    let choice = Choice::negotiate("application/openmetrics-text", "");
    let page = String::from_utf8(render(&snapshot, choice)).unwrap();
    let wanted = "\
# TYPE waits_seconds counter
# UNIT waits_seconds seconds
# HELP waits_seconds A \\\"help\\\".
waits_seconds_total{k=\"a\"} 1
waits_seconds_created{k=\"a\"} 1764000000.25
waits_seconds_total{k=\"b\"} 2
waits_seconds_created{k=\"b\"} 1764000000.25
# TYPE visits unknown
# HELP visits A \\\"help\\\".
visits{k=\"a\"} 3
visits{k=\"b\"} 4
# TYPE size_bytes histogram
# UNIT size_bytes bytes
# HELP size_bytes A \\\"help\\\".
size_bytes_bucket{k=\"a\",le=\"1e-05\"} 5
size_bytes_bucket{k=\"a\",le=\"1.0\"} 11
size_bytes_bucket{k=\"a\",le=\"1e+06\"} 18
size_bytes_bucket{k=\"a\",le=\"+Inf\"} 26
size_bytes_sum{k=\"a\"} 4
size_bytes_count{k=\"a\"} 26
size_bytes_created{k=\"a\"} 1764000000.25
size_bytes_bucket{k=\"b\",le=\"1e-05\"} 9
size_bytes_bucket{k=\"b\",le=\"1.0\"} 19
size_bytes_bucket{k=\"b\",le=\"1e+06\"} 30
size_bytes_bucket{k=\"b\",le=\"+Inf\"} 42
size_bytes_sum{k=\"b\"} 4
size_bytes_count{k=\"b\"} 42
size_bytes_created{k=\"b\"} 1764000000.25
# TYPE target info
# HELP target A \\\"help\\\".
target_info{k=\"a\"} 1
target_info{k=\"b\"} 1
# EOF
";
    assert_eq!(page, wanted);
}

/// Two families that want one name in OpenMetrics: no sample is called anything else than in text 0.0.4,
/// but for the one case that the format leaves no way out of.
#[test]
fn who_gets_a_name_that_two_want() {
    use MetricType::{Counter, Gauge, Histogram};
    for (families, wanted) in [
        ([(Counter, "a_total"), (Gauge, "a")], ["unknown a_total a_total", "gauge a a"]),
        ([(Gauge, "a"), (Counter, "a_total")], ["gauge a a", "unknown a_total a_total"]),
        (
            [(Counter, "a_total"), (Gauge, "a_created")],
            ["unknown a_total a_total", "gauge a_created a_created"],
        ),
        ([(Counter, "a_total"), (Counter, "a")], ["unknown a_total a_total", "unknown a a"]),
        ([(Counter, "a"), (Counter, "a_total")], ["unknown a a", "unknown a_total a_total"]),
        (
            [(Counter, "a_total_total"), (Counter, "a_total")],
            ["unknown a_total_total a_total_total", "counter a a_total"],
        ),
        (
            [(Histogram, "a"), (Gauge, "a_created")],
            ["histogram a a_bucket", "gauge U__a__created U__a__created"],
        ),
    ] {
        let snapshot = one_snapshot(families.map(|(t, name)| one_family(t, name, "")).into());
        let page = render(&snapshot, Choice::negotiate("application/openmetrics-text", ""));
        let read = strict::read(&page, Dialect::OpenMetrics).unwrap();
        let found =
            read.iter().map(|f| format!("{} {} {}", f.type_word, f.name, f.samples[0].name));
        assert_eq!(found.collect::<Vec<_>>(), wanted, "{families:?}");
    }
}

#[test]
fn messages_carry_start_timestamps() {
    let snapshot = one_snapshot(vec![
        one_family(MetricType::Counter, "a_total", ""),
        one_family(MetricType::Histogram, "b", ""),
        one_family(MetricType::Summary, "c", ""),
    ]);
    let page = render(&snapshot, protobuf(Escaping::Underscores));
    let families = messages::read(&page).unwrap();
    let metric = |f: usize| &families[f].metric[1];
    let starts = [
        &metric(0).counter.as_ref().unwrap().start_timestamp,
        &metric(1).histogram.as_ref().unwrap().start_timestamp,
        &metric(2).summary.as_ref().unwrap().start_timestamp,
    ];
    let wanted = messages::Timestamp { seconds: 1_764_000_000, nanos: 250_000_000 };
    assert_eq!(starts, [&Some(wanted); 3]);
}

// ---------------------------------------------------------------------------------------------
// Other people's programs

#[test]
fn the_prometheus_client_crate_writes_the_same() {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::metrics::{
        counter::Counter, family, gauge::Gauge, histogram::Histogram,
    };
    use prometheus_client::registry::Registry;

    type Labels = Vec<(String, String)>;
    let values = ["plain", "with \"quotes\"", "with \\ and \n", "é 名前"];
    let labels = |value: &str| vec![("k".to_string(), value.to_string())];
    let counters = family::Family::<Labels, Counter<f64, std::sync::atomic::AtomicU64>>::default();
    let gauges = family::Family::<Labels, Gauge<f64, std::sync::atomic::AtomicU64>>::default();
    let bounds = [0.005, 1.0, 2.5];
    let make: fn() -> Histogram = || Histogram::new([0.005, 1.0, 2.5]);
    let histograms = family::Family::<Labels, Histogram, _>::new_with_constructor(make);
    let mut registry = Registry::default();
    registry.register("orders", "Orders", counters.clone()); // it appends `_total` and a full stop
    registry.register("level", "Level", gauges.clone());
    registry.register("took", "Took", histograms.clone());

    let amounts = [0.5, 3.0, 1e21, 12.25];
    let mut numbers = Vec::new();
    for (value, amount) in values.iter().zip(amounts) {
        counters.get_or_create(&labels(value)).inc_by(amount);
        numbers.push([amount, 0.0]);
    }
    for (value, amount) in values.iter().zip(amounts) {
        gauges.get_or_create(&labels(value)).set(-amount);
        numbers.push([-amount, 1.0]);
    }
    for (value, amount) in values.iter().zip(amounts) {
        histograms.get_or_create(&labels(value)).observe(amount);
        let own = bounds.iter().position(|bound| amount <= *bound).unwrap_or(bounds.len());
        let bucket = |i| if i == own { [1.0, amount] } else { [0.0, 0.0] };
        numbers.extend((0..=bounds.len()).map(bucket));
    }
    let series = || {
        values.map(|value| CatalogSeries {
            extra_label: None,
            label_values: vec![value.into()],
            created_seconds: 0.0,
        })
    };
    let family = |name: &str, help: &str, metric_type, buckets: &[f64]| CatalogFamily {
        name: name.into(),
        help: help.into(),
        unit: String::new(),
        metric_type,
        label_names: vec!["k".into()],
        buckets: buckets.into(),
        native: None,
        info: false,
        series: series().into(),
    };
    let families = vec![
        family("orders_total", "Orders.", MetricType::Counter, &[]),
        family("level", "Level.", MetricType::Gauge, &[]),
        family("took", "Took.", MetricType::Histogram, &bounds),
    ];
    let catalog = Catalog { version: 1, families };
    let snapshot = Snapshot {
        catalog: catalog.into(),
        numbers,
        per_worker: vec![],
        exemplars: vec![],
        natives: vec![],
        peeked: false,
    };
    let ours = render(&snapshot, Choice::negotiate("application/openmetrics-text", ""));
    let mut theirs = String::new();
    encode(&mut theirs, &registry).unwrap();

    assert_eq!(in_no_order(&ours), in_no_order(theirs.as_bytes()), "{theirs}");
}

/// A page's families and samples, sorted, and each sample's labels: theirs puts `le` first.
fn in_no_order(page: &[u8]) -> Vec<String> {
    let families = strict::read(page, Dialect::OpenMetrics).unwrap_or_else(|e| panic!("{e}"));
    let mut lines = Vec::new();
    for family in families {
        lines.push(format!("{} {} {:?}", family.name, family.type_word, family.help));
        for mut sample in family.samples {
            sample.labels.sort();
            lines.push(format!("{} {:?} {}", sample.name, sample.labels, sample.value));
        }
    }
    lines.sort();
    lines
}

/// prometheus_client's parser takes an escaped quote in an exemplar for its end.
fn without_quotes_in_exemplars(mut snapshot: Snapshot) -> Snapshot {
    for (name, value) in snapshot.exemplars.iter_mut().flat_map(|e| &mut e.exemplar.labels) {
        *name = name.replace('"', "'");
        *value = value.replace('"', "'");
    }
    snapshot
}

/// Pages that `ci/test.d/oracles` shows to other parsers, each beside what it holds.
#[test]
fn pages_for_other_parsers_are_written() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    for seed in 0..150 {
        let snapshot = without_quotes_in_exemplars(odd::snapshot(seed));
        for (choice, dialect) in choices() {
            let page = render(&snapshot, choice);
            let word = match choice.format {
                Format::OpenMetrics => "openmetrics",
                Format::TextUtf8 => "text-1.0.0",
                _ => "text-0.0.4",
            };
            let name = format!("{seed:03}.{}.{word}", choice.escaping.as_str());
            std::fs::write(folder.join(&name), &page).unwrap();
            let held = held(&strict::read(&page, dialect).unwrap());
            std::fs::write(folder.join(name + ".json"), held).unwrap();
        }
    }
    std::fs::write(folder.join("names.json"), names_by_scheme()).unwrap();
}

/// JSON by hand: `[[scheme, "metric" or "label", raw, escaped], …]`.
fn names_by_scheme() -> String {
    let row = |escaping: Escaping, kind, raw: &str, escaped: String| {
        [escaping.as_str(), kind, raw, &escaped].map(json).join(",")
    };
    let of = |scheme: Escaping| {
        let metrics =
            odd::NAMES.iter().map(|raw| row(scheme, "metric", raw, scheme.metric_name(raw)));
        let labels =
            odd::LABELS.iter().map(|raw| row(scheme, "label", raw, scheme.label_name(raw)));
        metrics.chain(labels).collect::<Vec<_>>()
    };
    let rows = Escaping::ALL.into_iter().flat_map(of).map(|row| format!("[{row}]"));
    format!("[{}]\n", rows.collect::<Vec<_>>().join(",\n"))
}

fn json(text: &str) -> String {
    let escape = |c: char| match c {
        '"' => "\\\"".to_string(),
        '\\' => "\\\\".to_string(),
        c if c.is_control() || !c.is_ascii() => {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
        }
        c => c.to_string(),
    };
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}

/// JSON by hand: `[[name, [[label, value], …], "bits of the value", exemplar], …]`, where an exemplar is
/// `[[[label, value], …], value, time]` or `null`.
fn held(families: &[Family]) -> String {
    let samples = families.iter().flat_map(|family| &family.samples).map(|sample| {
        let pairs = |labels: &[(String, String)]| {
            let pair = |(n, v): &(String, String)| format!("[{},{}]", json(n), json(v));
            labels.iter().map(pair).collect::<Vec<_>>().join(",")
        };
        let exemplar = sample.exemplar.as_ref().map_or("null".to_string(), |e| {
            format!("[[{}],{:?},{:?}]", pairs(&e.labels), e.value, e.timestamp)
        });
        let bits = sample.value.to_bits();
        format!("[{},[{}],\"{bits:016x}\",{exemplar}]", json(&sample.name), pairs(&sample.labels))
    });
    format!("[{}]\n", samples.collect::<Vec<_>>().join(",\n"))
}

// ---------------------------------------------------------------------------------------------
// Compression

/// Inflates a gzip member with a library that we do not compress with, and checks its trailer.
fn inflate(member: &[u8]) -> Vec<u8> {
    assert_eq!(member[..4], [0x1f, 0x8b, 8, 0], "magic, deflate, no flags");
    let (body, trailer) = member[10..].split_at(member.len() - 18);
    let page = miniz_oxide::inflate::decompress_to_vec(body).expect("deflate");
    let mut checksum = flate2::Crc::new();
    checksum.update(&page);
    let word = |at: usize| u32::from_le_bytes(trailer[at..at + 4].try_into().unwrap());
    assert_eq!((word(0), word(4)), (checksum.sum(), page.len() as u32));
    page
}

/// Other numbers on the same page: the shape stays, widths and distances do not.
fn stir(snapshot: &mut Snapshot, random: &mut odd::Random) {
    let families = &snapshot.catalog.families;
    let types = families.iter().flat_map(|family| {
        vec![family.metric_type; family.series.len() * (family.buckets.len() + 1)]
    });
    for (pair, metric_type) in snapshot.numbers.iter_mut().zip(types) {
        let value = match random.below(4) {
            0 => 0.0,
            1 => random.below(1 << 30) as f64,
            2 => f64::from_bits(random.next() >> 2), // up to 24 characters
            _ => random.below(10) as f64 / 7.0,
        };
        match metric_type {
            MetricType::Counter => pair[0] = value,
            MetricType::Gauge => pair[0] = -value,
            _ => *pair = [random.below(1_000_000) as f64, random.below(1_000) as f64 / 3.0],
        }
    }
    snapshot.per_worker.iter_mut().for_each(|sample| sample.value = random.below(99) as f64);
}

#[test]
fn compressed_pages_inflate_to_the_page() {
    let mut random = odd::Random::new(1);
    let all = choices().into_iter().map(|(choice, _)| choice).chain([protobuf(Escaping::Values)]);
    for (seed, plain) in (0..300).flat_map(|seed| all.clone().map(move |plain| (seed, plain))) {
        let mut snapshot = odd::snapshot(seed);
        let zipped = Choice { gzip: true, ..plain };
        let (mut renderer, mut member, mut page) = (Renderer::new(), Vec::new(), Vec::new());
        // By the library, by the template as it is made, by the template as it is kept.
        for round in 0..4 {
            renderer.render(&snapshot, zipped, &mut member);
            renderer.render(&snapshot, plain, &mut page);
            assert!(inflate(&member) == page, "snapshot {seed}, {plain:?}, round {round}");
            stir(&mut snapshot, &mut random);
        }
    }
}

#[test]
fn large_pages_inflate_to_the_page() {
    // Beyond the window, and lines beyond the longest copy.
    let mut random = odd::Random::new(2);
    for label_bytes in [1, 40, 700, 40_000] {
        let mut families = vec![
            one_family(MetricType::Counter, "a_total", ""),
            one_family(MetricType::Histogram, "b", ""),
        ];
        for family in &mut families {
            let n = 200_000 / (label_bytes + 40);
            let values = |i: usize| vec![format!("{}{i}", "é/".repeat(label_bytes / 3))];
            let series = |i| CatalogSeries {
                extra_label: None,
                label_values: values(i),
                created_seconds: 1.5,
            };
            family.series = (0..n.max(3)).map(series).collect();
        }
        let mut snapshot = one_snapshot(families);
        for accept in ["", "application/openmetrics-text"] {
            let plain = Choice::negotiate(accept, "");
            let zipped = Choice { gzip: true, ..plain };
            let (mut renderer, mut member, mut page) = (Renderer::new(), Vec::new(), Vec::new());
            for _ in 0..5 {
                renderer.render(&snapshot, zipped, &mut member);
                renderer.render(&snapshot, plain, &mut page);
                assert!(inflate(&member) == page, "{label_bytes} {accept}");
                stir(&mut snapshot, &mut random);
            }
            assert!(member.len() * 3 < page.len() || label_bytes == 1);
        }
    }
}
