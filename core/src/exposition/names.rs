//! Names as a format can carry them: the four escaping schemes, and who gets a name that two families want.
//!
//! The registry keeps raw UTF-8. What a family's samples are called depends on the format and on the
//! scheme that was negotiated, never on what its values are. Rules: Prometheus' `escaping_schemes.md`.

use std::collections::HashSet;

use super::{Escaping, Format};
use crate::snapshot::{Catalog, CatalogFamily, Exemplar, MetricType, MAX_CODE_POINTS};

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
/// No name is given twice. Who finds its own taken – `a.b` and `a_b` under `underscores`, a gauge `x_sum`
/// beside a histogram `x` – goes out under the `values` scheme, the later one in order of registration.
/// In OpenMetrics 1.0 a counter `x_total` needs the names `x` and `x_created`, too: where another has
/// one of them, and where a counter has no `_total`, it is `unknown` under its own name.
pub(super) fn resolve(catalog: &Catalog, format: Format, escaping: Escaping) -> Vec<Names> {
    let mut taken = HashSet::new();
    let name = |family| own_names(family, format, escaping, &mut taken);
    let mut names: Vec<Names> = catalog.families.iter().map(name).collect();
    if format == Format::OpenMetrics {
        for (names, family) in names.iter_mut().zip(&catalog.families) {
            if names.type_word == "unknown" {
                names.become_counter(&mut taken);
            } else if family.info {
                names.become_info(&mut taken);
            }
        }
    }
    names
}

/// A family's names, the first free ones; in OpenMetrics a counter is `unknown` for now.
fn own_names(
    family: &CatalogFamily,
    format: Format,
    escaping: Escaping,
    taken: &mut HashSet<String>,
) -> Names {
    let open_metrics = format == Format::OpenMetrics;
    let (type_word, suffixes): (_, &[&str]) = match family.metric_type {
        MetricType::Counter if open_metrics => ("unknown", &[""]),
        MetricType::Summary => ("summary", &["", "_sum", "_count", "_created"]),
        MetricType::Histogram => ("histogram", &["", "_sum", "_count", "_bucket", "_created"]),
        other => (other.as_str(), &[""]),
    };
    let created = open_metrics && suffixes.len() > 1;
    let used = suffixes.iter().filter(|suffix| created || **suffix != "_created");
    let claims =
        |name: &str| used.clone().map(|suffix| format!("{name}{suffix}")).collect::<Vec<_>>();
    let mut name = escaping.metric_name(&family.name);
    let mut next = values_escaped(&family.name, true);
    while claims(&name).iter().any(|claim| taken.contains(claim)) {
        name = next;
        next = values_escaped(&name, true);
    }
    taken.extend(claims(&name));
    Names {
        family: name.clone(),
        type_word,
        created: created.then(|| format!("{name}_created")),
        labels: label_names(family, escaping),
        sample: name,
    }
}

impl Names {
    /// As [`Names::become_counter`]: the family of an info `x_info` is called `x`.
    fn become_info(&mut self, taken: &mut HashSet<String>) {
        let short = self.sample.strip_suffix("_info").filter(|short| !short.is_empty());
        if let Some(short) = short.filter(|short| !taken.contains(*short)) {
            (self.family, self.type_word) = (short.to_string(), "info");
            taken.insert(self.family.clone());
        }
    }

    /// If it is called like one, and the names that takes are free.
    fn become_counter(&mut self, taken: &mut HashSet<String>) {
        let Some(short) = self.sample.strip_suffix("_total").filter(|short| !short.is_empty())
        else {
            return;
        };
        let claims = [short.to_string(), format!("{short}_created")];
        if claims.iter().all(|claim| !taken.contains(claim)) {
            let [family, created] = claims.clone();
            (self.family, self.created, self.type_word) = (family, Some(created), "counter");
            taken.extend(claims);
        }
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

/// An exemplar's labels under a scheme, no name twice; None when they have become too long by it.
pub(super) fn exemplar_labels(
    exemplar: &Exemplar,
    escaping: Escaping,
) -> Option<Vec<(String, &str)>> {
    let mut labels: Vec<(String, &str)> = Vec::new();
    for (raw, value) in &exemplar.labels {
        let mut name = escaping.label_name(raw);
        while name.starts_with("__") || labels.iter().any(|(other, _)| *other == name) {
            name = values_escaped(&name, false);
        }
        labels.push((name, value));
    }
    let length = |(name, value): &(String, &str)| name.chars().count() + value.chars().count();
    (labels.iter().map(length).sum::<usize>() <= MAX_CODE_POINTS).then_some(labels)
}

/// A worker's label beside the family's own: another name if the family has it itself.
pub(super) fn free_label(wanted: &str, taken: &[String]) -> String {
    let mut label = wanted.to_string();
    while taken.contains(&label) {
        label.insert_str(0, "promring_");
    }
    label
}
