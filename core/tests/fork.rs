//! Forks: of a busy process, of a fork, of a daemon that closes all descriptors, of a process that is just scraping.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering::SeqCst;

use forks::{eventually, fork, Child, Ledger, Scratch};
use metrics::{counter, gauge, page, sample};
use promring::client::{self, GaugeMode, Series};

fn hits() -> &'static Series {
    counter("hits_total", "").series(&[]).unwrap()
}

fn count(n: u64) {
    let series = hits();
    (0..n).for_each(|_| assert!(series.inc(1.0)));
}

/// A test of its own process, with a segment that this one stays attached to.
fn with_segment(name: &str, work: impl FnOnce()) {
    let scratch = Scratch::new(name);
    let all = fork(|| {
        scratch.configure();
        client::attach();
        work();
    });
    assert!(all.join(), "{name}");
}

#[test]
fn each_generation_of_forks_has_a_ring_of_its_own() {
    with_segment("fork-of-fork", || {
        count(100);
        let children: Vec<Child> = (0..10)
            .map(|_| {
                fork(|| {
                    count(1_000);
                    let grandchild = fork(|| {
                        count(1_000);
                        assert!(fork(|| count(1_000)).join());
                        count(10);
                    });
                    count(1_000);
                    assert!(grandchild.join());
                })
            })
            .collect();
        count(1_000);
        children.into_iter().for_each(|child| assert!(child.join()));
        assert_eq!(sample(&page(), "hits_total"), Some(1_100.0 + 10.0 * 4_010.0));
    });
}

#[test]
fn a_child_that_never_counts_takes_no_place() {
    with_segment("idle-forks", || {
        count(1);
        for _ in 0..50 {
            assert!(fork(|| {}).join());
        }
        assert_eq!(sample(&page(), "promring_workers_claimed_total"), Some(1.0));
    });
}

#[test]
fn a_fork_amid_a_scrape_of_another_thread_can_scrape() {
    with_segment("fork-amid-scrape", || {
        let family = counter("filler_total", "number");
        for i in 0..3_000 {
            family.series(&[&i.to_string()]).unwrap();
        }
        count(1);
        std::thread::spawn(|| loop {
            page();
        });
        for _ in 0..100 {
            let child = fork(|| {
                // A child that hangs is ended by its alarm, and the test fails.
                // SAFETY: an integer only.
                unsafe { libc::alarm(20) };
                assert_eq!(sample(&page(), "hits_total"), Some(1.0));
            });
            assert!(child.join(), "a child could not scrape");
        }
    });
}

#[test]
fn a_daemon_that_closes_all_descriptors_counts_on_and_harms_no_file() {
    with_segment("closed-descriptors", || {
        count(10);
        let shown = Ledger::new(1);
        let daemon = fork(|| {
            count(10);
            let scratch = std::env::temp_dir().join(format!("promring-own-{}", std::process::id()));
            // SAFETY: closing numbers touches no memory; nothing of the harness runs in this process.
            (3..1_024).for_each(|fd| assert!(unsafe { libc::close(fd) } <= 0));
            // The app's own files now stand under the numbers that were ours.
            let own: Vec<File> = (0..64).map(|_| File::create(&scratch).unwrap()).collect();
            assert!(own.iter().any(|file| file.as_raw_fd() == 3));
            let family = counter("late_total", "number");
            for i in 0..9_000 {
                assert!(family.series(&[&i.to_string()]).unwrap().inc(1.0)); // the segment grows
            }
            count(5_000);
            assert!(fork(|| count(10)).join());
            assert_eq!(own[0].metadata().unwrap().len(), 0, "the app's file was changed");
            std::fs::remove_file(&scratch).unwrap();
            shown.at(0).store(sample(&page(), "hits_total").unwrap() as u64, SeqCst);
        });
        assert!(daemon.join());
        assert_eq!(shown.at(0).load(SeqCst), 5_030);
        let page = page();
        assert_eq!(sample(&page, "hits_total"), Some(5_030.0));
        assert_eq!(metrics::sum(&page, "late_total"), 9_000.0);
        assert_eq!(
            sample(&page, "late_total{promring_overflow=\"true\"}"),
            None,
            "it could not grow"
        );
    });
}

#[test]
fn a_worker_that_closes_all_descriptors_is_seen_to_live() {
    with_segment("seen-running", || {
        let level = || gauge(GaugeMode::LiveSum).series(&[]).unwrap();
        let closed = Ledger::new(1);
        let worker = fork(|| {
            assert!(level().set(3.0));
            // SAFETY: as above.
            (3..1_024).for_each(|fd| assert!(unsafe { libc::close(fd) } <= 0));
            closed.at(0).store(1, SeqCst);
            loop {
                std::thread::park(); // killed below
            }
        });
        eventually("a worker without descriptors", || (closed.sum(0, 1) == 1).then_some(()));
        assert_eq!(sample(&page(), "level_livesum"), Some(3.0));
        worker.kill();
        eventually("its death", || sample(&page(), "level_livesum").is_none().then_some(()));
    });
}

#[test]
fn lives_one_after_another_use_few_places() {
    let scratch = Scratch::new("few-places");
    let all = fork(|| {
        scratch.configure();
        client::attach();
        for life in 1..=100 {
            assert!(fork(|| count(1)).join());
            let places = places();
            assert!(places <= life.min(8), "{places} places after {life} lives");
        }
        assert_eq!(sample(&page(), "hits_total"), Some(100.0));
    });
    assert!(all.join());
}

/// How many places the segment has ever handed out, as core/docs/segment.md says.
fn places() -> u64 {
    let path = client::segment_path().expect("a named segment");
    let segment = File::open(path);
    let mut word = [0; 8];
    segment.unwrap().read_exact_at(&mut word, 72).unwrap();
    u64::from_ne_bytes(word)
}
