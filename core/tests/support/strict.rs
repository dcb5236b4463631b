//! A reader of the text formats that forgives nothing: whatever the specifications forbid is an error.
//!
//! Written from Prometheus' `exposition_formats.md` and the OpenMetrics 1.0 specification, without a look
//! at the encoder. promtool and Prometheus let duplicate series, broken buckets and split families pass.

use std::collections::{BTreeMap, HashSet};

/// What is read.
#[derive(Clone, Copy, PartialEq, Debug)]
#[allow(dead_code)] // not every test file reads every dialect
pub enum Dialect {
    /// 0.0.4.
    Text,
    /// 1.0.0.
    TextUtf8,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// A metric family as it stood on the page.
#[derive(Debug, Default)]
pub struct Family {
    pub name: String,
    pub type_word: String,
    pub help: Option<String>,
    pub unit: Option<String>,
    pub samples: Vec<Sample>,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: f64,
    pub exemplar: Option<Exemplar>,
}

/// What stands behind a line's value.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    pub labels: Vec<(String, String)>,
    pub value: f64,
    pub timestamp: f64,
}

impl Sample {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Its labels without one, in an order of their own.
    fn labels_without(&self, name: &str) -> BTreeMap<&str, &str> {
        let others = self.labels.iter().filter(|(n, _)| n != name);
        others.map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
}

type Result<T> = std::result::Result<T, String>;

fn ensure(condition: bool, complaint: impl FnOnce() -> String) -> Result<()> {
    if condition {
        Ok(())
    } else {
        Err(complaint())
    }
}

/// Reads a page.
pub fn read(page: &[u8], dialect: Dialect) -> Result<Vec<Family>> {
    let text = std::str::from_utf8(page).map_err(|error| error.to_string())?;
    let mut lines: Vec<&str> = text.split('\n').collect();
    ensure(lines.pop() == Some(""), || "no line feed at the end".into())?;
    if dialect == Dialect::OpenMetrics {
        ensure(lines.pop() == Some("# EOF"), || "no # EOF at the end".into())?;
    }
    let mut families: Vec<Family> = Vec::new();
    for line in lines {
        read_line(line, dialect, &mut families).map_err(|error| format!("{error}: {line:?}"))?;
    }
    check_names(&families, dialect)?;
    for family in &families {
        check_family(family, dialect).map_err(|error| format!("{}: {error}", family.name))?;
    }
    Ok(families)
}

fn read_line(line: &str, dialect: Dialect, families: &mut Vec<Family>) -> Result<()> {
    if let Some(rest) = line.strip_prefix("# ") {
        let (keyword, rest) = rest.split_once(' ').ok_or("half a comment")?;
        let mut cursor = Cursor { rest, dialect };
        let name = cursor.metric_name()?;
        let text = cursor.rest.strip_prefix(' ').ok_or("no space after the name")?;
        return read_metadata(keyword, name, text, dialect, families);
    }
    let mut cursor = Cursor { rest: line, dialect };
    let sample = cursor.sample()?;
    let family = families.last_mut().ok_or("a sample before any TYPE")?;
    ensure(!family.type_word.is_empty(), || "a sample before its TYPE".into())?;
    let suffix = sample.name.strip_prefix(&family.name).ok_or("a sample of another family")?;
    ensure(suffixes(family, dialect).contains(&suffix), || format!("suffix {suffix:?}"))?;
    family.samples.push(sample);
    Ok(())
}

fn read_metadata(
    keyword: &str,
    name: String,
    text: &str,
    dialect: Dialect,
    families: &mut Vec<Family>,
) -> Result<()> {
    if families.last().is_none_or(|family| family.name != name) {
        let known = families.iter().any(|family| family.name == name);
        ensure(!known, || "the family stands in two places".into())?;
        families.push(Family { name, ..Family::default() });
    }
    let Some(family) = families.last_mut() else { return Ok(()) };
    ensure(family.samples.is_empty(), || "metadata after samples".into())?;
    match keyword {
        "HELP" => {
            ensure(family.help.is_none(), || "a second HELP".into())?;
            family.help = Some(unescape(text, dialect == Dialect::OpenMetrics)?);
        }
        "TYPE" => {
            ensure(family.type_word.is_empty(), || "a second TYPE".into())?;
            let words: &[&str] = match dialect {
                Dialect::OpenMetrics => {
                    &["counter", "gauge", "histogram", "info", "summary", "unknown"]
                }
                _ => &["counter", "gauge", "histogram", "summary", "untyped"],
            };
            ensure(words.contains(&text), || format!("no type of this format: {text}"))?;
            family.type_word = text.to_string();
        }
        "UNIT" if dialect == Dialect::OpenMetrics => {
            ensure(family.unit.is_none(), || "a second UNIT".into())?;
            let ends = family.name.ends_with(&format!("_{text}"));
            ensure(ends && !text.is_empty(), || "the name does not end with the unit".into())?;
            family.unit = Some(text.to_string());
        }
        _ => return Err("a comment that is no metadata".into()),
    }
    Ok(())
}

fn suffixes(family: &Family, dialect: Dialect) -> &'static [&'static str] {
    match (family.type_word.as_str(), dialect) {
        ("counter", Dialect::OpenMetrics) => &["_total", "_created"],
        ("summary", Dialect::OpenMetrics) => &["", "_sum", "_count", "_created"],
        ("summary", _) => &["", "_sum", "_count"],
        ("info", Dialect::OpenMetrics) => &["_info"],
        ("histogram", Dialect::OpenMetrics) => &["_bucket", "_sum", "_count", "_created"],
        ("histogram", _) => &["_bucket", "_sum", "_count"],
        _ => &[""],
    }
}

// ---------------------------------------------------------------------------------------------
// Characters

struct Cursor<'a> {
    rest: &'a str,
    dialect: Dialect,
}

fn legal(name: &str, colon: bool) -> bool {
    let mut bytes = name.bytes();
    let letter = |b: u8| b.is_ascii_alphabetic() || b == b'_' || (colon && b == b':');
    bytes.next().is_some_and(letter) && bytes.all(|b| letter(b) || b.is_ascii_digit())
}

impl Cursor<'_> {
    fn take(&mut self, wanted: &str) -> Result<()> {
        self.rest = self.rest.strip_prefix(wanted).ok_or_else(|| format!("no {wanted:?}"))?;
        Ok(())
    }

    fn quoted(&mut self) -> Result<String> {
        self.take("\"")?;
        let mut escaped = false;
        let end = self.rest.bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        });
        let (inside, rest) = self.rest.split_at(end.ok_or("a quote is not closed")?);
        self.rest = &rest[1..];
        unescape(inside, true)
    }

    fn name(&mut self, colon: bool) -> Result<String> {
        if self.rest.starts_with('"') {
            ensure(self.dialect != Dialect::Text, || "a quoted name in 0.0.4".into())?;
            let name = self.quoted()?;
            ensure(!legal(&name, colon), || "quotes around a name that needs none".into())?;
            ensure(!name.is_empty(), || "an empty name".into())?;
            return Ok(name);
        }
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b':';
        let end = self.rest.bytes().position(|b| !is_name(b)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        ensure(legal(name, colon), || format!("no legal name: {name:?}"))?;
        Ok(name.to_string())
    }

    fn metric_name(&mut self) -> Result<String> {
        self.name(true)
    }

    fn sample(&mut self) -> Result<Sample> {
        let mut labels: Vec<(String, String)> = Vec::new();
        let mut name = None;
        if !self.rest.starts_with('{') {
            name = Some(self.metric_name()?);
        }
        if self.rest.starts_with('{') {
            self.take("{")?;
            if name.is_none() {
                name = Some(self.metric_name()?);
                ensure(self.rest.starts_with([',', '}']), || "no comma after the name".into())?;
                let _ = self.take(",");
            }
            labels = self.labels_to_the_brace()?;
            let reserved = labels.iter().any(|(label, _)| label.starts_with("__"));
            ensure(!reserved, || "a reserved label".into())?;
        }
        self.take(" ")?;
        let name = name.ok_or("no name")?;
        let (value, exemplar) = match self.rest.split_once(" # {") {
            Some((value, rest)) if self.dialect == Dialect::OpenMetrics => {
                let has_one = name.ends_with("_total") || name.ends_with("_bucket");
                ensure(has_one, || "an exemplar where none may be".into())?;
                self.rest = rest;
                (number(value)?, Some(self.exemplar()?))
            }
            _ => (number(self.rest)?, None),
        };
        Ok(Sample { name, labels, value, exemplar })
    }

    fn exemplar(&mut self) -> Result<Exemplar> {
        let labels = self.labels_to_the_brace()?;
        self.take(" ")?;
        let (value, timestamp) = self.rest.split_once(' ').ok_or("no timestamp")?;
        let length =
            labels.iter().map(|(n, v)| n.chars().count() + v.chars().count()).sum::<usize>();
        ensure(length <= 128, || format!("an exemplar of {length} characters"))?;
        Ok(Exemplar { labels, value: number(value)?, timestamp: number(timestamp)? })
    }

    /// `label="value",…}`: what follows an opened brace.
    fn labels_to_the_brace(&mut self) -> Result<Vec<(String, String)>> {
        let mut labels: Vec<(String, String)> = Vec::new();
        while !self.rest.starts_with('}') {
            let label = self.name(false)?;
            self.take("=")?;
            let value = self.quoted()?;
            ensure(labels.iter().all(|(l, _)| *l != label), || "a label twice".into())?;
            labels.push((label, value));
            if !self.rest.starts_with('}') {
                self.take(",")?;
                ensure(!self.rest.starts_with('}'), || "a comma at the end".into())?;
            }
        }
        self.take("}")?;
        Ok(labels)
    }
}

fn unescape(text: &str, quotes: bool) -> Result<String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('\\') => out.push('\\'),
                Some('n') => out.push('\n'),
                Some('"') if quotes => out.push('"'),
                other => return Err(format!("an illegal escape: \\{other:?}")),
            },
            '"' if quotes => return Err("a bare quote".into()),
            c => out.push(c),
        }
    }
    Ok(out)
}

/// `[+-]digits[.digits][e[+-]digits]`, `NaN`, `+Inf`, `-Inf`: what every reader of them takes.
fn number(text: &str) -> Result<f64> {
    match text {
        "NaN" => return Ok(f64::NAN),
        "+Inf" => return Ok(f64::INFINITY),
        "-Inf" => return Ok(f64::NEG_INFINITY),
        _ => {}
    }
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once('e').unwrap_or((unsigned, "0"));
    let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let good = digits(whole) && digits(fraction) && digits(exponent);
    ensure(good, || format!("no number: {text:?}"))?;
    text.parse().map_err(|_| format!("no number: {text:?}"))
}

// ---------------------------------------------------------------------------------------------
// Families

/// No series twice, and in OpenMetrics no name that another family has a use for.
fn check_names(families: &[Family], dialect: Dialect) -> Result<()> {
    let mut series = HashSet::new();
    for sample in families.iter().flat_map(|family| &family.samples) {
        let identity = format!("{} {:?}", sample.name, sample.labels_without(""));
        ensure(series.insert(identity), || format!("a series twice: {sample:?}"))?;
    }
    let mut owners: BTreeMap<String, &str> = BTreeMap::new();
    for family in families {
        ensure(!family.type_word.is_empty(), || format!("{} has no TYPE", family.name))?;
        let mut names = vec![family.name.clone()];
        names.extend(
            suffixes(family, dialect).iter().map(|suffix| format!("{}{suffix}", family.name)),
        );
        names.sort();
        names.dedup();
        for name in names {
            if let Some(other) = owners.insert(name.clone(), &family.name) {
                return Err(format!("{name} belongs to {other} and to {}", family.name));
            }
        }
    }
    Ok(())
}

fn check_family(family: &Family, dialect: Dialect) -> Result<()> {
    let open_metrics = dialect == Dialect::OpenMetrics;
    let own_label = if family.type_word == "histogram" { "le" } else { "quantile" };
    for sample in &family.samples {
        let counts = sample.name != family.name || family.type_word == "counter";
        let is_sum = sample.name.strip_prefix(&family.name) == Some("_sum");
        if counts && (open_metrics || !is_sum) {
            ensure(sample.value >= 0.0, || format!("less than nothing: {sample:?}"))?;
        }
    }
    // Samples of one metric stand together.
    let mut metrics: Vec<BTreeMap<&str, &str>> = Vec::new();
    for sample in &family.samples {
        let labels = sample.labels_without(own_label);
        if metrics.last() != Some(&labels) {
            ensure(!metrics.contains(&labels), || format!("metrics are interleaved: {sample:?}"))?;
            metrics.push(labels);
        }
    }
    if family.type_word == "info" {
        let ones = family.samples.iter().all(|sample| sample.value == 1.0);
        ensure(ones, || "an info that is not 1".into())?;
    }
    if family.type_word == "histogram" {
        for labels in metrics {
            let own = |sample: &&Sample| sample.labels_without("le") == labels;
            let samples: Vec<&Sample> = family.samples.iter().filter(own).collect();
            check_histogram(&family.name, &samples, open_metrics)?;
        }
    }
    Ok(())
}

fn check_histogram(name: &str, samples: &[&Sample], open_metrics: bool) -> Result<()> {
    let of = |suffix: &str| {
        let wanted = format!("{name}{suffix}");
        samples.iter().filter(move |sample| sample.name == wanted).collect::<Vec<_>>()
    };
    let (buckets, sums, counts) = (of("_bucket"), of("_sum"), of("_count"));
    let bounds: Vec<f64> = buckets
        .iter()
        .map(|bucket| number(bucket.label("le").ok_or("no le")?))
        .collect::<Result<_>>()?;
    ensure(bounds.windows(2).all(|w| w[0] < w[1]), || format!("bounds not ascending: {bounds:?}"))?;
    ensure(bounds.last() == Some(&f64::INFINITY), || "no +Inf bucket".into())?;
    let below = std::iter::once(f64::NEG_INFINITY).chain(bounds.iter().copied());
    for ((bucket, bound), below) in buckets.iter().zip(&bounds).zip(below) {
        let inside = |e: &Exemplar| below < e.value && e.value <= *bound;
        let fits = bucket.exemplar.as_ref().is_none_or(inside);
        ensure(fits, || format!("an exemplar outside of its bucket: {bucket:?}"))?;
    }
    let rising = buckets.windows(2).all(|w| w[0].value <= w[1].value);
    ensure(rising, || "buckets are not cumulative".into())?;
    let all = buckets.last().map(|bucket| bucket.value);
    let same = counts.iter().all(|count| Some(count.value) == all);
    ensure(same, || "_count is not the +Inf bucket".into())?;
    let negative = bounds[0] < 0.0;
    ensure(!negative || sums.is_empty(), || "_sum beside negative buckets".into())?;
    if !open_metrics {
        return ensure(counts.len() == 1, || "no _count".into());
    }
    ensure(sums.len() == counts.len(), || "_sum without _count, or the reverse".into())?;
    let whole = buckets.iter().chain(&counts).all(|sample| sample.value.fract() == 0.0);
    ensure(whole, || "a count with a fraction".into())?;
    for bucket in &buckets {
        let text = bucket.label("le").unwrap_or("");
        let canonical = text == "+Inf" || text.contains(['.', 'e']);
        ensure(canonical && !text.starts_with("+0"), || format!("le {text:?}"))?;
    }
    Ok(())
}
