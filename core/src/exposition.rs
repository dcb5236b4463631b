//! snapshot -> bytes: the text format 0.0.4. Pure functions over plain data.
//!
//! Everything of a line but its number – `name{label="value"} ` – is rendered once per change of the
//! catalog and kept; a scrape copies prefixes and formats numbers. What the format cannot carry is
//! escaped here and nowhere else: names become legal by the `underscores` scheme (illegal characters
//! to `_`), and where that, or a histogram's `_sum`, would meet another family's sample name, the
//! later family goes out under the `values` scheme (`U__…`), so no sample is lost and none stands
//! twice. Rules: Prometheus' `exposition_formats.md` and `escaping_schemes.md`.

use std::collections::HashSet;

use crate::snapshot::{Catalog, CatalogFamily, CatalogSeries, MetricType, Snapshot, WorkerSample};

/// The `Content-Type` of [`Renderer::text`].
pub const CONTENT_TYPE_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Renders snapshots, keeping what does not change between them.
#[derive(Default)]
pub struct Renderer {
    version: Option<u64>,
    families: Vec<FamilyText>,
    /// Bytes of the last page: what the next one will about need.
    page_bytes: usize,
}

/// The unchanging text of one family.
struct FamilyText {
    /// `# HELP` and `# TYPE`.
    head: Vec<u8>,
    name: String,
    metric_type: MetricType,
    label_names: Vec<String>,
    /// Numbers per series in the snapshot.
    n_numbers: usize,
    n_series: usize,
    /// Lines whose prefix ends at `ends[i]` in `prefixes`.
    prefixes: Vec<u8>,
    ends: Vec<usize>,
    /// A histogram whose buckets go below zero has no `_sum` (it would not be a counter).
    has_sum: bool,
}

impl Renderer {
    /// With nothing kept yet.
    pub fn new() -> Renderer {
        Renderer::default()
    }

    /// Appends the page in text format 0.0.4.
    ///
    /// ```
    /// use promring::exposition::Renderer;
    /// use promring::snapshot::{Catalog, CatalogFamily, CatalogSeries, MetricType, Snapshot};
    /// let catalog = Catalog {
    ///     version: 1,
    ///     families: vec![CatalogFamily {
    ///         name: "jobs_total".into(),
    ///         help: "Jobs done.".into(),
    ///         unit: String::new(),
    ///         metric_type: MetricType::Counter,
    ///         label_names: vec!["queue".into()],
    ///         buckets: vec![],
    ///         series: vec![CatalogSeries {
    ///             extra_label: None,
    ///             label_values: vec!["a \"b\"".into()],
    ///             created_seconds: 0.0,
    ///         }],
    ///     }],
    /// };
    /// let snapshot = Snapshot {
    ///     catalog: catalog.into(),
    ///     numbers: vec![[3.0, 0.0]],
    ///     per_worker: vec![],
    ///     peeked: false,
    /// };
    /// let mut page = Vec::new();
    /// Renderer::new().text(&snapshot, &mut page);
    /// assert_eq!(
    ///     String::from_utf8(page).unwrap(),
    ///     "# HELP jobs_total Jobs done.\n# TYPE jobs_total counter\njobs_total{queue=\"a \\\"b\\\"\"} 3\n"
    /// );
    /// ```
    pub fn text(&mut self, snapshot: &Snapshot, out: &mut Vec<u8>) {
        if self.version != Some(snapshot.catalog.version) {
            self.families = family_texts(&snapshot.catalog);
            self.version = Some(snapshot.catalog.version);
        }
        let start = out.len();
        out.reserve(self.page_bytes + self.page_bytes / 8);
        let mut numbers = snapshot.numbers.as_slice();
        let mut samples = snapshot.per_worker.as_slice();
        for (i, (text, family)) in self.families.iter().zip(&snapshot.catalog.families).enumerate()
        {
            let (mine, rest) = numbers.split_at(numbers.len().min(text.n_series * text.n_numbers));
            let ours = samples.iter().take_while(|sample| sample.family == i as u32).count();
            out.extend_from_slice(&text.head);
            text.write_series(mine, out);
            text.write_worker_samples(family, &samples[..ours], out);
            (numbers, samples) = (rest, &samples[ours..]);
        }
        self.page_bytes = out.len() - start;
    }
}

impl FamilyText {
    fn write_series(&self, numbers: &[[f64; 2]], out: &mut Vec<u8>) {
        let mut lines = Lines { text: self, at: 0, from: 0 };
        match self.metric_type {
            MetricType::Counter => numbers.iter().for_each(|[value, _]| lines.write(*value, out)),
            MetricType::Gauge => {
                for [value, present] in numbers {
                    if *present == 0.0 {
                        lines.skip();
                    } else {
                        lines.write(*value, out);
                    }
                }
            }
            MetricType::Summary => {
                for [count, sum] in numbers {
                    lines.write(*sum, out);
                    lines.write(*count, out);
                }
            }
            MetricType::Histogram => {
                for buckets in numbers.chunks_exact(self.n_numbers) {
                    let (mut count, mut sum) = (0.0, 0.0);
                    for [n, s] in buckets {
                        count += n;
                        sum += s;
                        lines.write(count, out);
                    }
                    if self.has_sum {
                        lines.write(sum, out);
                    }
                    lines.write(count, out);
                }
            }
        }
    }

    /// Samples of the per-worker gauge modes: few, so their lines are not kept.
    fn write_worker_samples(
        &self,
        family: &CatalogFamily,
        samples: &[WorkerSample],
        out: &mut Vec<u8>,
    ) {
        for sample in samples {
            let Some(series) = family.series.get(sample.series as usize) else { continue };
            let mut label = sample.label_name.to_string();
            while self.label_names.contains(&label) {
                label.insert_str(0, "promring_"); // the family has a label of that name itself
            }
            let extra = [(label.as_str(), sample.label_value.as_str())];
            write_prefix(&self.name, "", &self.label_names, series, &extra, out);
            write_number(sample.value, out);
            out.push(b'\n');
        }
    }
}

/// Walks a family's prefixes in step with its numbers.
struct Lines<'a> {
    text: &'a FamilyText,
    at: usize,
    from: usize,
}

impl Lines<'_> {
    #[inline]
    fn write(&mut self, value: f64, out: &mut Vec<u8>) {
        let end = self.text.ends[self.at];
        out.extend_from_slice(&self.text.prefixes[self.from..end]);
        write_number(value, out);
        out.push(b'\n');
        (self.at, self.from) = (self.at + 1, end);
    }

    fn skip(&mut self) {
        (self.at, self.from) = (self.at + 1, self.text.ends[self.at]);
    }
}

/// Whole numbers without a point; the rest as the shortest text that reads back the same.
#[inline]
fn write_number(value: f64, out: &mut Vec<u8>) {
    let whole = value as i64;
    if whole as f64 == value && whole.unsigned_abs() < 1 << 53 {
        out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    } else if value.is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    } else if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    }
}

// ---------------------------------------------------------------------------------------------
// What is kept

fn family_texts(catalog: &Catalog) -> Vec<FamilyText> {
    let mut taken = HashSet::new();
    catalog.families.iter().map(|family| family_text(family, &mut taken)).collect()
}

fn family_text(family: &CatalogFamily, taken: &mut HashSet<String>) -> FamilyText {
    let name = free_name(&family.name, family.metric_type, taken);
    let label_names = legal_labels(&family.label_names);
    let mut text = FamilyText {
        head: head(&name, family),
        metric_type: family.metric_type,
        n_numbers: if family.metric_type == MetricType::Histogram {
            family.buckets.len() + 1
        } else {
            1
        },
        n_series: family.series.len(),
        prefixes: Vec::new(),
        ends: Vec::new(),
        has_sum: family.buckets.first().is_none_or(|first| *first >= 0.0),
        name,
        label_names,
    };
    let bounds: Vec<String> =
        family.buckets.iter().map(|bound| bound_text(*bound)).chain(["+Inf".to_string()]).collect();
    for series in &family.series {
        text.add_series(series, &bounds);
    }
    text
}

impl FamilyText {
    fn add_series(&mut self, series: &CatalogSeries, bounds: &[String]) {
        match self.metric_type {
            MetricType::Counter | MetricType::Gauge => self.add_line("", series, &[]),
            MetricType::Summary => {
                self.add_line("_sum", series, &[]);
                self.add_line("_count", series, &[]);
            }
            MetricType::Histogram => {
                for bound in bounds {
                    self.add_line("_bucket", series, &[("le", bound)]);
                }
                if self.has_sum {
                    self.add_line("_sum", series, &[]);
                }
                self.add_line("_count", series, &[]);
            }
        }
    }

    fn add_line(&mut self, suffix: &str, series: &CatalogSeries, extra: &[(&str, &str)]) {
        write_prefix(&self.name, suffix, &self.label_names, series, extra, &mut self.prefixes);
        self.ends.push(self.prefixes.len());
    }
}

fn head(name: &str, family: &CatalogFamily) -> Vec<u8> {
    let mut head = Vec::new();
    if !family.help.is_empty() {
        let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
        head.extend_from_slice(format!("# HELP {name} {help}\n").as_bytes());
    }
    head.extend_from_slice(format!("# TYPE {name} {}\n", family.metric_type.as_str()).as_bytes());
    head
}

/// `name_suffix{own labels, overflow mark, extra} `.
fn write_prefix(
    name: &str,
    suffix: &str,
    label_names: &[String],
    series: &CatalogSeries,
    extra: &[(&str, &str)],
    out: &mut Vec<u8>,
) {
    let own =
        label_names.iter().map(String::as_str).zip(series.label_values.iter().map(String::as_str));
    let mark = series.extra_label.iter().map(|(name, value)| (*name, value.as_str()));
    let mut opener = b'{';
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(suffix.as_bytes());
    for (label, value) in own.chain(mark).chain(extra.iter().copied()) {
        out.push(opener);
        opener = b',';
        out.extend_from_slice(label.as_bytes());
        out.extend_from_slice(b"=\"");
        for byte in value.bytes() {
            match byte {
                b'\\' => out.extend_from_slice(b"\\\\"),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'"' => out.extend_from_slice(b"\\\""),
                other => out.push(other),
            }
        }
        out.push(b'"');
    }
    out.extend_from_slice(if opener == b'{' { b" " } else { b"} " });
}

/// A bucket's bound as prometheus_client writes it: Python's `repr`, but an exponent from a million on
/// (`0.005`, `1.0`, `1e+06`).
fn bound_text(bound: f64) -> String {
    let size = bound.abs();
    if size != 0.0 && !(1e-4..1e6).contains(&size) {
        let text = format!("{bound:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        return format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
    format!("{bound:?}")
}

// ---------------------------------------------------------------------------------------------
// Names

/// The family's name in this format, reserving the names of all its samples.
fn free_name(name: &str, metric_type: MetricType, taken: &mut HashSet<String>) -> String {
    let suffixes: &[&str] = match metric_type {
        MetricType::Counter | MetricType::Gauge => &[""],
        MetricType::Summary => &["", "_sum", "_count"],
        MetricType::Histogram => &["", "_bucket", "_sum", "_count"],
    };
    let mut candidate = underscored(name, true);
    while suffixes.iter().any(|suffix| taken.contains(&format!("{candidate}{suffix}"))) {
        candidate = values_escaped(&candidate);
    }
    taken.extend(suffixes.iter().map(|suffix| format!("{candidate}{suffix}")));
    candidate
}

fn legal_labels(names: &[String]) -> Vec<String> {
    let mut legal: Vec<String> = Vec::new();
    for name in names {
        let mut candidate = underscored(name, false);
        while legal.contains(&candidate) {
            candidate = values_escaped(&candidate);
        }
        legal.push(candidate);
    }
    legal
}

fn is_legal(c: char, first: bool, colon: bool) -> bool {
    c.is_ascii_alphabetic() || c == '_' || (c == ':' && colon) || (c.is_ascii_digit() && !first)
}

/// The `underscores` scheme.
fn underscored(name: &str, colon: bool) -> String {
    name.chars()
        .enumerate()
        .map(|(i, c)| if is_legal(c, i == 0, colon) { c } else { '_' })
        .collect()
}

/// The `values` scheme's form, also of names that would not need it.
fn values_escaped(name: &str) -> String {
    format!("U__{}", name.replace('_', "__"))
}
