//! snapshot -> bytes in the formats that Prometheus reads. Pure functions over plain data.
//!
//! | file | what |
//! |---|---|
//! | `negotiation` | `Accept` -> format, escaping scheme, gzip |
//! | `names` | what a family and its labels are called there |
//! | `number` | numbers as text, and the buffer they are written to |
//! | `page` | which lines a family has, in which order, with which values |
//! | `text` | text 0.0.4 and 1.0.0, OpenMetrics 1.0 |
//! | `protobuf` | delimited `MetricFamily` messages |
//! | `deflate`, `gzip` | compression of a page whose shape was seen before, and of others |
//! | `registry` | the same families through the encoder of the crate prometheus-client |
//!
//! A name is never changed by the format: a counter without `_total` is `unknown` in OpenMetrics. Only
//! what the format cannot carry is escaped, by the scheme that the scraper asked for. Everything of a
//! page but its numbers is rendered once per change of the catalog, format and scheme, and kept.

mod deflate;
mod gzip;
mod names;
mod negotiation;
mod number;
mod page;
mod protobuf;
#[cfg(feature = "prometheus-client")]
mod registry;
mod text;

use crate::snapshot::Snapshot;

#[cfg(feature = "prometheus-client")]
pub use registry::encode as encode_into_registry;

/// What is spoken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Format {
    /// Text 0.0.4.
    Text,
    /// Text 1.0.0: 0.0.4 and quoted names.
    TextUtf8,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// `io.prometheus.client.MetricFamily`, delimited.
    Protobuf,
}

/// What becomes of names that are not `[a-zA-Z_:][a-zA-Z0-9_:]*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Escaping {
    /// Nothing: they stand in quotes.
    AllowUtf8,
    /// Other characters become `_`.
    Underscores,
    /// `.` becomes `_dot_`, `_` is doubled, others become `__`.
    Dots,
    /// `U__`, and others by their code: can be undone.
    Values,
}

impl Escaping {
    /// All four.
    pub const ALL: [Escaping; 4] =
        [Escaping::AllowUtf8, Escaping::Underscores, Escaping::Dots, Escaping::Values];

    /// The word in `Accept` and `Content-Type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Escaping::AllowUtf8 => "allow-utf-8",
            Escaping::Underscores => "underscores",
            Escaping::Dots => "dots",
            Escaping::Values => "values",
        }
    }

    fn from_word(word: &str) -> Option<Escaping> {
        Escaping::ALL.into_iter().find(|scheme| scheme.as_str() == word)
    }
}

/// What a scraper gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Choice {
    /// The format.
    pub format: Format,
    /// The scheme for names.
    pub escaping: Escaping,
    /// Compressed?
    pub gzip: bool,
}

macro_rules! with_schemes {
    ($escaping:expr, $media_type:literal) => {
        match $escaping {
            Escaping::AllowUtf8 => concat!($media_type, "; charset=utf-8; escaping=allow-utf-8"),
            Escaping::Underscores => concat!($media_type, "; charset=utf-8; escaping=underscores"),
            Escaping::Dots => concat!($media_type, "; charset=utf-8; escaping=dots"),
            Escaping::Values => concat!($media_type, "; charset=utf-8; escaping=values"),
        }
    };
}

impl Choice {
    /// Text 0.0.4, not compressed: what everything reads.
    pub const PLAIN: Choice =
        Choice { format: Format::Text, escaping: Escaping::Underscores, gzip: false };

    /// The `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self.format {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::TextUtf8 => with_schemes!(self.escaping, "text/plain; version=1.0.0"),
            Format::OpenMetrics => {
                with_schemes!(self.escaping, "application/openmetrics-text; version=1.0.0")
            }
            Format::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// The `Content-Encoding`.
    pub fn content_encoding(self) -> Option<&'static str> {
        self.gzip.then_some("gzip")
    }
}

/// How many formats' constants are kept, the latest used first.
const KEPT: usize = 4;

/// Renders snapshots, keeping what does not change between them.
#[derive(Default)]
pub struct Renderer {
    values: text::Values,
    /// The page before its compression.
    plain: Vec<u8>,
    kept: Vec<(Format, Escaping, Kept)>,
}

enum Kept {
    Text(text::Template),
    Protobuf(protobuf::Constants),
}

impl Renderer {
    /// With nothing kept yet.
    pub fn new() -> Renderer {
        Renderer::default()
    }

    /// Replaces what is in `out` by the page in text format 0.0.4.
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
    ///         native: None,
    ///         info: false,
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
    ///     exemplars: vec![],
    ///     natives: vec![],
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
        self.render(snapshot, Choice::PLAIN, out);
    }

    /// Replaces what is in `out` by the page as chosen; one that held the page before saves time.
    pub fn render(&mut self, snapshot: &Snapshot, choice: Choice, out: &mut Vec<u8>) {
        if choice.format != Format::Protobuf {
            self.values.take(snapshot, choice.format);
        }
        self.refresh(snapshot, choice);
        let (values, plain) = (&self.values, &mut self.plain);
        match (self.kept.first_mut(), choice.gzip) {
            (Some((_, _, Kept::Text(text))), false) => text.render(snapshot, values, out),
            (Some((_, _, Kept::Text(text))), true) => {
                text.compress(snapshot, values, plain, out);
            }
            (Some((_, _, Kept::Protobuf(constants))), false) => constants.render(snapshot, out),
            (Some((_, _, Kept::Protobuf(constants))), true) => {
                constants.render(snapshot, plain);
                gzip::compress(plain, out);
            }
            (None, _) => out.clear(), // `refresh` sees to it that there is one
        }
    }

    /// Puts what belongs to this format and scheme first, made anew if it no longer fits.
    fn refresh(&mut self, snapshot: &Snapshot, Choice { format, escaping, .. }: Choice) {
        let known = self.kept.iter().position(|(f, e, _)| (*f, *e) == (format, escaping));
        if let Some(at) = known {
            self.kept[..=at].rotate_right(1);
        }
        let fits = known.is_some()
            && match &self.kept[0].2 {
                Kept::Text(template) => template.fits(snapshot, &self.values),
                Kept::Protobuf(constants) => constants.fits(snapshot),
            };
        if fits {
            return;
        }
        let made = match format {
            Format::Protobuf => Kept::Protobuf(protobuf::Constants::new(snapshot, escaping)),
            _ => Kept::Text(text::Template::new(snapshot, &self.values, format, escaping)),
        };
        if known.is_some() {
            self.kept.remove(0);
        }
        self.kept.insert(0, (format, escaping, made));
        self.kept.truncate(KEPT);
    }
}
