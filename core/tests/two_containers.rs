//! A worker in a pid namespace of its own, as in another container: it is not taken for dead, whatever its pid says.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;

use std::sync::atomic::Ordering::SeqCst;

use forks::{eventually, fork, Ledger, Scratch};
use metrics::{counter, gauge, page, sample};
use promring::client::{self, GaugeMode};

const COUNTED: u64 = 1;
const GO_ON: usize = 1;

/// The first process of a pid namespace runs `work`. Its pid there is nobody's, or a stranger's, in any other one.
fn in_a_namespace(work: impl FnOnce()) {
    // SAFETY: integers only; children of this process are in the new namespace, it is not.
    let refused = unsafe { libc::unshare(libc::CLONE_NEWPID) };
    assert_eq!(refused, 0, "unshare: {}", std::io::Error::last_os_error());
    assert!(fork(work).join());
}

#[test]
fn the_living_of_another_container_are_not_reaped() {
    // SAFETY: cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        println!("not run: only root may make a pid namespace");
        return;
    }
    let scratch = Scratch::new("two-containers");
    scratch.configure();
    client::attach();
    let ledger = Ledger::new(2);
    let hits = || counter("hits_total", "").series(&[]).unwrap();
    let level = || gauge(GaugeMode::LiveSum).series(&[]).unwrap();
    assert!(hits().inc(1.0));
    let container = fork(|| {
        in_a_namespace(|| {
            assert!(hits().inc(1.0) && level().set(7.0));
            ledger.at(0).store(COUNTED, SeqCst);
            while ledger.at(GO_ON).load(SeqCst) == 0 {
                std::thread::yield_now();
            }
            assert!(hits().inc(1.0));
        });
    });
    eventually("a count in the container", || (ledger.at(0).load(SeqCst) == COUNTED).then_some(()));
    // Whoever claims a place looks for the dead first, and so does whoever is asked for a page.
    assert!(fork(|| assert!(hits().inc(1.0))).join());
    for _ in 0..3 {
        let page = page();
        assert_eq!(sample(&page, "hits_total"), Some(3.0));
        assert_eq!(sample(&page, "level_livesum"), Some(7.0), "it lives, and so does its gauge");
    }
    ledger.at(GO_ON).store(1, SeqCst);
    assert!(container.join());
    let page = page();
    assert_eq!(sample(&page, "hits_total"), Some(4.0));
    assert_ne!(sample(&page, "level_livesum"), Some(7.0), "it has ended");
}
