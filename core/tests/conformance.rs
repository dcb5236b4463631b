//! What is on a page, in every format, against readers of our own and of others.

#[path = "support/odd.rs"]
mod odd;
#[path = "support/strict.rs"]
mod strict;

use std::collections::HashSet;

use promring::exposition::{Choice, Escaping, Format, Renderer};
use promring::snapshot::{CatalogFamily, CatalogSeries, MetricType, Snapshot};
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
            let summed = family.buckets[0] >= 0.0 && (!open_metrics || sum >= 0.0);
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
        _ => name.strip_prefix(&family.name).unwrap_or("another family's").to_string(),
    };
    let samples = family.samples.iter().map(|sample| {
        let value_of = |(name, value): &(String, String)| match name.as_str() {
            "le" if metric_type == MetricType::Histogram => {
                format!("le {}", value.replace("+Inf", "inf").parse::<f64>().unwrap())
            }
            _ => value.clone(),
        };
        (of_family(&sample.name), sample.labels.iter().map(value_of).collect(), sample.value)
    });
    samples.filter(|(suffix, _, _)| suffix != "_created").collect()
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
        let word = registered.metric_type.as_str();
        let unknown = open_metrics && word == "counter" && read.type_word == "unknown";
        let help = read.help.as_deref().unwrap_or("");
        if help != registered.help || (read.type_word != word && !unknown) {
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

#[test]
fn what_is_kept_makes_no_difference() {
    let mut renderer = Renderer::new();
    for seed in 0..500 {
        let mut snapshot = odd::snapshot(seed % 50);
        if seed % 3 == 0 {
            // The same catalog with other gauges set and other workers.
            snapshot.numbers.iter_mut().for_each(|pair| pair[1] = 1.0 - pair[1].clamp(0.0, 1.0));
            snapshot.per_worker.truncate(1);
        }
        for (choice, _) in choices() {
            let mut page = Vec::new();
            renderer.render(&snapshot, choice, &mut page);
            let fresh = render(&snapshot, choice);
            assert!(page == fresh, "snapshot {seed}, {choice:?}");
        }
    }
}
