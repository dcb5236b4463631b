//! Push, push + drain, pauses, memory, and scrape, mostly as ratios against a floor taken in the same run.
//!
//! The floor is an uncontended `fetch_add` (x86: `lock xadd`), timed right before and after each
//! repeat; the median of the ratios is printed beside the gate. Absolute times on a shared machine
//! prove nothing and are printed for orientation only.

#[path = "../tests/support/forks.rs"]
mod forks;
#[path = "support/load.rs"]
mod load;

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use forks::{fork, Scratch};
use load::{family, series, spec, uniform, zipf, Random};
use promring::client::{self, FamilySpec, MetricType, Native, Series};

const REPEATS: usize = 201;
/// Repeats of what takes microseconds, so that they last long enough for the processor to reach its pace.
const SHORT_REPEATS: usize = 20_001;

fn main() {
    println!("{:<44} {:>9} {:>7} {:>6}  (ns, for orientation)", "what", "measured", "gate", "");
    let scratch = Scratch::new("bench");
    scratch.configure();
    pushes();
    pauses();
    memory();
    scrapes();
}

fn floor(n: u64) -> f64 {
    static WORD: AtomicU64 = AtomicU64::new(0);
    time(n, |_| {
        WORD.fetch_add(1, Ordering::Relaxed);
    })
}

/// Nanoseconds per call.
fn time(n: u64, mut call: impl FnMut(u64)) -> f64 {
    let started = Instant::now();
    for i in 0..n {
        call(i);
    }
    started.elapsed().as_nanos() as f64 / n as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints the median of many ratios of `run` to the floor.
fn against_floor(what: &str, gate: f64, n: u64, mut run: impl FnMut() -> f64) {
    let repeats = if n < 1_000 { SHORT_REPEATS } else { REPEATS };
    let mut ratios = Vec::new();
    let mut times = Vec::new();
    for _ in 0..repeats {
        let before = floor(n);
        let measured = run();
        let after = floor(n);
        ratios.push(measured / ((before + after) / 2.0));
        times.push(measured);
    }
    report(what, median(ratios), gate, median(times));
}

fn report(what: &str, measured: f64, gate: f64, ns: f64) {
    report_in("x", what, measured, gate, ns);
}

fn report_in(unit: &str, what: &str, measured: f64, gate: f64, ns: f64) {
    let verdict = if measured <= gate { "pass" } else { "MISS" };
    println!("{what:<44} {measured:>8.2}{unit} {gate:>6.2}{unit} {verdict:>6}  ({ns:.2})");
}

/// A ring's worth of pushes at a time: alone, and with the drain that they cause.
fn pushes() {
    const RING: u64 = 700; // below the self-help mark, so that a push is a push
    let counters = family("bench_total", MetricType::Counter);
    // A black box in the loop would go through memory and cost more than half of what is measured. The handle
    // comes out of one, and a call's loads and stores are atomic, so the compiler cannot take any of them away.
    let one = black_box(series(counters, 1)[0]);
    against_floor("increment / fetch_add", 0.75, RING, || {
        let started = Instant::now();
        increment_all(one, RING);
        let ns = started.elapsed().as_nanos() as f64 / RING as f64;
        one.get(); // drains outside of the timing
        ns
    });
    let histogram = black_box(series(family("bench_seconds", MetricType::Histogram), 1)[0]);
    let values: Vec<f64> = (0..RING).map(|i| i as f64 / 100.0).collect();
    against_floor("histogram observation / fetch_add", 0.75, RING, || {
        let started = Instant::now();
        observe_all(histogram, &values);
        let ns = started.elapsed().as_nanos() as f64 / RING as f64;
        histogram.get();
        ns
    });
    const MANY: u64 = 20_000; // self-help drains it all on the way
    let thousand = series(family("zipf_total", MetricType::Counter), 1_000);
    let order = zipf(MANY as usize, 1_000);
    against_floor("push + drain, zipf over 1k series", 1.6, MANY, || {
        time(MANY, |i| {
            thousand[usize::from(order[i as usize])].inc(1.0);
        })
    });
    let ten_thousand = series(family("uniform_total", MetricType::Counter), 10_000);
    let order = uniform(MANY as usize, 10_000);
    against_floor("push + drain, uniform over 10k series", 2.0, MANY, || {
        time(MANY, |i| {
            ten_thousand[usize::from(order[i as usize])].inc(1.0);
        })
    });
    drains(&ten_thousand, &order, RING);
    natives(MANY);
}

/// A function of its own, as the next one, so that the loop's own words stay in registers.
#[inline(never)]
fn increment_all(counter: &Series, n: u64) {
    for _ in 0..n {
        counter.inc(1.0);
    }
}

#[inline(never)]
fn observe_all(histogram: &Series, values: &[f64]) {
    for value in values {
        histogram.observe(*value);
    }
}

/// What the drain alone costs: pushes with it less pushes without. Milliseconds per million events, as
/// nanoseconds per event are.
fn drains(series: &[&'static Series], order: &[u16], ring: u64) {
    let push = |from: u64, n: u64| {
        time(n, |i| {
            series[usize::from(order[(from + i) as usize])].inc(1.0);
        })
    };
    let mut drains = Vec::new();
    for _ in 0..REPEATS {
        let both = push(0, order.len() as u64);
        let rings = order.len() as u64 / ring;
        let alone = (0..rings).map(|n| {
            series[0].get(); // drains outside of the timing
            push(n * ring, ring)
        });
        drains.push(both - alone.sum::<f64>() / rings as f64);
    }
    let ms = median(drains);
    report_in("ms", "drain, a million events, 10k series", ms, 2.0, ms);
}

/// The worst of a thousand increments, drains of its own ring included, against the worst of a thousand datagrams.
fn pauses() {
    let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    receiver.set_nonblocking(true).expect("a socket that does not block");
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    sender.connect(receiver.local_addr().expect("its address")).expect("connected");
    let series = series(family("paused_total", MetricType::Counter), 1_000);
    let order = zipf(10_000, 1_000);
    let (mut ratios, mut times) = (Vec::new(), Vec::new());
    for _ in 0..REPEATS {
        let increment = worst(&order, |n| {
            series[usize::from(n)].inc(1.0);
        });
        let datagram = worst(&order, |_| {
            sender.send(b"requests:1|c|#k:value-17").expect("sent");
        });
        while receiver.recv(&mut [0; 64]).is_ok() {} // what found no room was dropped, which is cheaper to send
        ratios.push(increment / datagram);
        times.push(increment);
    }
    report("worst pause, p99.9 / one UDP send", median(ratios), 1.0, median(times));
}

/// The 99.9th percentile of one call, in nanoseconds, the clock's share included.
fn worst(order: &[u16], mut call: impl FnMut(u16)) -> f64 {
    let mut times: Vec<u128> = order
        .iter()
        .map(|n| {
            let started = Instant::now();
            call(*n);
            started.elapsed().as_nanos()
        })
        .collect();
    times.sort_unstable();
    times[times.len() * 999 / 1_000] as f64
}

/// What the segment takes of tmpfs for one more worker that has counted a little, and for one more series.
fn memory() {
    const WORKERS: u64 = 64;
    const SERIES: u64 = 9_000; // of a counter, within the default cap
    let scratch = Scratch::new("bench-memory");
    scratch.configure();
    let counter = family("memory_total", MetricType::Counter);
    series(counter, 1)[0].inc(1.0);
    let bytes =
        || std::fs::metadata(scratch.path().join("segment.v1")).expect("a segment").blocks() * 512;
    let before = bytes();
    let mut children = Vec::new();
    let workers: Vec<UnixStream> = (0..WORKERS)
        .map(|_| {
            let (ours, theirs) = UnixStream::pair().expect("a socket pair");
            children.push(forks::fork(move || worker_of_one(theirs)));
            ours
        })
        .collect();
    workers.into_iter().for_each(|mut worker| {
        ask(&mut worker);
        std::mem::forget(worker); // its end would end the child
    });
    let of_workers = (bytes() - before) as f64 / WORKERS as f64;
    report_in("kB", "memory of an idle worker", of_workers / 1000.0, 32.0, of_workers);
    let before = bytes();
    series(counter, SERIES as usize + 1);
    let of_series = (bytes() - before) as f64 / SERIES as f64;
    report_in(" B", "memory of a series, all workers together", of_series, 100.0, of_series);
    children.into_iter().for_each(forks::Child::kill);
}

fn worker_of_one(parent: UnixStream) {
    let series = series(family("memory_total", MetricType::Counter), 1)[0];
    answer(parent, || {
        series.inc(1.0);
        0
    });
}

/// What exponential buckets add to an observation and its drain, beside classic ones: in nanoseconds.
fn natives(n: u64) {
    let classic = spec("classic_seconds", MetricType::Histogram);
    let native = Some(Native::around(3, &classic.buckets));
    let native =
        FamilySpec { name: "native_seconds".into(), native, ..spec("", MetricType::Histogram) };
    let [classic, native] =
        [classic, native].map(|spec| series(client::family(&spec).expect("a histogram"), 1)[0]);
    // Response times as they are: most around 100 ms, some much longer.
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let values: Vec<f64> = (0..n)
        .map(|_| 0.1 * (2.0 * (random.next() + random.next() + random.next() - 1.5)).exp())
        .collect();
    let observe = |series: &'static Series| {
        time(n, |i| {
            series.observe(values[i as usize]);
        })
    };
    let mut more = Vec::new();
    for _ in 0..REPEATS {
        let before = observe(classic);
        let measured = observe(native);
        more.push(measured - (before + observe(classic)) / 2.0);
    }
    let (more, times) = (median(more), observe(native));
    let verdict = if more <= 2.0 { "pass" } else { "MISS" };
    let what = "observe + drain, native buckets, too";
    println!("{what:<44} {more:>+6.2} ns {:>4.1} ns {verdict:>5}  ({times:.2})", 2.0);
}

/// A scrape with 128 workers against one with 1, over the same 10,000 series: idle rings, and 300 pending each.
fn scrapes() {
    for (pending, gate, what) in [
        (0, 1.05, "scrape, 128 workers / 1, idle rings"),
        (300, 1.6, "scrape, 128 workers / 1, 300 pending each"),
    ] {
        let mut one = Crowd::new("bench-1", 1, pending);
        let mut many = Crowd::new("bench-128", 128, pending);
        let mut ratios = Vec::new();
        let mut times = Vec::new();
        for _ in 0..101 {
            let before = one.scrape_ns();
            let measured = many.scrape_ns();
            let after = one.scrape_ns();
            ratios.push(measured / ((before + after) / 2.0));
            times.push(measured);
        }
        report(what, median(ratios), gate, median(times));
    }
}

/// A segment with a scraping process and so many workers, each blocked on a socket until its round:
/// nothing but the scrape runs while it is timed.
struct Crowd {
    scraper: UnixStream,
    workers: Vec<UnixStream>,
    children: Vec<forks::Child>,
    pending: bool,
    _scratch: Scratch,
}

impl Crowd {
    fn new(name: &str, workers: u64, pending: u64) -> Crowd {
        let scratch = Scratch::new(name);
        scratch.configure();
        let mut children = Vec::new();
        let mut start = |work: &dyn Fn(UnixStream)| {
            let (ours, theirs) = UnixStream::pair().expect("a socket pair");
            children.push(fork(move || work(theirs)));
            ours
        };
        let scraper = start(&scraper);
        let workers: Vec<UnixStream> =
            (0..workers).map(|_| start(&|ours| worker(ours, pending))).collect();
        let mut crowd =
            Crowd { scraper, workers, children, pending: pending > 0, _scratch: scratch };
        for worker in &mut crowd.workers {
            ask(worker); // claims its place
        }
        crowd
    }

    fn scrape_ns(&mut self) -> f64 {
        if self.pending {
            for worker in &mut self.workers {
                ask(worker);
            }
        }
        ask(&mut self.scraper) as f64
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.children.drain(..).for_each(forks::Child::kill);
    }
}

/// Starts a child's round and waits for its number.
fn ask(child: &mut UnixStream) -> u64 {
    let mut answer = [0; 8];
    child.write_all(&[1]).and_then(|()| child.read_exact(&mut answer)).expect("the child's answer");
    u64::from_le_bytes(answer)
}

/// A child's side of [`ask`]: a round at each byte.
fn answer(mut parent: UnixStream, mut round: impl FnMut() -> u64) {
    let mut byte = [0];
    while parent.read_exact(&mut byte).is_ok() {
        parent.write_all(&round().to_le_bytes()).expect("the parent listens");
    }
}

/// Pushes its events at each round; the first one claims a place.
fn worker(parent: UnixStream, pending: u64) {
    let series = series(family("crowd_total", MetricType::Counter), 10_000);
    answer(parent, || {
        for i in 0..pending.max(1) {
            series[(i * 13 % 10_000) as usize].inc(1.0);
        }
        0
    });
}

/// Scrapes at each round.
fn scraper(parent: UnixStream) {
    answer(parent, || {
        let started = Instant::now();
        black_box(promring::aggregator::scrape(""));
        started.elapsed().as_nanos() as u64
    });
}
