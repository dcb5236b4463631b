//! Random SIGKILL and SIGSTOP of workers, drainers, aggregator and master under full load, against a ledger: run by `ci/torture`.
//!
//! `torture [KILLS] [--worker COMMAND]...`: KILLS deaths (1,000 by default), then ten times as many short
//! lives. A COMMAND is a further kind of worker, in another language: it counts in the segment that
//! PROMRING_SEGMENT names, `torture_total{worker=…}` by 1 and `torture_sizes{worker=…}` (buckets 1, 2, 4) by
//! observing 3, taking turns, and keeps its four words of the ledger (the file PROMRING_TORTURE_LEDGER, at
//! byte PROMRING_TORTURE_AT; the label is PROMRING_TORTURE_WORKER): increments begun, acknowledged,
//! observations begun, acknowledged, each word stored around its call.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, ExitCode};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use forks::{fork, Child, Ledger, Scratch};
use metrics::{counter, page, sample, spec};
use promring::aggregator::{self, Start};
use promring::client::{self, Family, FamilySpec, MetricType, Value};
use promring::config::{Config, Listen};

const WORKERS: usize = 4;
const DRAINERS: usize = 2;
/// Words of the ledger per worker.
const WORDS: usize = 4;
/// The master's word of the ledger: its aggregator's pid.
const MASTER: usize = WORKERS * WORDS;
/// A worker's place. The number of places follows the largest crowd of living and not yet reaped dead.
const PLACE_KIB: u64 = 20;
/// Short lives at a time.
const CROWD: usize = 60;

/// A quick generator of pseudo-random numbers, seeded: a run can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn sizes() -> &'static Family {
    let buckets = vec![1.0, 2.0, 4.0];
    let spec = spec("torture_sizes", MetricType::Histogram, "worker");
    client::family(&FamilySpec { buckets, ..spec }).expect("a histogram")
}

fn hits() -> &'static Family {
    counter("torture_total", "worker")
}

/// Counts for ever; the ledger follows each call.
fn work(ledger: &Ledger, me: usize) {
    let label = me.to_string();
    let (hits, sizes) = (hits().series(&[&label]).unwrap(), sizes().series(&[&label]).unwrap());
    let word = |at: usize| ledger.at(me * WORDS + at);
    loop {
        word(0).fetch_add(1, SeqCst);
        hits.inc(1.0);
        word(1).fetch_add(1, SeqCst);
        word(2).fetch_add(1, SeqCst);
        sizes.observe(3.0);
        word(3).fetch_add(1, SeqCst);
    }
}

/// Everything that runs at a time, and what it has done.
struct Torture {
    scratch: Scratch,
    ledger: Ledger,
    /// Commands of workers in other languages, taking turns with native ones.
    foreign: Vec<String>,
    workers: VecDeque<(usize, Child)>,
    drainers: VecDeque<Child>,
    /// Starts the aggregator, and another one when that is killed.
    master: Option<Child>,
    aggregator: i32,
    random: Random,
    kills: u64,
    stops: u64,
    reconciliations: u64,
    /// Counts of all workers that were reconciled.
    settled: u64,
    wrong: Vec<String>,
}

impl Torture {
    #[expect(clippy::zombie_processes, reason = "`Child` waits for it")]
    fn start_worker(&mut self, me: usize) {
        let child = match self.foreign.get(me % (self.foreign.len() + 1)) {
            None => fork(|| work(&self.ledger, me)),
            Some(command) => {
                let child = Command::new("sh")
                    .args(["-c", &format!("exec {command}")])
                    .env("PROMRING_SEGMENT", self.scratch.path().join("segment"))
                    .env("PROMRING_TORTURE_LEDGER", self.scratch.path().join("ledger"))
                    .env("PROMRING_TORTURE_AT", (me * WORDS * 8).to_string())
                    .env("PROMRING_TORTURE_WORKER", me.to_string())
                    .spawn()
                    .expect("a worker");
                Child::of_pid(child.id())
            }
        };
        self.workers.push_back((me, child));
    }

    fn start_drainer(&mut self) {
        self.drainers.push_back(fork(|| loop {
            page();
        }));
    }

    /// A master of its own, so that it can be killed; its word of the ledger names its aggregator.
    fn start_master(&mut self) {
        let word = self.ledger.at(MASTER);
        word.store(0, SeqCst);
        self.master = Some(fork(|| loop {
            if let Ok(Start::Started { pid } | Start::AlreadyStarted { pid }) = aggregator::start()
            {
                word.store(u64::from(pid), SeqCst);
            }
            std::thread::sleep(Duration::from_millis(1));
        }));
    }

    /// SIGKILLs the master: its aggregator goes by itself. Another one takes its place.
    fn kill_master(&mut self) {
        self.master.take().expect("a master").kill();
        self.kills += 1;
        let aggregator = self.ledger.at(MASTER).load(SeqCst);
        if aggregator != 0 {
            forks::eventually("the end of the aggregator with its master", || {
                has_ended(aggregator).then_some(())
            });
        }
        self.start_master();
    }

    /// SIGKILLs the aggregator: its master starts another one.
    fn kill_aggregator(&mut self) {
        let killed = self.aggregator_of_master();
        send(killed, libc::SIGKILL);
        self.kills += 1;
        forks::eventually("another aggregator", || {
            (self.ledger.at(MASTER).load(SeqCst) != killed as u64).then_some(())
        });
    }

    /// The aggregator of the living master, once it has one.
    fn aggregator_of_master(&self) -> i32 {
        forks::eventually("an aggregator", || {
            let pid = self.ledger.at(MASTER).load(SeqCst);
            (pid != 0).then_some(pid as i32)
        })
    }

    fn start_aggregator(&mut self) {
        match aggregator::start() {
            Ok(Start::Started { pid } | Start::AlreadyStarted { pid }) => {
                self.aggregator = pid as i32;
            }
            other => self.wrong.push(format!("no aggregator: {other:?}")),
        }
    }

    /// One blow: 5 of 8 against drainers (a quarter of them against all at once, few against aggregator and
    /// master), 2 against a worker, 1 stop.
    fn strike(&mut self) {
        match self.random.below(8) {
            0..=4 => {
                let n = if self.random.below(4) == 0 { DRAINERS } else { 1 };
                for drainer in self.drainers.drain(..n) {
                    drainer.kill();
                    self.kills += 1;
                }
                while self.drainers.len() < DRAINERS {
                    self.start_drainer();
                }
                match self.random.below(128) {
                    0 => self.kill_master(),
                    1..=4 => self.kill_aggregator(),
                    _ => {}
                }
            }
            5 | 6 => {
                let (me, worker) = self.workers.pop_front().expect("a worker");
                worker.kill();
                self.kills += 1;
                self.reconcile(me);
                self.start_worker(me);
            }
            _ => self.stop_somebody(),
        }
    }

    fn stop_somebody(&mut self) {
        let pause = Duration::from_micros(self.random.below(600));
        let pid_of = Child::pid;
        let somebody = match self.random.below(8) {
            0 => self.aggregator_of_master(),
            1 => self.master.as_ref().map(pid_of).expect("a master"),
            2..=4 => self.drainers.front().map(pid_of).expect("a drainer"),
            _ => self.workers.front().map(|(_, worker)| worker.pid()).expect("a worker"),
        };
        send(somebody, libc::SIGSTOP);
        std::thread::sleep(pause);
        send(somebody, libc::SIGCONT);
        self.stops += 1;
    }

    /// A dead worker's counts: all that was acknowledged, and at the most the one call in flight.
    fn reconcile(&mut self, me: usize) {
        let label = me.to_string();
        let Value::Number(hits) = hits().series(&[&label]).unwrap().get() else { unreachable!() };
        let Value::Histogram { counts, sum } = sizes().series(&[&label]).unwrap().get() else {
            unreachable!()
        };
        let count: f64 = counts.iter().sum();
        if sum != 3.0 * count {
            self.wrong.push(format!("worker {me}: torn, {count} observations with the sum {sum}"));
        }
        for (what, value, at) in [("hits", hits, 0), ("sizes", count, 2)] {
            let word = |i: usize| self.ledger.at(me * WORDS + at + i);
            let (begun, acknowledged) = (word(0).load(SeqCst), word(1).load(SeqCst));
            let value = value as u64;
            if value < acknowledged || value > begun {
                let line =
                    format!("worker {me}: {value} {what}, {acknowledged} to {begun} expected");
                self.wrong.push(line);
            }
            word(0).store(value, SeqCst);
            word(1).store(value, SeqCst);
        }
        self.reconciliations += 1;
    }

    fn storm(&mut self, kills: u64) {
        (0..WORKERS).for_each(|me| self.start_worker(me));
        (0..DRAINERS).for_each(|_| self.start_drainer());
        self.start_master();
        let mut last = 0.0;
        while self.kills < kills && self.wrong.is_empty() {
            self.strike();
            std::thread::sleep(Duration::from_micros(self.random.below(400)));
            if self.random.below(64) == 0 {
                let shown = metrics::sum(&page(), "torture_total");
                if shown < last {
                    self.wrong.push(format!("the counter went back from {last} to {shown}"));
                }
                last = shown;
            }
        }
        while let Some((me, worker)) = self.workers.pop_front() {
            worker.kill();
            self.reconcile(me);
            self.settled += self.ledger.at(me * WORDS).load(SeqCst);
            self.settled += self.ledger.at(me * WORDS + 2).load(SeqCst);
        }
        self.drainers.drain(..).for_each(Child::kill);
        self.master.take().into_iter().for_each(Child::kill);
        self.start_aggregator();
    }

    /// Short lives, some of them killed: places are used again, sums stay exact, nothing grows.
    ///
    /// Places are as many as workers were ever dead and not yet reaped, and on a busy machine the drain
    /// lock's holder may be off the processor while a crowd comes and goes. Such a high-water mark is
    /// reached once; what grows with the number of lives grows each time.
    fn churn(&mut self, lives: u64) {
        if (0..3).all(|_| self.churned_and_grew(lives)) {
            self.wrong.push("memory, files or descriptors grow with the number of lives".into());
        }
    }

    /// So many lives; true if something was larger after all of them than after a tenth.
    fn churned_and_grew(&mut self, lives: u64) -> bool {
        let counted = || sample(&page(), "torture_total{worker=\"churn\"}").unwrap_or(0.0) as u64;
        let ledger = Ledger::new(2 * CROWD);
        let label = "churn";
        let family = hits();
        family.series(&[label]).unwrap();
        let before = counted();
        let mut crowd: VecDeque<(usize, Child)> = VecDeque::new();
        let mut early = None;
        let mut in_flight = 0;
        for life in 0..lives {
            if crowd.len() == CROWD {
                let (seat, child) = crowd.pop_front().expect("somebody");
                if life % 16 == 0 {
                    child.kill();
                    self.kills += 1;
                } else {
                    child.join();
                }
                in_flight +=
                    ledger.at(2 * seat).load(SeqCst) - ledger.at(2 * seat + 1).load(SeqCst);
                ledger.at(2 * seat).store(ledger.at(2 * seat + 1).load(SeqCst), SeqCst);
            }
            let (seat, n) = (life as usize % CROWD, 1 + self.random.below(400));
            let child = fork(|| {
                let series = family.series(&[label]).unwrap();
                for _ in 0..n {
                    ledger.at(2 * seat).fetch_add(1, SeqCst);
                    series.inc(1.0);
                    ledger.at(2 * seat + 1).fetch_add(1, SeqCst);
                }
            });
            crowd.push_back((seat, child));
            if life == lives / 10 {
                early = Some(Footprint::now(&self.scratch, self.aggregator));
            }
        }
        for (seat, child) in crowd {
            child.join();
            in_flight += ledger.at(2 * seat).load(SeqCst) - ledger.at(2 * seat + 1).load(SeqCst);
        }
        let acknowledged: u64 = (0..CROWD).map(|seat| ledger.at(2 * seat + 1).load(SeqCst)).sum();
        let shown = counted() - before;
        if shown < acknowledged || shown > acknowledged + in_flight {
            self.wrong.push(format!("{lives} lives: {shown} shown, {acknowledged} acknowledged"));
        }
        self.settled += shown;
        let late = Footprint::now(&self.scratch, self.aggregator);
        println!("footprint after a tenth of the lives {early:?}, after all {late:?}");
        early.is_some_and(|early| late.grew_since(&early))
    }
}

/// Signals a process of ours, or nobody if it has ended.
fn send(pid: i32, number: i32) {
    // SAFETY: no memory is touched.
    unsafe { libc::kill(pid, number) };
}

/// Gone, or a zombie that somebody else has to wait for.
fn has_ended(pid: u64) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

/// Memory of a process that is its own, KiB.
fn private_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The one who strikes must not wait for its victims to be done with the processor.
fn go_before_the_others() {
    // SAFETY: `parameters` is valid for reading; without the right to it, the torture is only slower.
    unsafe {
        let parameters = libc::sched_param { sched_priority: 1 };
        let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
        libc::sched_setscheduler(0, policy, &raw const parameters);
    }
}

/// What must not grow.
#[derive(Debug, PartialEq)]
struct Footprint {
    private_kib: u64,
    aggregator_kib: u64,
    segment_kib: u64,
    files: usize,
    descriptors: usize,
}

impl Footprint {
    fn now(scratch: &Scratch, aggregator: i32) -> Footprint {
        Footprint {
            private_kib: private_kib(std::process::id() as i32),
            aggregator_kib: private_kib(aggregator),
            segment_kib: fs::metadata(scratch.path().join("segment.v1")).unwrap().blocks() / 2,
            files: fs::read_dir(scratch.path()).unwrap().count(),
            descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
        }
    }

    fn grew_since(&self, early: &Footprint) -> bool {
        self.private_kib > early.private_kib + 256
            || self.aggregator_kib > early.aggregator_kib + 256
            || self.segment_kib > early.segment_kib + PLACE_KIB * CROWD as u64
            || self.files > early.files
            || self.descriptors > early.descriptors
    }
}

fn main() -> ExitCode {
    let (mut kills, mut foreign) = (1_000, Vec::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.parse() {
            Ok(n) => kills = n,
            Err(_) if word == "--worker" => foreign.extend(words.next()),
            Err(_) => {} // what `cargo test` adds
        }
    }
    let scratch = Scratch::new("torture");
    client::detach_for_tests();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    client::configure(Config {
        segment: Some(scratch.path().join("segment")),
        listen: Listen::Tcp(format!("127.0.0.1:{port}")),
        ..Config::default()
    });
    client::attach();
    hits();
    sizes();
    let ledger = Ledger::in_file(&scratch.path().join("ledger"), MASTER + 1);
    let mut torture = Torture {
        scratch,
        ledger,
        foreign,
        workers: VecDeque::new(),
        drainers: VecDeque::new(),
        master: None,
        aggregator: 0,
        random: Random(1),
        kills: 0,
        stops: 0,
        reconciliations: 0,
        settled: 0,
        wrong: Vec::new(),
    };
    go_before_the_others();
    let started = Instant::now();
    torture.storm(kills);
    let storm = started.elapsed().as_secs_f64();
    println!(
        "{} kills, {} stops, {} reconciliations, {} counts in {storm:.1} s",
        torture.kills, torture.stops, torture.reconciliations, torture.settled
    );
    let (before, started) = (torture.kills, Instant::now());
    torture.churn(10 * kills);
    let churn = started.elapsed().as_secs_f64();
    println!("{} lives, {} of them killed, in {churn:.1} s", 10 * kills, torture.kills - before);
    let page = page();
    for name in [
        "promring_drain_lock_takeovers_total",
        "promring_direct_adds_total",
        "promring_workers_reaped_total",
        "promring_peeks_total",
    ] {
        println!("{name} {}", sample(&page, name).unwrap_or(0.0));
    }
    aggregator::stop();
    torture.wrong.iter().for_each(|line| println!("{line}"));
    println!("{} violations", torture.wrong.len());
    ExitCode::from(u8::from(!torture.wrong.is_empty()))
}
