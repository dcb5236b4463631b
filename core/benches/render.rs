//! The page and its compression, each as a ratio against a floor taken in the same run.
//!
//! The floor of a page is a memcpy of it; that of its compression is the page and gzip -6. Every value
//! differs from one page to the next, so nothing can be taken over from the page before.

#[path = "support/pages.rs"]
mod pages;

use std::hint::black_box;
use std::time::Instant;

use pages::snapshots;
use promring::exposition::{Choice, Renderer};
use promring::snapshot::Snapshot;

const REPEATS: usize = 101;
const OPEN_METRICS: &str = "application/openmetrics-text";
const PROTOBUF: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

fn main() {
    println!(
        "{:<44} {:>9} {:>7} {:>6}  (ns a line, for orientation)",
        "what", "measured", "gate", ""
    );
    uncompressed(10_000, Some(5.0));
    uncompressed(100_000, Some(2.5));
    for lines in [10_000, 25_000, 100_000] {
        compressed(lines);
    }
}

fn time(mut call: impl FnMut()) -> f64 {
    let started = Instant::now();
    call();
    started.elapsed().as_nanos() as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The median of the ratios of `run` to `floor`, and of the times of `run`.
fn pairwise(
    repeats: usize,
    mut floor: impl FnMut() -> f64,
    mut run: impl FnMut() -> f64,
) -> (f64, f64) {
    let (mut ratios, mut times) = (Vec::new(), Vec::new());
    for _ in 0..repeats {
        let before = floor();
        let measured = run();
        let after = floor();
        ratios.push(measured / ((before + after) / 2.0));
        times.push(measured);
    }
    (median(ratios), median(times))
}

/// A row; gates are upper bounds, or with `at_least` lower ones.
fn report(what: &str, measured: f64, gate: Option<f64>, at_least: bool, ns: f64) {
    let good = gate.is_none_or(|gate| if at_least { measured >= gate } else { measured <= gate });
    let gate = gate.map_or_else(|| "-".into(), |gate| format!("{gate:.2}x"));
    let verdict = match (gate.as_str(), good) {
        ("-", _) => "",
        (_, true) => "pass",
        (_, false) => "MISS",
    };
    println!("{what:<44} {measured:>8.2}x {gate:>7} {verdict:>6}  ({ns:.2})");
}

/// Renders the two snapshots by turns.
struct Turns {
    snapshots: [Snapshot; 2],
    renderer: Renderer,
    choice: Choice,
    page: Vec<u8>,
    turn: usize,
}

impl Turns {
    fn new(lines: usize, accept: &str, accept_encoding: &str) -> Turns {
        let choice = Choice::negotiate(accept, accept_encoding);
        let (renderer, page) = (Renderer::new(), Vec::new());
        let mut turns = Turns { snapshots: snapshots(lines), renderer, choice, page, turn: 0 };
        (0..4).for_each(|_| turns.render());
        turns
    }

    fn render(&mut self) {
        self.turn ^= 1;
        self.renderer.render(&self.snapshots[self.turn], self.choice, &mut self.page);
        black_box(&self.page);
    }
}

fn uncompressed(lines: usize, gate: Option<f64>) {
    let mut text = Turns::new(lines, "", "");
    let page = text.page.clone();
    let n = page.iter().filter(|byte| **byte == b'\n').count() as f64;
    let mut copy = page.clone();
    let mut floor = || {
        time(|| {
            copy.copy_from_slice(black_box(&page));
            black_box(&copy);
        })
    };
    let (ratio, ns) = pairwise(REPEATS, &mut floor, || time(|| text.render()));
    report(&format!("text page / memcpy, {lines} lines"), ratio, gate, false, ns / n);
    for (accept, name) in [(OPEN_METRICS, "OpenMetrics"), (PROTOBUF, "protobuf")] {
        let mut other = Turns::new(lines, accept, "");
        let (ratio, ns) = pairwise(REPEATS, || time(|| text.render()), || time(|| other.render()));
        report(&format!("{name} page / text page"), ratio, None, false, ns / n);
    }
}

fn compressed(lines: usize) {
    let mut text = Turns::new(lines, "", "");
    let mut zipped = Turns::new(lines, "", "gzip");
    let page = text.page.clone();
    let n = page.iter().filter(|byte| **byte == b'\n').count() as f64;
    let run = |zipped: &mut Turns| time(|| zipped.render());
    let (ratio, ns) = pairwise(REPEATS, || time(|| text.render()), || run(&mut zipped));
    report(&format!("gzipped page / plain page, {lines} lines"), ratio, Some(3.0), false, ns / n);
    let smaller = page.len() as f64 / zipped.page.len() as f64;
    report("  how much smaller", smaller, Some(9.0), true, zipped.page.len() as f64 / n);
    // Against what compression adds to the plain page: the library is given the page, too.
    for (level, gate, repeats) in [(6, Some(20.0), 21), (1, None, 41)] {
        let (mut ratios, mut times) = (Vec::new(), Vec::new());
        for _ in 0..repeats {
            let plain = time(|| text.render());
            let ours = time(|| zipped.render());
            let theirs = time(|| library(level, &page));
            ratios.push(theirs / (ours - plain).max(1.0));
            times.push(theirs);
        }
        let what = format!("  speed against gzip -{level}");
        report(&what, median(ratios), gate, true, median(times) / n);
    }
}

fn library(level: u32, page: &[u8]) {
    let level = flate2::Compression::new(level);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
    std::io::Write::write_all(&mut encoder, page).expect("memory");
    black_box(encoder.finish().expect("memory"));
}
