//! Rust's ways of counting in one process, for ci/compare: compare WAY TASK NUMBER...; the tasks are those of ways.py.

use std::time::Instant;

use metrics_exporter_prometheus::PrometheusBuilder;
use prometheus::{Encoder, IntCounterVec, Opts, TextEncoder};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use promring::client::{self, FamilySpec, GaugeMode, MetricType};

const PER_FAMILY: usize = 100;

/// Counts in the family of that number, under two labels.
type Count = Box<dyn Fn(usize, &str, &str) + Sync>;
type Expose = Box<dyn Fn() -> Vec<u8>>;

fn promring(families: usize) -> (Count, Expose) {
    let spec = |n| FamilySpec {
        name: format!("scrape_{n}_total"),
        help: "d".into(),
        unit: String::new(),
        metric_type: MetricType::Counter,
        gauge_mode: GaugeMode::All,
        label_names: vec!["a".into(), "b".into()],
        buckets: Vec::new(),
        native: None,
    };
    let all: Vec<_> = (0..families).map(|n| client::family(&spec(n)).expect("a family")).collect();
    let count = move |n: usize, a: &str, b: &str| {
        all[n].series(&[a, b]).expect("a series").inc(1.0);
    };
    (Box::new(count), Box::new(|| promring::aggregator::scrape("").body))
}

fn prometheus(families: usize) -> (Count, Expose) {
    let make = |n| {
        let counter = IntCounterVec::new(Opts::new(format!("scrape_{n}_total"), "d"), &["a", "b"]);
        let counter = counter.expect("a counter");
        prometheus::register(Box::new(counter.clone())).expect("a new name");
        counter
    };
    let all: Vec<_> = (0..families).map(make).collect();
    let expose = || {
        let mut page = Vec::new();
        TextEncoder::new().encode(&prometheus::gather(), &mut page).expect("memory");
        page
    };
    (Box::new(move |n, a, b| all[n].with_label_values(&[a, b]).inc()), Box::new(expose))
}

fn prometheus_client(families: usize) -> (Count, Expose) {
    type Labels = Vec<(String, String)>;
    let mut registry = Registry::default();
    let mut make = |n| {
        let family = Family::<Labels, Counter>::default();
        registry.register(format!("scrape_{n}"), "d", family.clone());
        family
    };
    let all: Vec<_> = (0..families).map(&mut make).collect();
    let count = move |n: usize, a: &str, b: &str| {
        all[n].get_or_create(&vec![("a".into(), a.into()), ("b".into(), b.into())]).inc();
    };
    let expose = move || {
        let mut page = String::new();
        encode(&mut page, &registry).expect("memory");
        page.into_bytes()
    };
    (Box::new(count), Box::new(expose))
}

fn metrics(families: usize) -> (Count, Expose) {
    let recorder = PrometheusBuilder::new().install_recorder().expect("the only recorder");
    let names: Vec<&'static str> =
        (0..families).map(|n| &*Box::leak(format!("scrape_{n}_total").into_boxed_str())).collect();
    let count = move |n: usize, a: &str, b: &str| {
        metrics::counter!(names[n], "a" => a.to_string(), "b" => b.to_string()).increment(1);
    };
    (Box::new(count), Box::new(move || recorder.render().into_bytes()))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Seconds of processor time of this process, of the scheduler's own account.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").expect("/proc");
    stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).expect("a number") / 1e9
}

fn calls(count: &Count, n: usize) -> String {
    let round = || {
        let started = Instant::now();
        (0..n).for_each(|_| count(0, "GET", "/orders"));
        started.elapsed().as_secs_f64() / n as f64 * 1e9
    };
    round();
    format!("{{\"ns\": {}}}", median((0..5).map(|_| round()).collect()))
}

fn events(count: &Count, expose: &Expose, n: usize) -> String {
    (0..n).for_each(|i| count(0, "GET", &format!("/{}", i % 100)));
    let page = String::from_utf8(expose()).expect("UTF-8");
    let of_line = |line: &str| line.rsplit(' ').next().and_then(|n| n.parse::<f64>().ok());
    let lines = page.lines().filter(|line| line.starts_with("scrape_0_total{"));
    format!("{{\"counted\": {}, \"cpu\": {}}}", lines.filter_map(of_line).sum::<f64>(), cpu())
}

fn scrape(count: &Count, expose: &Expose, families: usize) -> String {
    for family in 0..families {
        for i in 0..PER_FAMILY {
            count(family, &format!("value-{}", i % 10), &format!("value-{}", i / 10));
        }
    }
    let mut page = Vec::new();
    let mut times = Vec::new();
    for _ in 0..5 {
        let started = Instant::now();
        page = expose();
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    format!("{{\"ms\": {}, \"page\": {}, \"files\": 0, \"memory\": 0}}", median(times), page.len())
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize| arguments.get(i).and_then(|n| n.parse().ok()).unwrap_or(0_usize);
    let task = arguments.get(1).map_or("", String::as_str);
    let families = if task == "scrape" { number(3) / PER_FAMILY } else { 1 };
    let (count, expose) = match arguments.first().map(String::as_str) {
        Some("promring") => promring(families),
        Some("prometheus") => prometheus(families),
        Some("prometheus-client") => prometheus_client(families),
        Some("metrics") => metrics(families),
        _ => panic!("compare promring|prometheus|prometheus-client|metrics TASK NUMBER..."),
    };
    println!(
        "{}",
        match task {
            "calls" => calls(&count, number(2)),
            "events" => events(&count, &expose, number(3)),
            "scrape" => scrape(&count, &expose, families),
            other => panic!("no task {other}"),
        }
    );
}
