//! The one error type: what was wrong, where, and the remedy, with a stable code per kind.

use std::fmt;

/// Everything promring refuses, each kind with the operands a person needs to mend it.
///
/// Nothing here is ever raised by an increment, an observation or a scrape: errors come from
/// registration, configuration and the command line.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A metric name that is empty, too long or holds a control character.
    MetricName {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A label name that is empty, too long, holds a control character or appears twice.
    LabelName {
        /// The family it was given for.
        metric: String,
        /// The label name as given.
        label: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A label name that Prometheus or this metric type keeps for itself (`__*`, `le`, `quantile`).
    ReservedLabel {
        /// The family it was given for.
        metric: String,
        /// The label name as given.
        label: String,
    },
    /// The number of label values differs from the number of label names.
    LabelCount {
        /// The family.
        metric: String,
        /// Label names declared.
        expected: usize,
        /// Label values given.
        given: usize,
    },
    /// Histogram bounds that are empty, not ascending, or NaN.
    Buckets {
        /// The family.
        metric: String,
        /// What is wrong with them.
        reason: &'static str,
    },
    /// The name is registered already with another type, label set, buckets or gauge mode.
    FamilyConflict {
        /// The family.
        metric: String,
        /// What is there, for example `counter with labels [code]`.
        existing: String,
        /// What was asked for.
        requested: String,
    },
    /// A setting (environment variable or option) with a value it cannot have.
    Setting {
        /// The setting's name.
        name: &'static str,
        /// The value as given.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A segment file that cannot be used.
    Segment {
        /// The file.
        path: String,
        /// The cause.
        cause: String,
        /// What to do about it.
        remedy: String,
    },
    /// There is no room for another family or series: the segment or its file system is full.
    Full {
        /// What could not be placed.
        what: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// An address that cannot be listened on.
    Listen {
        /// The address.
        address: String,
        /// The cause, with the holder of the port where it can be told.
        cause: String,
    },
    /// An exemplar's labels that are too long, or a name among them that cannot be one.
    Exemplar {
        /// The family.
        metric: String,
        /// What is wrong with them.
        reason: String,
    },
    /// The operation does not fit the metric's type (`observe` on a counter).
    WrongType {
        /// The family.
        metric: String,
        /// The operation.
        operation: &'static str,
        /// The family's type.
        metric_type: &'static str,
    },
}

impl Error {
    /// A stable, lower-case code for this kind; the bindings choose their exception class by it.
    pub fn code(&self) -> &'static str {
        match self {
            Error::MetricName { .. } => "metric_name",
            Error::LabelName { .. } => "label_name",
            Error::ReservedLabel { .. } => "reserved_label",
            Error::LabelCount { .. } => "label_count",
            Error::Buckets { .. } => "buckets",
            Error::FamilyConflict { .. } => "family_conflict",
            Error::Setting { .. } => "setting",
            Error::Segment { .. } => "segment",
            Error::Full { .. } => "full",
            Error::Listen { .. } => "listen",
            Error::Exemplar { .. } => "exemplar",
            Error::WrongType { .. } => "wrong_type",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::MetricName { name, reason } => {
                write!(f, "metric name {name:?} {reason}")
            }
            Error::LabelName { metric, label, reason } => {
                write!(f, "label name {label:?} of metric {metric:?} {reason}")
            }
            Error::ReservedLabel { metric, label } => {
                write!(f, "label name {label:?} of metric {metric:?} is reserved; choose another")
            }
            Error::LabelCount { metric, expected, given } => {
                write!(f, "metric {metric:?} has {expected} labels, {given} values were given")
            }
            Error::Buckets { metric, reason } => {
                write!(f, "buckets of histogram {metric:?} {reason}")
            }
            Error::FamilyConflict { metric, existing, requested } => write!(
                f,
                "metric {metric:?} is already registered as {existing}; \
                 it cannot also be {requested}: rename one of them"
            ),
            Error::Setting { name, value, expected } => {
                write!(f, "{name}={value:?} is not valid: expected {expected}; the default is used")
            }
            Error::Segment { path, cause, remedy } => {
                write!(f, "segment {path}: {cause}; {remedy}")
            }
            Error::Full { what, remedy } => write!(f, "no room for {what}; {remedy}"),
            Error::Listen { address, cause } => write!(f, "cannot listen on {address}: {cause}"),
            Error::Exemplar { metric, reason } => {
                write!(f, "exemplar of metric {metric:?} {reason}; the value itself is counted")
            }
            Error::WrongType { metric, operation, metric_type } => {
                write!(f, "{operation} does not fit metric {metric:?}, which is a {metric_type}")
            }
        }
    }
}

impl std::error::Error for Error {}
