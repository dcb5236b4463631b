//! Label sets beyond the caps share one visible overflow series: the sum over the family stays exact, in every process.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;

use forks::{fork, Child, Scratch};
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
}
