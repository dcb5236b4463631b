//! What the app's processes take from the machine, all together: each reports its own part, once in a while.
//!
//! The names are those that Prometheus' client guide gives to one process's metrics, the values those of
//! the fleet: processor time summed over the living and the dead, memory and descriptors over the living.
//! A process reports when it ends a request (`aggregator::tick`), so a scrape asks nobody
//! and its cost does not grow with the workers. What a killed worker used since its last report, two
//! seconds at most, is missing.

use crate::client::{self, Family, FamilySpec, GaugeMode, MetricType};
use crate::os;
use crate::sync::{AtomicU64, Ordering};

/// How often a busy process reports.
const PACE_NS: u64 = 2_000_000_000;

/// This process's last report; a forked child starts with none.
static REPORTED: os::PerProcess<Report> = os::PerProcess::new();

struct Report {
    /// Of the monotonic clock.
    at_ns: AtomicU64,
    /// Processor time counted so far.
    cpu_ns: AtomicU64,
}

/// Reports this process's part if it is due.
pub(crate) fn report() {
    if !client::config().process_metrics {
        return;
    }
    let now = os::monotonic_ns();
    let report = match REPORTED.get() {
        Some(report) if now.wrapping_sub(report.at_ns.load(Ordering::Relaxed)) < PACE_NS => return, // a pace
        Some(report) => report,
        None => {
            // Processor time of a former life of this process (an exec) has been counted then.
            let counted = AtomicU64::new(client::cpu_ns_before_exec());
            let report: &'static Report =
                Box::leak(Box::new(Report { at_ns: AtomicU64::new(now), cpu_ns: counted }));
            REPORTED.set(report);
            report
        }
    };
    report.at_ns.store(now, Ordering::Relaxed); // one thread at a time is in here
    let Some(families) = Families::find() else { return };
    let used = os::cpu_ns();
    let before = report.cpu_ns.swap(used, Ordering::Relaxed); // as above
    add(families.cpu, used.saturating_sub(before) as f64 / 1e9);
    client::note_cpu_ns(used);
    let facts = os::process_facts();
    set(families.resident, facts.resident_bytes);
    set(families.virtual_memory, facts.virtual_bytes);
    set(families.descriptors, facts.open_descriptors);
    set(families.most_descriptors, facts.max_descriptors);
    set(families.start, facts.start_seconds);
}

fn add(family: &'static Family, amount: f64) {
    if let Ok(series) = family.series(&[]) {
        series.inc(amount);
    }
}

fn set(family: &'static Family, value: Option<f64>) {
    if let (Some(value), Ok(series)) = (value, family.series(&[])) {
        series.set(value);
    }
}

struct Families {
    cpu: &'static Family,
    resident: &'static Family,
    virtual_memory: &'static Family,
    descriptors: &'static Family,
    most_descriptors: &'static Family,
    start: &'static Family,
}

impl Families {
    /// None when an app has taken one of the names for something else: then these are its affair.
    fn find() -> Option<Families> {
        let gauge = |name, help, mode| family(name, help, MetricType::Gauge, mode);
        Some(Families {
            cpu: family(
                "process_cpu_seconds_total",
                "User and system processor time of all processes of the app, those that have ended included.",
                MetricType::Counter,
                GaugeMode::All,
            )?,
            resident: gauge(
                "process_resident_memory_bytes",
                "Resident memory of the running processes; memory that they share counts in each.",
                GaugeMode::LiveSum,
            )?,
            virtual_memory: gauge(
                "process_virtual_memory_bytes",
                "Virtual memory of the running processes.",
                GaugeMode::LiveSum,
            )?,
            descriptors: gauge(
                "process_open_fds",
                "File descriptors that the running processes have open.",
                GaugeMode::LiveSum,
            )?,
            most_descriptors: gauge(
                "process_max_fds",
                "File descriptors that one process may have open.",
                GaugeMode::LiveMin,
            )?,
            start: gauge(
                "process_start_time_seconds",
                "Start time of the oldest running process, seconds since the Unix epoch.",
                GaugeMode::LiveMin,
            )?,
        })
    }
}

fn family(
    name: &str,
    help: &str,
    metric_type: MetricType,
    gauge_mode: GaugeMode,
) -> Option<&'static Family> {
    let (name, help) = (name.to_string(), help.to_string());
    let (unit, label_names, buckets) = (String::new(), Vec::new(), Vec::new());
    let spec = FamilySpec {
        name,
        help,
        unit,
        metric_type,
        gauge_mode,
        label_names,
        buckets,
        native: None,
    };
    client::family(&spec).ok()
}
