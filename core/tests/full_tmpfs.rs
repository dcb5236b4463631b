//! A tmpfs of one megabyte fills up while the app counts: no SIGBUS, nothing lost, every sum exact.
//!
//! The tmpfs is mounted in a mount namespace of a child's own (with a user namespace if not root) and goes with it.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;

use std::ffi::CString;
use std::path::Path;

use forks::{fork, Child, Scratch};
use metrics::{counter, page, sample, sum};
use promring::client::MetricType;

/// Mounts a tmpfs of 1 MB on `directory`, seen by this process and its children only.
fn mount_small_tmpfs(directory: &Path) {
    let path = CString::new(directory.to_str().unwrap()).unwrap();
    let tmpfs = c"tmpfs".as_ptr();
    // SAFETY: integers and NUL-terminated strings only.
    unsafe {
        let user = if libc::geteuid() == 0 { 0 } else { libc::CLONE_NEWUSER };
        assert_eq!(libc::unshare(libc::CLONE_NEWNS | user), 0, "a mount namespace");
        let private = libc::MS_REC | libc::MS_PRIVATE;
        libc::mount(std::ptr::null(), c"/".as_ptr(), std::ptr::null(), private, std::ptr::null());
        let size = c"size=1m,mode=0700".as_ptr();
        assert_eq!(libc::mount(tmpfs, path.as_ptr(), tmpfs, 0, size.cast()), 0, "a tmpfs");
    }
}

/// 48 workers want a place each; most find none, and add to the shared cells instead.
fn many_workers(increments: u64) {
    let work = || {
        let series = counter("jobs_total", "").series(&[]).unwrap();
        (0..increments).for_each(|_| assert!(series.inc(1.0)));
    };
    let workers: Vec<Child> = (0..48).map(|_| fork(work)).collect();
    workers.into_iter().for_each(|worker| assert!(worker.join(), "a worker died"));
}

fn fill_up(scratch: &Scratch) {
    mount_small_tmpfs(scratch.path());
    scratch.configure();
    promring::client::attach(); // the segment is in use as long as this process lives
    many_workers(2_000);
    let visits = counter("visits_total", "path");
    for i in 0..8_000 {
        let path = format!("/{i}/{}", "long".repeat(100));
        assert!(visits.series(&[&path]).unwrap().inc(1.0));
    }
    many_workers(2_000);
    let page = page();
    assert_eq!(sample(&page, "jobs_total"), Some(2.0 * 48.0 * 2_000.0));
    assert_eq!(sum(&page, "visits_total"), 8_000.0);
    let overflow = sample(&page, "visits_total{promring_overflow=\"true\"}").expect("overflow");
    assert!(overflow > 100.0 && overflow < 8_000.0, "the file system is not full: {overflow}");
    // What needs memory of its own is refused with a remedy, and the rest goes on.
    let late = metrics::spec("late_total", MetricType::Counter, "label");
    let refused = (0..2_000).find_map(|i| {
        let spec = promring::client::FamilySpec { name: format!("late_{i}_total"), ..late.clone() };
        promring::client::family(&spec).err()
    });
    assert_eq!(refused.expect("no room at last").code(), "full");
    assert!(counter("jobs_total", "").series(&[]).unwrap().inc(1.0));
}

#[test]
fn a_full_tmpfs_costs_no_count_and_no_worker() {
    let scratch = Scratch::new("full-tmpfs");
    assert!(fork(|| fill_up(&scratch)).join(), "see above");
}
