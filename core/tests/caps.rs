//! Label sets beyond the caps share one visible overflow series: the sum over the family stays exact, in every process.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;

use std::sync::atomic::Ordering::SeqCst;

use forks::{crowd, eventually, fork, Child, Ledger, Scratch};
use metrics::{counter, page, sample, sum};
use promring::client;
use promring::config::{Config, Listen};

const WORKERS: usize = 6;
const LABELS: usize = 400;

#[test]
fn the_sum_over_a_family_is_exact_beyond_its_cap() {
    let scratch = Scratch::new("caps");
    client::detach_for_tests();
    client::configure(Config {
        segment: Some(scratch.path().join("segment")),
        listen: Listen::Off,
        max_series: 150,
        max_series_per_family: 100,
        ..Config::default()
    });
    client::attach();
    let work = || {
        for family in ["visits_total", "jobs_total"] {
            let family = counter(family, "path");
            for i in 0..LABELS {
                assert!(family.series(&[&format!("/{i}")]).unwrap().inc(1.0));
            }
            assert!(family.series(&[&"x".repeat(1 << 20)]).unwrap().inc(1.0)); // 1 MB
        }
    };
    let workers: Vec<Child> = (0..WORKERS).map(|_| fork(work)).collect();
    workers.into_iter().for_each(|worker| assert!(worker.join()));

    let page = page();
    for family in ["visits_total", "jobs_total"] {
        assert_eq!(sum(&page, family), (WORKERS * (LABELS + 1)) as f64, "{family}");
        let overflow = format!("{family}{{promring_overflow=\"true\"}}");
        assert!(sample(&page, &overflow).unwrap() > 0.0);
        let named = format!("promring_family_overflowed_total{{family=\"{family}\"}}");
        assert!(sample(&page, &named).unwrap() > 0.0, "{named}");
    }
    let shown = page.lines().filter(|line| line.starts_with("visits_total{path=")).count();
    assert!((95..=100).contains(&shown), "{shown} series of visits_total");
    let lost = "promring_overflowed_label_sets_total{reason=\"value_too_long\"}";
    assert_eq!(sample(&page, lost), Some(2.0 * WORKERS as f64));
    which_worker_overflowed();
}

/// The workers that have met a cap, by pid, and how often; those that have not are not shown.
fn which_worker_overflowed() {
    let count = || assert!(counter("jobs_total", "path").series(&["/0"]).unwrap().inc(1.0));
    let _crowd = crowd(count);
    let ready = Ledger::new(2);
    let look_up = |n: usize, word: usize| {
        let family = counter("visits_total", "path");
        (0..n).for_each(|i| assert!(family.series(&[&format!("/beyond/{i}")]).unwrap().inc(1.0)));
        count();
        ready.at(word).store(1, SeqCst);
        std::thread::park(); // killed here
    };
    let (meets_it, does_not) = (fork(|| look_up(3, 0)), fork(|| look_up(0, 1)));
    eventually("two workers", || (ready.sum(0, 2) == 2).then_some(()));
    let lookups = |page: &str, pid| {
        sample(page, &format!("promring_worker_overflowed_lookups{{pid=\"{pid}\"}}"))
    };
    let shown = page();
    assert_eq!(lookups(&shown, meets_it.pid()), Some(3.0));
    assert_eq!(lookups(&shown, does_not.pid()), None);
    assert_eq!(lookups(&shown, std::process::id() as i32), None);

    // Its place's next owner begins at zero: one of so many, which take every place that is free or becomes so.
    let pid = meets_it.pid();
    meets_it.kill();
    let successors: Vec<Child> = (0..12).map(|_| fork(|| look_up(1, 0))).collect();
    for next in &successors {
        eventually("a successor that begins at zero", || {
            (lookups(&page(), next.pid()) == Some(1.0)).then_some(())
        });
    }
    assert_eq!(lookups(&page(), pid), None);
}
