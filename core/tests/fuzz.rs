//! Hostile bytes: images of the segment, requests to the listener, names and labels in the exposition. Run by `ci/fuzz`.
//!
//! `fuzz [RUNS] [SEED] [TARGET...]`: RUNS images and as many expositions, a hundredth of that in requests over
//! sockets; targets that are named (`images`, `expositions`, `requests`) get RUNS each, and the others none.
//! Each input follows from its number, so a failure is repeated by `fuzz 1 NUMBER TARGET`.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use forks::fork;
use metrics::spec;
use promring::client::{FamilySpec, GaugeMode, MetricType, Native};
use promring::exposition::Renderer;
use promring::http::{serve, Answer, Asked, Limits, Listener};
use promring::proof::{Arena, Eyes, Peer};
use promring::snapshot::{Catalog, CatalogFamily, CatalogSeries, Snapshot};

/// The numbers that follow from an input's number.
struct Random(u64);

impl Random {
    fn of(input: u64) -> Random {
        let mut random = Random(input.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1);
        for _ in 0..3 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 11) as usize % n
    }

    /// A word as damage makes it: noise, a small number, all ones, an odd float, a flipped bit.
    fn word(&mut self) -> u64 {
        match self.below(6) {
            0 => self.next(),
            1 => self.below(4) as u64,
            2 => u64::MAX >> self.below(64),
            3 => 1 << self.below(64),
            4 => [f64::NAN, f64::INFINITY, f64::MAX, -1.0, 5e-324][self.below(5)].to_bits(),
            _ => (self.below(1 << 12) as u64) << 32 | self.below(1 << 12) as u64,
        }
    }

    /// Bytes that mean something to a parser, and some that do not.
    fn text(&mut self) -> String {
        const PIECES: [&str; 20] = [
            "\"", "\\", "\n", "\r", "\0", "{", "}", ",", "=", " ", "#", "é", "\u{2028}",
            "\u{fffd}", "le", "__name__", "a", "_total", "+Inf", "\\n",
        ];
        (0..self.below(6)).map(|_| PIECES[self.below(PIECES.len())]).collect()
    }
}

// ---------------------------------------------------------------------------------------------
// Images

/// A segment at work: two living workers, a dead one, all kinds of families, a lock left by the dead.
struct Images {
    base: Arena,
    image: Arena,
}

fn all_kinds() -> Vec<FamilySpec> {
    let buckets = vec![0.5, 1.0, 8.0];
    vec![
        spec("hits_total", MetricType::Counter, "path"),
        FamilySpec { buckets, ..spec("sizes", MetricType::Histogram, "path") },
        spec("times", MetricType::Summary, "path"),
        FamilySpec {
            buckets: vec![0.5, 0.9],
            native: Some(Native::new(0)),
            ..spec("spans", MetricType::Summary, "path")
        },
        FamilySpec { gauge_mode: GaugeMode::Sum, ..spec("level", MetricType::Gauge, "path") },
        spec("each", MetricType::Gauge, "path"),
        FamilySpec { gauge_mode: GaugeMode::Unique, ..spec("users", MetricType::Gauge, "path") },
    ]
}

impl Images {
    fn new() -> Images {
        let (base, image) = (Arena::new(64), Arena::new(64));
        let workers: Vec<Peer> = (0..3).map(|_| Peer::claim(base).unwrap()).collect();
        for path in ["/", "/a", "/b"] {
            for spec in all_kinds() {
                let id = base.register(&spec, &[path]).unwrap();
                for worker in &workers {
                    match spec.metric_type {
                        MetricType::Gauge if spec.gauge_mode == GaugeMode::Unique => {
                            (0..9).for_each(|n| assert!(base.add_to_set(id, n)));
                        }
                        MetricType::Gauge => worker.set_gauge(id, 2.0),
                        MetricType::Counter => (0..9).for_each(|n| assert!(worker.count(id, n))),
                        _ => (0..9).for_each(|n| assert!(worker.push(id, f64::from(n)))),
                    }
                }
            }
        }
        base.begin_sub_windows(1);
        let mut workers = workers.into_iter();
        let mut dead = workers.next().unwrap();
        assert!(dead.page(&mut Eyes::new(base)).is_some()); // drains what there is
        for worker in workers {
            assert!(worker.count(base.register(&all_kinds()[0], &["/"]).unwrap(), 1));
        }
        assert!(dead.lock()); // and never unlocks
        dead.die();
        Images { base, image }
    }

    /// Scribbles, then does what every process does, twice.
    fn run(&self, input: u64) {
        let mut random = Random::of(input);
        self.image.copy_from(self.base);
        let near_the_start = random.below(2) == 0; // header and redo record
        for _ in 0..=random.below(6) {
            let at = if near_the_start { random.below(512) } else { random.next() as usize >> 1 };
            self.image.scribble(at, random.word());
        }
        if input.is_multiple_of(16) {
            let _ = self.image.attach_again();
        }
        for _ in 0..2 {
            let Some(mut newcomer) = Peer::claim(self.image) else { return };
            let mut eyes = Eyes::new(self.image);
            newcomer.settle();
            if let Some(page) = newcomer.page(&mut eyes) {
                check_lines(&page);
            }
            for spec in all_kinds() {
                if let Some(id) = self.image.register(&spec, &["/new"]) {
                    newcomer.revive(id);
                    newcomer.push(id, 1.0);
                    newcomer.count(id, 1);
                }
            }
            newcomer.settle();
            newcomer.die();
        }
    }
}

// ---------------------------------------------------------------------------------------------
// The exposition

/// Renders families with hostile names and labels; what comes out is read back.
fn expose(input: u64, renderer: &mut Renderer) {
    let mut random = Random::of(input);
    let n_labels = random.below(3);
    let families: Vec<CatalogFamily> = (0..=random.below(3))
        .map(|_| CatalogFamily {
            name: format!("n{}", random.text()),
            help: random.text(),
            unit: random.text(),
            metric_type: [MetricType::Counter, MetricType::Summary][random.below(2)],
            label_names: (0..n_labels).map(|i| format!("l{i}{}", random.text())).collect(),
            buckets: Vec::new(),
            native: None,
            info: false,
            series: (0..random.below(3))
                .map(|_| CatalogSeries {
                    extra_label: None,
                    label_values: (0..n_labels).map(|_| random.text()).collect(),
                    created_seconds: 1.0,
                })
                .collect(),
        })
        .collect();
    let numbers = families.iter().flat_map(|f| f.series.iter().map(|_| [1.0, 2.0])).collect();
    let values: Vec<String> =
        families.iter().flat_map(|f| &f.series).flat_map(|s| s.label_values.clone()).collect();
    let n_lines: usize = families
        .iter()
        .map(|f| f.series.len() * if f.metric_type == MetricType::Summary { 2 } else { 1 })
        .sum();
    let catalog = Catalog { version: input + 1, families };
    let snapshot = Snapshot {
        catalog: catalog.into(),
        numbers,
        per_worker: Vec::new(),
        exemplars: Vec::new(),
        natives: Vec::new(),
        peeked: false,
    };
    let mut page = Vec::new();
    renderer.text(&snapshot, &mut page);
    let page = String::from_utf8(page).expect("UTF-8");
    let read = check_lines(&page);
    assert_eq!(read.len(), n_lines, "{page}");
    for value in &values {
        let shown = |line: &Vec<String>| line.contains(value);
        assert!(read.iter().any(shown), "the label value {value:?} is not in {page}");
    }
}

/// Each line is a comment or a sample whose labels are well formed; returns each sample's label values.
fn check_lines(page: &str) -> Vec<Vec<String>> {
    assert!(page.is_empty() || page.ends_with('\n'));
    let samples = page.split_terminator('\n').filter(|line| !line.starts_with("# "));
    samples.map(|line| labels(line).unwrap_or_else(|| panic!("no sample: {line:?}"))).collect()
}

/// The label values of a sample, unescaped; None when it is none.
fn labels(line: &str) -> Option<Vec<String>> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut rest = line.trim_start_matches(legal);
    if rest.len() == line.len() {
        return None;
    }
    let mut values = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let after = rest.trim_start_matches(legal);
            if after.len() == rest.len() {
                return None;
            }
            let (value, after) = quoted(after.strip_prefix("=\"")?)?;
            values.push(value);
            rest = match after.strip_prefix(',') {
                Some(more) => more,
                None => break rest = after.strip_prefix('}')?,
            };
        }
    }
    rest.strip_prefix(' ')?.parse::<f64>().ok()?;
    Some(values)
}

/// A quoted value and what follows its closing quote.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                escaped @ ('\\' | '"') => escaped,
                _ => return None,
            }),
            '\n' => return None,
            c => value.push(c),
        }
    }
    None
}

// ---------------------------------------------------------------------------------------------
// Requests

/// Requests that one listener gets; told by the number of the first.
const REQUESTS: usize = 500;

/// Requests cut, doubled and scribbled over, to a listener that must answer the next honest one.
fn request(inputs: std::ops::Range<u64>) {
    const HONEST: &str =
        "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: text/plain\r\nAccept-Encoding: gzip\r\n\r\n";
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr();
    let server = fork(move || {
        let answer = |_: &Asked| Answer {
            content_type: "text/plain",
            content_encoding: None,
            body: "x 1\n".into(),
        };
        let round = || ControlFlow::Continue(());
        serve(listener, Limits::default(), answer, Duration::from_secs(1), round).unwrap();
    });
    let ask = |bytes: &[u8], more_to_come: bool| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let _ = stream.write_all(bytes);
        if !more_to_come {
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
        let mut answer = Vec::new();
        let done = stream.read_to_end(&mut answer);
        assert!(
            done.is_ok() || done.unwrap_err().kind() != std::io::ErrorKind::WouldBlock,
            "hangs"
        );
        answer
    };
    for input in inputs {
        let mut random = Random::of(input);
        let mut bytes = HONEST.as_bytes().to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len() + 1);
            match random.below(4) {
                0 => bytes.truncate(at.max(1)),
                1 => drop(bytes.splice(at..at, random.text().into_bytes())),
                2 => drop(bytes.splice(at..at, bytes.clone())),
                _ => drop(bytes.splice(at..at, [random.next() as u8])),
            }
        }
        let answer = ask(&bytes, false);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{input}: {bytes:?}");
        if input.is_multiple_of(50) {
            assert!(
                ask(HONEST.as_bytes(), true).starts_with(b"HTTP/1.1 200"),
                "after input {input}"
            );
        }
    }
    drop(server);
}

/// Runs all inputs; the first that fails ends it, told by its number.
fn all(what: &str, inputs: impl Iterator<Item = u64>, mut run: impl FnMut(u64)) -> bool {
    let (started, mut n) = (Instant::now(), 0);
    for input in inputs {
        n += 1;
        // Whoever hangs on an input is ended by the alarm.
        // SAFETY: an integer only.
        unsafe { libc::alarm(20) };
        if catch_unwind(AssertUnwindSafe(|| run(input))).is_err() {
            println!("{what}: input {input} fails");
            return false;
        }
    }
    // SAFETY: as above.
    unsafe { libc::alarm(0) };
    println!("{what}: {n} in {:.1} s", started.elapsed().as_secs_f64());
    true
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|w| !w.starts_with('-')).collect();
    let mut numbers = words.iter().filter_map(|word| word.parse().ok());
    let runs: u64 = numbers.next().unwrap_or(20_000);
    let seed: u64 = numbers.next().unwrap_or(0);
    let targets: Vec<&str> =
        words.iter().filter(|word| word.parse::<u64>().is_err()).map(String::as_str).collect();
    // The numbers of a target's inputs; `share`: of how many the target gets one when all are run.
    let inputs = |target: &str, share: u64| match targets.is_empty() {
        true => seed..seed + runs.div_ceil(share),
        false if targets.contains(&target) => seed..seed + runs,
        false => seed..seed,
    };
    let images = Images::new();
    let mut renderer = Renderer::new();
    let good = all("images of the segment", inputs("images", 1), |input| images.run(input))
        && all("expositions", inputs("expositions", 1), |input| expose(input, &mut renderer))
        && all("listeners, 500 requests each", inputs("requests", 100).step_by(REQUESTS), |from| {
            request(from..(from + REQUESTS as u64).min(inputs("requests", 100).end));
        });
    ExitCode::from(u8::from(!good))
}
