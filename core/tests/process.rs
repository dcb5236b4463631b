//! The fleet's process metrics: processor time of the dead stays counted, memory is that of the living.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;

use std::hint::black_box;
use std::sync::atomic::Ordering::SeqCst;

use forks::{fork, Ledger, Scratch};
use promring::client;

fn sample(name: &str) -> Option<f64> {
    metrics::sample(&metrics::page(), name)
}

/// Processor time of this process in nanoseconds.
fn used_ns() -> u64 {
    // SAFETY: zero bytes are a valid rusage, which the call fills.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &raw mut usage), 0);
        usage
    };
    let ns = |t: libc::timeval| t.tv_sec as u64 * 1_000_000_000 + t.tv_usec as u64 * 1_000;
    ns(usage.ru_utime) + ns(usage.ru_stime)
}

#[test]
fn processor_time_of_the_dead_is_kept_and_their_memory_is_not() {
    let scratch = Scratch::new("process");
    scratch.configure();
    client::attach();
    let ledger = Ledger::new(1);
    let worker = || {
        fork(|| {
            let mut n = 0u64;
            while used_ns() < 30_000_000 {
                n = black_box(n + 1);
            }
            client::tick();
            ledger.at(0).fetch_add(1, SeqCst);
            loop {
                std::thread::park();
            }
        })
    };
    let (first, second) = (worker(), worker());
    while ledger.at(0).load(SeqCst) < 2 {
        std::thread::yield_now();
    }
    let cpu = sample("process_cpu_seconds_total").expect("processor time");
    assert!(cpu >= 0.06, "two workers used 30 ms each, reported are {cpu} s");
    let both = sample("process_resident_memory_bytes").expect("resident memory");
    assert!(sample("process_open_fds").expect("descriptors") >= 2.0);
    assert!(sample("process_start_time_seconds").expect("start time") > 1.6e9);
    first.kill();
    let one = sample("process_resident_memory_bytes").expect("the other one's memory");
    assert!(one > 0.0 && one < both, "{one} of {both} bytes");
    assert_eq!(sample("process_cpu_seconds_total"), Some(cpu), "the dead one's time");
    second.kill();
    assert_eq!(sample("process_resident_memory_bytes"), None, "nobody lives");
}
