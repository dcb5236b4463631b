//! A process that plays several workers of its app: each has gauges of its own, and can end by itself.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;

use forks::{fork, Scratch};
use metrics::{counter, gauge, page, sample};
use promring::client::{as_worker, end_worker, GaugeMode, Value};

fn set(number: u64, mode: &str, value: f64) {
    let series = gauge(GaugeMode::parse(mode).unwrap()).series(&[]).unwrap();
    as_worker(number, || assert!(series.set(value)));
}

fn shown(name: &str) -> Option<f64> {
    sample(&page(), name)
}

#[test]
fn each_worker_that_a_process_plays_counts_dies_and_comes_again_by_itself() {
    let scratch = Scratch::new("several-workers");
    scratch.configure();
    let visits = counter("visits_total", "").series(&[]).unwrap();
    visits.inc(1.0); // as the process itself
    for (number, value) in [(123, 1.0), (456, 2.0)] {
        as_worker(number, || assert!(visits.inc(10.0)));
        for mode in ["all", "sum", "livesum", "livemin"] {
            set(number, mode, value);
        }
    }
    assert_eq!(shown("visits_total"), Some(21.0));
    for worker in ["123\"} 1", "456\"} 2"] {
        assert!(page().contains(&format!("level_all{{pid=\"{worker}\n")), "{}", page());
    }
    assert_eq!((shown("level_sum"), shown("level_livesum")), (Some(3.0), Some(3.0)));
    assert_eq!(shown("promring_workers"), Some(3.0));

    // Each of them knows that the others live, the process itself included.
    let livemax = gauge(GaugeMode::LiveMax).series(&[]).unwrap();
    livemax.set(9.0);
    assert_eq!(as_worker(123, || livemax.get()), Value::Number(9.0));

    // A fork plays none of its parent's, and the end of it takes none away.
    assert!(fork(|| {
        assert!(!end_worker(456));
        as_worker(456, || assert!(counter("visits_total", "").series(&[]).unwrap().inc(5.0)));
        set(456, "sum", 4.0);
        assert_eq!(shown("level_sum"), Some(7.0));
    })
    .join());
    assert_eq!(shown("level_livemin"), Some(1.0));

    assert!(end_worker(123) && !end_worker(123) && !end_worker(7));
    assert_eq!((shown("level_sum"), shown("level_livesum")), (Some(7.0), Some(2.0)));
    assert_eq!(shown("level_livemin"), Some(2.0));
    assert!(
        page().contains("level_all{pid=\"123\"} 1\n"),
        "a gauge of mode all outlives its worker"
    );
    // Its place is free, for another process, too.
    assert!(fork(|| assert!(counter("visits_total", "").series(&[]).unwrap().inc(1.0))).join());
    assert!(!page().contains("pid=\"123\""), "{}", page());
    as_worker(123, || assert!(visits.inc(1.0)));
    set(123, "livesum", 0.5);
    assert_eq!((shown("visits_total"), shown("level_livesum")), (Some(28.0), Some(2.5)));

    // More than it can play count as its own.
    for number in 1000..1100 {
        as_worker(number, || assert!(visits.inc(1.0)));
    }
    assert_eq!(shown("visits_total"), Some(128.0));
    assert!(shown("promring_workers").is_some_and(|n| n < 70.0), "{:?}", shown("promring_workers"));
}
