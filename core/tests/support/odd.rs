//! Odd snapshots by the number: names, labels and values that formats trip over; the same number, the same snapshot.

use promring::snapshot::{
    Catalog, CatalogFamily, CatalogSeries, Exemplar, MetricType, Native, NativeHistogram,
    SeriesExemplar, SeriesNative, Snapshot, WorkerSample,
};

/// xorshift: small, seeded, ours.
pub struct Random(u64);

#[allow(dead_code)] // not every test file uses every helper
impl Random {
    /// From a seed; 0 will do.
    pub fn new(seed: u64) -> Random {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.next();
        random.next();
        random
    }

    /// 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Less than `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() >> 11) as usize % n
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Names that escape to the same, that end like samples of others, that are hardly names.
pub const NAMES: &[&str] = &[
    "a",
    "a_b",
    "a.b",
    "a-b",
    "a b",
    "a__b",
    "U__a_2e_b",
    "a_sum",
    "a_count",
    "a_bucket",
    "a_total",
    "a_created",
    "a_created_total",
    "b_total",
    "b",
    "b_created",
    "total",
    "a_info",
    "é",
    "名前",
    "0x",
    "_",
    ":",
    "a:b",
    "a_seconds",
    "a_seconds_total",
    "le",
    "# EOF",
    "\"",
    "{}",
    "a\\",
    "a\"b",
    "🦀_total",
    "U__",
    "nan",
    "__name__",
    "a_seconds_bucket",
    "http_requests_total",
];
#[allow(dead_code)] // as above
pub const LABELS: &[&str] = &[
    "k",
    "a.b",
    "a_b",
    "a-b",
    "é",
    "0",
    "le ",
    "l.e",
    "..x",
    ".._name_..",
    "a:b",
    "\"",
    "\\",
    "pid",
    "worker",
    "{",
    "U__a_2e_b",
    "path",
    "code",
    "method",
    "promring_pid",
];
const TEXTS: &[&str] = &[
    "",
    "x",
    "GET",
    "/a/b?c=d",
    "\"",
    "\\",
    "\n",
    "\\n",
    "a\"} 1\nforged 1",
    "\r",
    "\r\n",
    "\t",
    "\0",
    " ",
    "é",
    "名前",
    "🦀",
    "\u{feff}",
    "\u{2028}",
    "# EOF",
    "# EOF\n",
    "{",
    "}",
    ",",
    "=",
    "+Inf",
    "\u{85}",
    "\u{7f}",
    "a b ",
];
const UNITS: &[&str] = &["", "", "seconds", "b", "bytes", "\n"];
const BOUNDS: &[f64] = &[
    -1e9,
    -1.0,
    -0.5,
    0.0,
    1e-300,
    1e-7,
    1e-5,
    1e-4,
    0.005,
    0.1,
    0.30000000000000004,
    1.0,
    2.5,
    10.0,
    123456.0,
    999999.0,
    1e6,
    1234567.0,
    1e15,
    1e21,
    1e22,
    1.7976931348623157e308,
];
const AMOUNTS: &[f64] = &[
    0.0,
    1.0,
    2.0,
    3.5,
    0.1,
    0.30000000000000004,
    1e-320,
    5e-324,
    1e-7,
    1e5,
    1e6,
    1e15,
    1e16,
    1e21,
    1e22,
    1e300,
    9007199254740991.0,
    9007199254740992.0,
    9007199254740993.0,
    9223372036854775807.0,
    1.8446744073709552e19,
    1.7976931348623157e308,
    123456789.125,
    1700000000.123456,
];
const ODD: &[f64] =
    &[-0.0, -1.0, -2.5, -1e22, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE];

/// Up to three texts in one.
fn text(random: &mut Random) -> String {
    (0..random.below(4)).map(|_| *random.pick(TEXTS)).collect()
}

fn amount(random: &mut Random) -> f64 {
    match random.below(3) {
        0 => *random.pick(AMOUNTS),
        1 => random.below(1_000) as f64,
        _ => f64::from_bits(random.next()).abs(),
    }
}

/// A count: whole, or with a fraction where events were sampled; some are odd, none so large that a
/// sum of them would not be finite.
fn count(random: &mut Random, sampled: bool) -> f64 {
    let whole = random.below(10_000) as f64;
    if sampled {
        whole + 1.0 / 7.0
    } else {
        whole
    }
}

fn finite(value: f64) -> f64 {
    if value.is_finite() {
        value
    } else {
        1.0
    }
}

fn distinct(random: &mut Random, from: &[&str], n: usize) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for _ in 0..n {
        let name = random.pick(from).to_string();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn family(random: &mut Random, name: String) -> CatalogFamily {
    let metric_type = *random.pick(&[
        MetricType::Counter,
        MetricType::Gauge,
        MetricType::Histogram,
        MetricType::Summary,
    ]);
    let mut buckets: Vec<f64> = Vec::new();
    if metric_type == MetricType::Histogram {
        buckets = (0..1 + random.below(6)).map(|_| *random.pick(BOUNDS)).collect();
        if !random.once_in(4) {
            buckets = buckets.iter().map(|bound| bound.abs()).collect();
        }
        buckets.sort_by(f64::total_cmp);
        buckets.dedup();
    }
    let mut native = None;
    if metric_type == MetricType::Histogram && random.once_in(2) {
        native = Some(Native::new(random.below(13) as i8 - 4));
        if random.once_in(2) {
            buckets.clear();
        }
    }
    if metric_type == MetricType::Summary && random.once_in(2) {
        native = Some(Native::new(3));
        buckets = [0.0, 0.25, 0.5, 0.9, 0.999, 1.0][..1 + random.below(6)].to_vec();
    }
    let info = metric_type == MetricType::Gauge && random.once_in(4);
    let n_labels = random.below(4);
    let label_names = distinct(random, LABELS, n_labels);
    let mut series: Vec<CatalogSeries> = Vec::new();
    for _ in 0..random.below(5) {
        let label_values: Vec<String> = label_names.iter().map(|_| text(random)).collect();
        if !series.iter().any(|other| other.label_values == label_values) {
            let created_seconds = *random.pick(&[0.0, 1.0, 1700000000.0, 1764000000.123456]);
            series.push(CatalogSeries { extra_label: None, label_values, created_seconds });
        }
    }
    if !label_names.is_empty() && random.once_in(4) {
        let extra_label = Some(("promring_overflow", "true".to_string()));
        series.push(CatalogSeries { extra_label, label_values: vec![], created_seconds: 1.5 });
    }
    let (help, unit) = (text(random), random.pick(UNITS).to_string());
    CatalogFamily { name, help, unit, metric_type, label_names, buckets, native, info, series }
}

fn numbers(random: &mut Random, family: &CatalogFamily, out: &mut Vec<[f64; 2]>) {
    let sampled = random.once_in(3);
    let negative = family.buckets.first().is_some_and(|first| *first < 0.0) || random.once_in(5);
    for _ in &family.series {
        match family.metric_type {
            MetricType::Counter => out.push([finite(amount(random)), 0.0]),
            MetricType::Gauge if family.info => out.push([1.0, 1.0]),
            MetricType::Gauge if random.once_in(4) => out.push([0.0, 0.0]),
            MetricType::Gauge if random.once_in(3) => out.push([*random.pick(ODD), 1.0]),
            MetricType::Gauge => out.push([amount(random), 1.0]),
            MetricType::Summary => {
                let sum = count(random, true) * if negative { -1.0 } else { 1.0 };
                out.push([count(random, sampled), sum]);
                for _ in &family.buckets {
                    out.push([if random.once_in(4) { f64::NAN } else { amount(random) }, 0.0]);
                }
            }
            MetricType::Histogram => {
                for _ in 0..=family.buckets.len() {
                    let sum = count(random, true) * if negative { -1.0 } else { 1.0 };
                    out.push([count(random, sampled), sum]);
                }
            }
        }
    }
}

fn worker_samples(random: &mut Random, families: &[CatalogFamily]) -> Vec<WorkerSample> {
    let mut samples = Vec::new();
    for (f, family) in families.iter().enumerate() {
        for s in 0..family.series.len() {
            if family.metric_type == MetricType::Gauge && !family.info && random.once_in(2) {
                let label_name = if f % 2 == 0 { "pid" } else { "worker" };
                samples.extend((0..random.below(3)).map(|worker| WorkerSample {
                    family: f as u32,
                    series: s as u32,
                    label_name,
                    label_value: worker.to_string(),
                    value: worker as f64 + 0.5,
                }));
            }
        }
    }
    samples
}

/// Exemplars of some counters and buckets, each inside of its bucket.
fn exemplars(random: &mut Random, families: &[CatalogFamily]) -> Vec<SeriesExemplar> {
    let mut all = Vec::new();
    for (f, family) in families.iter().enumerate() {
        let histogram = family.metric_type == MetricType::Histogram;
        if !histogram && family.metric_type != MetricType::Counter {
            continue;
        }
        for (s, bucket) in (0..family.series.len())
            .flat_map(|s| (0..=family.buckets.len()).map(move |bucket| (s, bucket)))
        {
            if random.once_in(3) {
                let above = family.buckets.last().map_or(0.5, |last| last.abs() * 2.0 + 1.0);
                if bucket == family.buckets.len() && above.is_infinite() {
                    continue; // nothing finite is above the last bound
                }
                let n_labels = random.below(4);
                let labels = distinct(random, LABELS, n_labels)
                    .into_iter()
                    .map(|name| (name, text(random).chars().take(20).collect()))
                    .collect();
                let value = family.buckets.get(bucket).copied().unwrap_or(above);
                let unix_seconds = 1764000000.0 + random.below(1000) as f64 / 8.0;
                let exemplar = Exemplar { labels, value, unix_seconds };
                let (family, series, bucket) = (f as u32, s as u32, bucket as u32);
                all.push(SeriesExemplar { family, series, bucket, exemplar });
            }
        }
    }
    all
}

/// Exponential buckets of the histograms that have them.
fn natives(random: &mut Random, families: &[CatalogFamily]) -> Vec<SeriesNative> {
    let mut all = Vec::new();
    for (f, family) in families.iter().enumerate() {
        let Some(native) = family.native else { continue };
        if family.metric_type != MetricType::Histogram {
            continue;
        }
        for series in 0..family.series.len() as u32 {
            let sampled = random.once_in(3);
            let (negative, positive) = (side(random, sampled), side(random, sampled));
            let zero_count = count(random, sampled);
            let counts = negative.iter().chain(&positive).map(|(_, count)| count);
            let histogram = NativeHistogram {
                schema: native.schema,
                zero_threshold: native.zero_threshold(),
                zero_count,
                count: counts.sum::<f64>() + zero_count,
                sum: 1.5,
                negative,
                positive,
            };
            all.push(SeriesNative { family: f as u32, series, histogram });
        }
    }
    all
}

/// Exponential buckets count what the classic ones do.
fn agree(numbers: &mut [[f64; 2]], families: &[CatalogFamily], natives: &[SeriesNative]) {
    let (mut rest, mut natives) = (numbers, natives.iter());
    for family in families {
        for _ in &family.series {
            let (own, others) = rest.split_at_mut(family.buckets.len() + 1);
            rest = others;
            let has = family.native.is_some() && family.metric_type == MetricType::Histogram;
            if let Some(native) = has.then(|| natives.next()).flatten() {
                own.fill([0.0, 0.0]);
                own[0] = [native.histogram.count, native.histogram.sum];
            }
        }
    }
}

/// Buckets of one side, some of them neighbours.
fn side(random: &mut Random, sampled: bool) -> Vec<(i32, f64)> {
    let mut index = random.below(500) as i32 - 250;
    let mut buckets = Vec::new();
    for _ in 0..random.below(12) {
        index += 1 + if random.once_in(2) { 0 } else { random.below(40) as i32 };
        buckets.push((index, 1.0 + count(random, sampled)));
    }
    buckets
}

/// The snapshot of that number.
pub fn snapshot(seed: u64) -> Snapshot {
    let mut random = Random::new(seed);
    let n = random.below(9);
    let names = distinct(&mut random, NAMES, n);
    let families: Vec<CatalogFamily> =
        names.into_iter().map(|name| family(&mut random, name)).collect();
    let mut all = Vec::new();
    for family in &families {
        numbers(&mut random, family, &mut all);
    }
    let per_worker = worker_samples(&mut random, &families);
    let exemplars =
        if seed.is_multiple_of(2) { Vec::new() } else { exemplars(&mut random, &families) };
    let natives = natives(&mut random, &families);
    agree(&mut all, &families, &natives);
    let catalog = Catalog { version: seed, families };
    Snapshot {
        catalog: catalog.into(),
        numbers: all,
        per_worker,
        exemplars,
        natives,
        peeked: false,
    }
}
