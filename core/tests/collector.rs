//! promring's families through a registry of the crate prometheus-client: the samples of our own page, whatever is registered.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;
#[path = "support/odd.rs"]
mod odd;
#[path = "support/strict.rs"]
mod strict;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::process::Command;
use std::sync::{Arc, Mutex};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{text, DescriptorEncoder};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use promring::client::{self, FamilySpec, MetricType, Native};
use promring::exposition::{self, Choice, Escaping, Format, Renderer};
use promring::snapshot::{Catalog, CatalogFamily, Snapshot};
use strict::Dialect;

/// One attachment per process: tests that have one take turns.
static ATTACHED: Mutex<()> = Mutex::new(());

/// Hands a snapshot of the test's to the crate.
#[derive(Debug)]
struct Fixed(Snapshot);

impl Collector for Fixed {
    fn encode(&self, encoder: DescriptorEncoder) -> std::fmt::Result {
        exposition::encode_into_registry(&self.0, encoder)
    }
}

/// The page of a registry with that collector alone. The crate writes infinities as Rust does.
fn page_of(collector: impl Collector) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(collector));
    let mut page = String::new();
    text::encode(&mut page, &registry).expect("a page");
    page.replace(" inf\n", " +Inf\n").replace(" -inf\n", " -Inf\n")
}

/// Name, labels in no order, bounds by their value.
type Key = (String, Vec<(String, String)>);
/// Value, and exemplar in words.
type Value = (u64, Option<String>);

fn samples(page: &[u8]) -> Result<BTreeMap<Key, Value>, String> {
    let mut all = BTreeMap::new();
    for family in strict::read(page, Dialect::OpenMetrics)? {
        for mut sample in family.samples {
            for (name, value) in &mut sample.labels {
                if name == "le" && family.type_word == "histogram" {
                    *value = value.replace("+Inf", "inf").parse::<f64>().unwrap().to_string();
                }
            }
            if sample.name.strip_prefix(&family.name) == Some("_created") {
                continue; // the crate has no place for it
            }
            sample.labels.sort();
            let exemplar = sample.exemplar.map(|e| {
                let ms = (e.timestamp * 1e3).round(); // theirs is a Duration of nanoseconds
                format!("{:?} {:?} {ms}", e.labels, e.value)
            });
            let value = if sample.value.is_nan() { f64::NAN } else { sample.value };
            all.insert((sample.name, sample.labels), (value.to_bits(), exemplar));
        }
    }
    Ok(all)
}

/// The registry's page has every sample of ours – creation times and buckets' exemplars apart – and no other.
fn compare(ours: &[u8], theirs: &str, summaries: &[String]) -> Result<(), String> {
    compare_heads(ours, theirs, summaries)?;
    let mut ours = samples(ours)?;
    let mut theirs = samples(theirs.as_bytes())?;
    ours.iter_mut()
        .filter(|((name, _), _)| name.ends_with("_bucket"))
        .for_each(|(_, v)| v.1 = None);
    // A summary's count goes out as a gauge, exact; our OpenMetrics has it whole.
    for ((name, _), (bits, _)) in &mut theirs {
        if name.strip_suffix("_count").is_some_and(|name| summaries.iter().any(|s| s == name)) {
            *bits = f64::from_bits(*bits).round().to_bits();
        }
    }
    let first = |a: &BTreeMap<Key, Value>, b: &BTreeMap<Key, Value>| {
        a.iter().find(|(key, value)| b.get(*key) != Some(value)).map(|found| format!("{found:?}"))
    };
    match (first(&ours, &theirs), first(&theirs, &ours)) {
        (None, None) => Ok(()),
        (missing, more) => Err(format!("missing {missing:?}, more {more:?}")),
    }
}

/// Help, unit and type, where the crate has the type.
fn compare_heads(ours: &[u8], theirs: &str, summaries: &[String]) -> Result<(), String> {
    let theirs = strict::read(theirs.as_bytes(), Dialect::OpenMetrics)?;
    for mut family in strict::read(ours, Dialect::OpenMetrics)? {
        if summaries.contains(&family.name) {
            continue;
        }
        let found = theirs.iter().find(|found| found.name == family.name);
        let found = found.ok_or_else(|| format!("no family {}", family.name))?;
        if family.type_word == "unknown" {
            family.type_word = "gauge".into();
        }
        let head = |f: &strict::Family| {
            (f.type_word.clone(), f.help.clone().unwrap_or_default(), f.unit.clone())
        };
        if head(&family) != head(found) {
            return Err(format!("{}: {:?}, wanted {:?}", family.name, head(found), head(&family)));
        }
    }
    Ok(())
}

/// What the crate can write, or rather what its page may say: sums below zero are left out by us alone.
fn has_negative_sums(snapshot: &Snapshot) -> bool {
    let mut numbers = snapshot.numbers.iter();
    snapshot.catalog.families.iter().any(|family| {
        let n = family.series.len() * (family.buckets.len() + 1);
        let mine: Vec<_> = numbers.by_ref().take(n).collect();
        let summed = matches!(family.metric_type, MetricType::Histogram | MetricType::Summary);
        let of_series = mine.chunks(family.buckets.len() + 1);
        let summary = family.metric_type == MetricType::Summary;
        let negative = |series: &[&[f64; 2]]| {
            let n = if summary { 1 } else { series.len() };
            series[..n].iter().map(|[_, sum]| sum).sum::<f64>() < 0.0
        };
        let below = family.buckets.first().is_some_and(|first| *first < 0.0);
        below || summed && of_series.into_iter().any(negative)
    })
}

fn summaries(families: &[CatalogFamily]) -> Vec<String> {
    let summaries = families.iter().filter(|f| f.metric_type == MetricType::Summary);
    summaries.map(|f| Escaping::Underscores.metric_name(&f.name)).collect()
}

const OPEN_METRICS: Choice =
    Choice { format: Format::OpenMetrics, escaping: Escaping::Underscores, gzip: false };

#[test]
fn whatever_is_registered_comes_through_the_registry() {
    let mut compared = 0;
    for seed in 0..3_000 {
        let snapshot = odd::snapshot(seed);
        let catalog = Arc::clone(&snapshot.catalog);
        if has_negative_sums(&snapshot) || !names_are_as_given(&catalog) {
            continue;
        }
        let mut ours = Vec::new();
        Renderer::new().render(&snapshot, OPEN_METRICS, &mut ours);
        let theirs = page_of(Fixed(snapshot));
        if let Err(error) = compare(&ours, &theirs, &summaries(&catalog.families)) {
            panic!("snapshot {seed}: {error}\n{theirs}\nours:\n{}", String::from_utf8_lossy(&ours));
        }
        compared += 1;
    }
    assert!(compared > 500, "only {compared} snapshots were compared");
}

/// A summary that had to take another name is not known to the test by it.
fn names_are_as_given(catalog: &Catalog) -> bool {
    let mut all = Vec::new();
    for family in &catalog.families {
        let name = Escaping::Underscores.metric_name(&family.name);
        all.extend(
            ["", "_sum", "_count", "_bucket", "_created"].map(|suffix| format!("{name}{suffix}")),
        );
    }
    let n = all.len();
    all.sort();
    all.dedup();
    n == all.len()
}

#[test]
fn the_registry_has_what_all_processes_count_beside_its_own_metrics() {
    let _turn = ATTACHED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let scratch = forks::Scratch::new("collector");
    scratch.configure();
    let counter = metrics::counter("jobs_total", "queue").series(&["a \"quoted\" \\ and\nmore"]);
    let counter = counter.expect("a series");
    let spec = metrics::spec("took_seconds", MetricType::Histogram, "");
    let native = FamilySpec { unit: "seconds".into(), native: Some(Native::new(3)), ..spec };
    let took = client::family(&native).expect("a histogram").series(&[]).expect("a series");
    client::family(&metrics::spec("visits", MetricType::Counter, ""))
        .unwrap()
        .series(&[])
        .unwrap()
        .inc(7.0);
    let workers: Vec<_> = (0..3)
        .map(|_| {
            forks::fork(|| {
                (0..1000).for_each(|_| assert!(counter.inc(1.0)));
                took.observe(0.5);
            })
        })
        .collect();
    assert!(workers.into_iter().all(forks::Child::join));
    counter.inc_with_exemplar(0.25, &[("trace_id", "abc")], None).expect("an exemplar");

    let mut registry = Registry::with_prefix("shop");
    let own: Gauge = Gauge::default();
    registry.register("threads", "Threads", own.clone());
    registry.register_collector(Box::new(promring::collector::Collector::new()));
    own.set(4);
    let mut page = String::new();
    text::encode(&mut page, &registry).expect("a page");
    let read = samples(page.as_bytes()).expect("a page of OpenMetrics");
    let value = |name: &str| {
        let found: Vec<_> = read.iter().filter(|((found, _), _)| found == name).collect();
        assert_eq!(found.len(), 1, "{name} in {page}");
        f64::from_bits(found[0].1 .0)
    };
    assert_eq!(value("shop_threads"), 4.0);
    assert_eq!(value("shop_jobs_total"), 3000.25);
    assert_eq!(value("shop_took_seconds_count"), 3.0);
    assert_eq!(value("shop_took_seconds_sum"), 1.5);
    assert_eq!(value("shop_visits"), 7.0, "a counter's name is not changed");
    let (labels, exemplar) = read
        .iter()
        .find_map(|((name, labels), (_, e))| (name == "shop_jobs_total").then_some((labels, e)))
        .unwrap();
    assert_eq!(labels[0].1, "a \"quoted\" \\ and\nmore");
    assert!(
        exemplar.as_ref().is_some_and(|e| e.contains("abc") && e.contains("0.25")),
        "{exemplar:?}"
    );
    assert!(page.contains("# UNIT shop_took_seconds seconds\n"), "{page}");
    assert!(value("shop_promring_scrapes_total") >= 0.0, "promring's own metrics are there, too");
}

#[test]
fn the_example_shows_the_counts_of_all_its_processes() {
    let _turn = ATTACHED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let scratch = forks::Scratch::new("embed");
    let here = std::env::current_exe().expect("a path");
    let example = here.parent().and_then(|deps| deps.parent()).unwrap().join("examples/embed");
    assert!(example.exists(), "`cargo build --example embed` with this profile and feature first");
    let run = Command::new(example)
        .env("PROMRING_SEGMENT", scratch.path().join("segment"))
        .output()
        .expect("the example runs");
    let page = String::from_utf8(run.stdout).expect("UTF-8");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let families = strict::read(page.as_bytes(), Dialect::OpenMetrics).expect("a page");
    let value = |name: &str| {
        let samples = families.iter().flat_map(|family| &family.samples);
        samples.filter(|sample| sample.name == name).map(|sample| sample.value).sum::<f64>()
    };
    assert_eq!(value("workers_started"), 3.0);
    assert_eq!(value("jobs_total"), 400.0, "{page}");
    assert_eq!((value("job_seconds_count"), value("job_seconds_sum")), (400.0, 100.0));
}

/// The type is what its documentation says: to be shared and put into a registry anywhere.
#[test]
fn a_collector_is_free_to_make_and_to_share() {
    fn shared<T: Collector + Clone + Debug>(_: &T) {}
    let collector = promring::collector::Collector::new();
    shared(&collector);
    assert_eq!(std::mem::size_of_val(&collector), 0);
}
