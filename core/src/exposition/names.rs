//! Names as a format can carry them: the four escaping schemes, and who gets a name that two families want.
//!
//! The registry keeps raw UTF-8. What a family's samples are called depends on the format and on the
//! scheme that was negotiated, never on what its values are. Rules: Prometheus' `escaping_schemes.md`.

use std::collections::HashSet;

use super::{Escaping, Format};
use crate::snapshot::{Catalog, CatalogFamily, MetricType};

/// A family's names in one format under one scheme; raw text, quoted where it is written.
#[derive(Debug, PartialEq)]
pub(super) struct Names {
    /// What `# TYPE` names.
    pub family: String,
    /// What samples are called, before a suffix such as `_bucket`.
    pub sample: String,
    /// The word after it in `# TYPE`.
    pub type_word: &'static str,
    /// What the creation time is called, in the format that has one.
    pub created: Option<String>,
    /// Label names, in order.
    pub labels: Vec<String>,
}

/// The names of all families of a catalog, in its order.
///
/// No sample name is given twice. In OpenMetrics 1.0, where a counter `x_total` needs the names `x` and
/// `x_created`, too, all others choose first: a counter that comes too late for them, like one without
/// `_total`, goes out as `unknown` under its own name. Who finds even its own name taken – `a.b` and
/// `a_b` under `underscores`, a gauge `x_sum` beside a histogram `x` – goes out under the `values` scheme,
/// the later one in order of registration.
pub(super) fn resolve(catalog: &Catalog, format: Format, escaping: Escaping) -> Vec<Names> {
    let mut taken = HashSet::new();
    let late = |family: &CatalogFamily| {
        format == Format::OpenMetrics && family.metric_type == MetricType::Counter
    };
    let mut names: Vec<Option<Names>> = catalog.families.iter().map(|_| None).collect();
    for pass in [false, true] {
        for (family, names) in catalog.families.iter().zip(&mut names) {
            if late(family) == pass {
                *names = Some(resolve_family(family, format, escaping, &mut taken));
            }
        }
    }
    names.into_iter().flatten().collect()
}

fn resolve_family(
    family: &CatalogFamily,
    format: Format,
    escaping: Escaping,
    taken: &mut HashSet<String>,
) -> Names {
    let mut name = escaping.metric_name(&family.name);
    let mut next = values_escaped(&family.name, true);
    loop {
        let ways = if format == Format::OpenMetrics {
            ways_in_open_metrics(family, &name)
        } else {
            vec![way(family.metric_type, &name, false)]
        };
        for (family_name, type_word, claims, created) in ways {
            if claims.iter().all(|claim| !taken.contains(claim)) {
                taken.extend(claims);
                let created = created.then(|| format!("{family_name}_created"));
                let labels = label_names(family, escaping);
                return Names { family: family_name, sample: name, type_word, created, labels };
            }
        }
        name = next;
        next = values_escaped(&name, true);
    }
}

/// Family name, its type's word, the names it needs for itself, and whether it tells its creation time.
type Way = (String, &'static str, Vec<String>, bool);

fn way(metric_type: MetricType, name: &str, created: bool) -> Way {
    let suffixes: &[&str] = match metric_type {
        MetricType::Counter | MetricType::Gauge => &[""],
        MetricType::Summary => &["", "_sum", "_count", "_created"],
        MetricType::Histogram => &["", "_sum", "_count", "_bucket", "_created"],
    };
    let used = suffixes.iter().filter(|suffix| created || **suffix != "_created");
    let claims = used.map(|suffix| format!("{name}{suffix}")).collect();
    (name.to_string(), metric_type.as_str(), claims, created)
}

fn ways_in_open_metrics(family: &CatalogFamily, name: &str) -> Vec<Way> {
    match family.metric_type {
        MetricType::Counter => {
            let unknown = (name.to_string(), "unknown", vec![name.to_string()], false);
            let short = name.strip_suffix("_total").filter(|short| !short.is_empty());
            let counter = short.map(|short| {
                let claims = ["", "_total", "_created"].map(|suffix| format!("{short}{suffix}"));
                (short.to_string(), "counter", claims.into(), true)
            });
            counter.into_iter().chain([unknown]).collect()
        }
        MetricType::Gauge => vec![way(MetricType::Gauge, name, false)],
        other => vec![way(other, name, true)],
    }
}

/// The label names of a family: distinct, none of them one that Prometheus or the type has a use for.
fn label_names(family: &CatalogFamily, escaping: Escaping) -> Vec<String> {
    let reserved = match family.metric_type {
        MetricType::Histogram => "le",
        MetricType::Summary => "quantile",
        _ => "",
    };
    let mut names: Vec<String> = Vec::new();
    for raw in &family.label_names {
        let mut name = escaping.label_name(raw);
        while name == reserved || name.starts_with("__") || names.contains(&name) {
            let raw = if name.starts_with("U__") { &name } else { raw };
            name = values_escaped(raw, false);
        }
        names.push(name);
    }
    names
}

/// Can it stand without quotes? A colon may stand in metric names only.
pub(super) fn is_legal(name: &str, colon: bool) -> bool {
    !name.is_empty() && name.chars().enumerate().all(|(i, c)| is_legal_char(c, i == 0, colon))
}

fn is_legal_char(c: char, first: bool, colon: bool) -> bool {
    c.is_ascii_alphabetic() || c == '_' || (c == ':' && colon) || (c.is_ascii_digit() && !first)
}

impl Escaping {
    /// A metric's name under this scheme.
    ///
    /// ```
    /// use promring::exposition::Escaping;
    /// let name = "a.b_c é";
    /// assert_eq!(Escaping::AllowUtf8.metric_name(name), name);
    /// assert_eq!(Escaping::Underscores.metric_name(name), "a_b_c__");
    /// assert_eq!(Escaping::Dots.metric_name(name), "a_dot_b__c____");
    /// assert_eq!(Escaping::Values.metric_name(name), "U__a_2e_b__c_20__e9_");
    /// ```
    pub fn metric_name(self, name: &str) -> String {
        self.escape(name, true)
    }

    /// A label's name under this scheme.
    pub fn label_name(self, name: &str) -> String {
        self.escape(name, false)
    }

    fn escape(self, name: &str, colon: bool) -> String {
        if name.is_empty() {
            return "_".to_string(); // memory was scribbled over: the registry takes no such name
        }
        match self {
            Escaping::AllowUtf8 => name.to_string(),
            Escaping::Underscores => replaced(name, colon, |_| "_"),
            // Also in legal names, as client_python does: else the scheme could not be undone.
            Escaping::Dots => replaced(&name.replace('_', "\0"), colon, |c| match c {
                '.' => "_dot_",
                _ => "__",
            }),
            Escaping::Values if is_legal(name, colon) => name.to_string(),
            Escaping::Values => values_escaped(name, colon),
        }
    }
}

fn replaced(name: &str, colon: bool, with: impl Fn(char) -> &'static str) -> String {
    let mut legal = String::with_capacity(name.len());
    for (i, c) in name.chars().enumerate() {
        if is_legal_char(c, i == 0, colon) {
            legal.push(c);
        } else {
            legal.push_str(with(c));
        }
    }
    legal
}

/// The `values` scheme's form, also of names that would not need it.
fn values_escaped(name: &str, colon: bool) -> String {
    let mut escaped = String::from("U__");
    for (i, c) in name.chars().enumerate() {
        match c {
            '_' => escaped.push_str("__"),
            c if is_legal_char(c, i == 0, colon) => escaped.push(c),
            c => escaped.push_str(&format!("_{:x}_", u32::from(c))),
        }
    }
    escaped
}

/// A worker's label beside the family's own: another name if the family has it itself.
pub(super) fn free_label(wanted: &str, taken: &[String]) -> String {
    let mut label = wanted.to_string();
    while taken.contains(&label) {
        label.insert_str(0, "promring_");
    }
    label
}
