//! Every system call of an app's start fails in turn, in several ways: the app boots, counts, and serves its page.
//!
//! As SQLite's tests do it: the n-th call is made to fail, for n = 1, 2, 3 … until none is left to fail. A child is
//! traced from before it attaches until it has rendered a page; the call is replaced by one that does not exist, and
//! its result by an error.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;
#[path = "support/tracer.rs"]
mod tracer;

use forks::{fork, Scratch};
use metrics::{counter, page, sample};
use promring::client;
use tracer::traced;

/// What the kernel may say. Not EINTR for all: calls that cannot be interrupted do not say it.
const ERRORS: [i32; 4] = [libc::EPERM, libc::ENOMEM, libc::ENOSPC, libc::EINTR];

/// Calls that the language's runtime or the C library makes for itself, and that do not fail in a running process.
const NOT_OURS: [i64; 10] = [
    libc::SYS_getrandom,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_futex,
    libc::SYS_munmap,
    libc::SYS_write,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

fn boot_count_and_serve() {
    client::set_log(|_| {}); // what is said, and that once, is shown by `bad_segment`
    client::attach();
    let visits = counter("visits_total", "path").series(&["/"]).unwrap();
    (0..100).for_each(|_| assert!(visits.inc(1.0)));
    assert_eq!(sample(&page(), "visits_total{path=\"/\"}"), Some(100.0));
}

/// Boots the app in a child whose `n`-th call of ours fails with `error`. The failed call; None when there are fewer.
fn with_failing_call(n: usize, error: i32, scratch: &Scratch) -> Option<i64> {
    let child = traced(|| {
        scratch.configure();
        boot_count_and_serve
    });
    let (mut seen, mut failed) = (0, None);
    let good = child.fail_calls(|call| {
        seen += usize::from(!NOT_OURS.contains(&call));
        (seen == n && failed.is_none()).then(|| {
            failed = Some(call);
            error
        })
    });
    assert!(good, "call {failed:?}, the {n}th, fails with {error}: the app does not come up");
    failed
}

/// Fails every call in every way; returns how many there are.
fn all_fail(name: &str, prepare: fn(&Scratch)) -> usize {
    let mut most = 0;
    for error in ERRORS {
        for n in 1.. {
            let scratch = Scratch::new(name);
            prepare(&scratch);
            if with_failing_call(n, error, &scratch).is_none() {
                most = most.max(n - 1);
                break;
            }
        }
    }
    most
}

#[test]
fn the_first_process_comes_up_whatever_fails() {
    let calls = all_fail("failing-first", |_| {});
    println!("{calls} calls, each failed in {} ways", ERRORS.len());
    assert!(calls > 20, "only {calls} calls were seen: is anything traced?");
}

#[test]
fn a_process_that_joins_comes_up_whatever_fails() {
    let calls = all_fail("failing-joins", |scratch| {
        assert!(fork(|| {
            scratch.configure();
            counter("others_total", "").series(&[]).unwrap().inc(1.0);
        })
        .join());
    });
    println!("{calls} calls, each failed in {} ways", ERRORS.len());
    assert!(calls > 20, "only {calls} calls were seen: is anything traced?");
}
