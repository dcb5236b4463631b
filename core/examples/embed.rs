//! A Rust program with a registry of its own, in which the counts of all its processes stand: prints the page.
//!
//! `cargo run -p promring --features prometheus-client --example embed`

use std::env;
use std::error::Error;
use std::process::Command;

use prometheus_client::encoding::text;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use promring::client::{self, Family, FamilySpec, GaugeMode, MetricType};
use promring::collector::Collector;

const WORKERS: u32 = 3;

fn family(
    name: &str,
    help: &str,
    metric_type: MetricType,
) -> Result<&'static Family, promring::error::Error> {
    let buckets = match metric_type {
        MetricType::Histogram => vec![0.1, 1.0],
        _ => Vec::new(),
    };
    client::family(&FamilySpec {
        name: name.into(),
        help: help.into(),
        unit: String::new(),
        metric_type,
        gauge_mode: GaugeMode::All,
        label_names: vec!["queue".into()],
        buckets,
        native: None,
    })
}

/// What each process of the app counts.
fn work() -> Result<(), promring::error::Error> {
    let jobs = family("jobs_total", "Jobs done.", MetricType::Counter)?.series(&["mail"])?;
    let took =
        family("job_seconds", "How long they took.", MetricType::Histogram)?.series(&["mail"])?;
    for _ in 0..100 {
        jobs.inc(1.0);
        took.observe(0.25);
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    if env::args().nth(1).as_deref() == Some("worker") {
        return Ok(work()?);
    }
    client::attach(); // the segment lasts from here to the end of the app's last process
    let start = |_| Command::new(env::current_exe()?).arg("worker").spawn();
    let workers = (0..WORKERS).map(start).collect::<Result<Vec<_>, std::io::Error>>()?;
    for mut worker in workers {
        worker.wait()?;
    }
    work()?;

    let mut registry = Registry::default();
    let started: Gauge = Gauge::default();
    registry.register("workers_started", "Workers of this run", started.clone());
    registry.register_collector(Box::new(Collector::new()));
    started.set(WORKERS.into());
    let mut page = String::new();
    text::encode(&mut page, &registry)?;
    print!("{page}");
    Ok(())
}
