//! PROMRING_ADOPT_SECONDS: a server that starts soon after the last process ended goes on with the totals, else it starts afresh.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;

use forks::{fork, Scratch};
use metrics::{counter, page, sample};
use promring::client;
use promring::config::{Config, Listen};

/// A whole life of an app: its server attaches, a worker counts, a page is shown, everything ends.
fn life(scratch: &Scratch, adopt_seconds: u64, increments: u64, shown: u64) {
    let server = fork(|| {
        client::detach_for_tests();
        client::configure(Config {
            segment: Some(scratch.path().join("segment")),
            listen: Listen::Off, // nobody but the scraped workers says that it is in use
            adopt_seconds,
            ..Config::default()
        });
        client::attach();
        let worker = fork(|| {
            let series = counter("visits_total", "").series(&[]).unwrap();
            (0..increments).for_each(|_| assert!(series.inc(1.0)));
        });
        assert!(worker.join());
        assert_eq!(sample(&page(), "visits_total"), Some(shown as f64));
        // What nobody has drained when everything ends is not lost either.
        assert!(counter("visits_total", "").series(&[]).unwrap().inc(1.0));
    });
    assert!(server.join());
}

#[test]
fn totals_are_taken_up_again_only_when_asked_for() {
    let scratch = Scratch::new("adoption");
    life(&scratch, 3600, 1_000, 1_000);
    life(&scratch, 3600, 10, 1_011);
    life(&scratch, 3600, 10, 1_022);
    life(&scratch, 0, 5, 5);
    // In use for two seconds, drained just now: an adoption of one second counts from there.
    let long = fork(|| {
        scratch.configure();
        assert!(counter("visits_total", "").series(&[]).unwrap().inc(1.0));
        std::thread::sleep(std::time::Duration::from_millis(2_100));
        assert_eq!(sample(&page(), "visits_total"), Some(1.0));
    });
    assert!(long.join());
    life(&scratch, 2, 10, 11);
}
