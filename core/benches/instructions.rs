//! Instructions of each call and each line, counted by callgrind: they repeat where times on a shared machine do not.
//!
//! Without words this runs itself under valgrind, twice for each row: with N calls and with 2 N. What the second has
//! more, by N, is a call's; the set-up is in both and falls out, but for what hashing by a seed of each segment's own
//! makes of 10,000 series. With words – a row's and a number – it is the
//! program that is counted.

#[path = "../tests/support/forks.rs"]
mod forks;
#[path = "support/load.rs"]
mod load;
#[path = "support/pages.rs"]
mod pages;

use std::hint::black_box;
use std::process::Command;

use forks::Scratch;
use load::{family, series, spec, uniform, zipf};
use promring::client::{self, FamilySpec, MetricType, Native, Series};
use promring::exposition::{Choice, Renderer};

/// A row: what it counts, its word, N, and what is done so many times.
type Row = (&'static str, &'static str, usize, fn(usize));

const ROWS: &[Row] = &[
    ("increment", "increment", 300, |n| push(MetricType::Counter, n, Series::inc)),
    ("histogram observation", "observe", 300, |n| {
        push(MetricType::Histogram, n, Series::observe);
    }),
    ("push + drain, one series", "drain-one", MANY, |n| drain(n, &[0])),
    ("push + drain, zipf over 1k series", "drain-zipf", MANY, |n| drain(n, &zipf(2 * MANY, 1_000))),
    ("push + drain, uniform over 10k series", "drain-uniform", MANY, |n| {
        drain(n, &uniform(2 * MANY, 10_000));
    }),
    ("observe + drain, 11 classic buckets", "drain-classic", MANY, |n| observe(n, None)),
    ("observe + drain, native buckets, too", "drain-native", MANY, |n| observe(n, Some(3))),
    ("text, a line of 10000", "text", 4, |n| render(n, "", "")),
    ("OpenMetrics, a line of 10000", "openmetrics", 4, |n| render(n, OPEN_METRICS, "")),
    ("protobuf, a text's line of 10000", "protobuf", 4, |n| render(n, PROTOBUF, "")),
    ("gzipped text, a line of 10000", "gzip", 4, |n| render(n, "", "gzip")),
];

/// Events of a row that drains: self-help does it on the way.
const MANY: usize = 500_000;
const LINES: usize = 10_000;
const OPEN_METRICS: &str = "application/openmetrics-text";
const PROTOBUF: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.as_slice() {
        [word, n] => {
            let (.., work) = ROWS.iter().find(|(_, known, ..)| known == word).expect("a row");
            work(n.parse().expect("a number"));
        }
        _ => count_all(),
    }
}

fn count_all() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("absent: valgrind, so instructions are not counted");
        return;
    }
    println!("{:<44} {:>9}", "instructions, by callgrind", "each");
    for (what, word, n, _) in ROWS {
        let more = counted(word, 2 * n) - counted(word, *n);
        let calls = if word.starts_with("drain") || *n == 300 { *n } else { n * lines() };
        println!("{what:<44} {:>9.1} instructions", more as f64 / calls as f64);
    }
}

/// Instructions of the program in that row.
fn counted(word: &str, n: usize) -> u64 {
    let own = std::env::current_exe().expect("a path");
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(own)
        .args([word, &n.to_string()])
        .output()
        .expect("valgrind");
    let said = String::from_utf8_lossy(&run.stderr);
    let found = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    found.filter(|_| run.status.success()).unwrap_or_else(|| panic!("{word}: {said}"))
}

/// Pushes alone: fewer than make a worker drain its ring.
#[inline(always)]
fn push(metric_type: MetricType, n: usize, call: impl Fn(&Series, f64) -> bool) {
    let _scratch = attached();
    let one = black_box(series(family("bench", metric_type), 1)[0]);
    call(one, 1.0); // claims the place
    for _ in 0..n {
        call(one, 1.0);
    }
}

fn drain(n: usize, order: &[u16]) {
    let _scratch = attached();
    let most = order.iter().max().map_or(1, |most| usize::from(*most) + 1);
    let all = series(family("bench_total", MetricType::Counter), most);
    for at in order.iter().cycle().take(n) {
        all[usize::from(*at)].inc(1.0);
    }
}

/// Response times as they are: most around 100 ms, some much longer.
fn observe(n: usize, schema: Option<i8>) {
    let _scratch = attached();
    let classic = spec("bench_seconds", MetricType::Histogram);
    let native = schema.map(|schema| Native::around(schema, &classic.buckets));
    let one = series(client::family(&FamilySpec { native, ..classic }).expect("a histogram"), 1)[0];
    let mut random = load::Random(0x2545_f491_4f6c_dd1d);
    let mut value = || 0.1 * (2.0 * (random.next() + random.next() + random.next() - 1.5)).exp();
    let values: Vec<f64> = (0..2 * MANY).map(|_| value()).collect();
    for value in &values[..n] {
        one.observe(*value);
    }
}

fn attached() -> Scratch {
    let scratch = Scratch::new("instructions");
    scratch.configure();
    scratch
}

fn render(n: usize, accept: &str, accept_encoding: &str) {
    let snapshots = pages::snapshots(LINES);
    let choice = Choice::negotiate(accept, accept_encoding);
    let (mut renderer, mut page) = (Renderer::new(), Vec::new());
    // The first renders make the template and its compression.
    for snapshot in snapshots.iter().cycle().take(4 + n) {
        renderer.render(snapshot, choice, &mut page);
        black_box(&page);
    }
}

/// Lines of the text page.
fn lines() -> usize {
    let mut page = Vec::new();
    Renderer::new().text(&pages::snapshots(LINES)[0], &mut page);
    page.iter().filter(|byte| **byte == b'\n').count()
}
