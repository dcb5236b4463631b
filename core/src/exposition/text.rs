//! The three text formats: everything of a page but its numbers, made once and kept.
//!
//! A template is the constant text before each number. It belongs to a shape: the catalog, the lines
//! that are left out (gauges nobody has set), the workers that have samples of their own. As long as the
//! shape stays, a scrape copies constants and formats numbers.

use super::deflate::Deflater;
use super::gzip;
use super::names::{self, Names};
use super::number::{format_number, Writer, NUMBER_BYTES};
use super::page::{self, Line, Place};
use super::{Escaping, Format};
use crate::snapshot::{
    CatalogFamily, CatalogSeries, Exemplar, SeriesExemplar, Snapshot, WorkerSample,
};

// ---------------------------------------------------------------------------------------------
// What changes from scrape to scrape

/// Values and left-out lines of a snapshot, in the order of lines.
#[derive(Default)]
pub(super) struct Values {
    pub numbers: Vec<f64>,
    left_out: Vec<u32>,
    /// Which numbers have an exemplar, and which of the snapshot's it is.
    exemplars: Vec<(usize, usize)>,
}

impl Values {
    pub(super) fn take(&mut self, snapshot: &Snapshot, format: Format) {
        let Values { numbers, left_out, exemplars } = self;
        numbers.clear();
        left_out.clear();
        let mut at = 0;
        page::walk(snapshot, format == Format::OpenMetrics, |_, value| {
            match value {
                Some(value) => numbers.push(value),
                None => left_out.push(at),
            }
            at += 1;
        });
        exemplars.clear();
        if format == Format::OpenMetrics && !snapshot.exemplars.is_empty() {
            self.find_exemplars(snapshot);
        }
    }

    /// Exemplars stand in the order of lines.
    fn find_exemplars(&mut self, snapshot: &Snapshot) {
        let mut exemplars = snapshot.exemplars.iter().enumerate().peekable();
        let mut at = 0;
        page::walk(snapshot, true, |place, value| {
            let line = place.line.exemplar().map(|bucket| (place.family, place.series, bucket));
            let of = |e: &SeriesExemplar| (e.family as usize, e.series as usize, e.bucket as usize);
            while let Some((index, _)) =
                exemplars.next_if(|(_, e)| line.is_some_and(|l| of(e) <= l))
            {
                let has_one = self.exemplars.last().is_some_and(|(line, _)| *line == at);
                if Some(of(&snapshot.exemplars[index])) == line && value.is_some() && !has_one {
                    self.exemplars.push((at, index));
                }
            }
            at += usize::from(value.is_some());
        });
    }
}

/// What a template was made for.
#[derive(PartialEq)]
pub(super) struct Shape {
    version: u64,
    /// Ordinal numbers of the lines left out, among all lines.
    left_out: Vec<u32>,
    per_worker: Vec<WorkerSample>,
}

impl Shape {
    fn of(snapshot: &Snapshot, values: &Values) -> Shape {
        Shape {
            version: snapshot.catalog.version,
            left_out: values.left_out.clone(),
            per_worker: snapshot.per_worker.clone(),
        }
    }

    fn fits(&self, snapshot: &Snapshot, values: &Values) -> bool {
        let same_line = |(a, b): (&WorkerSample, &WorkerSample)| {
            (a.family, a.series, a.label_name) == (b.family, b.series, b.label_name)
                && a.label_value == b.label_value
        };
        self.version == snapshot.catalog.version
            && self.left_out == values.left_out
            && self.per_worker.len() == snapshot.per_worker.len()
            && self.per_worker.iter().zip(&snapshot.per_worker).all(same_line)
    }
}

// ---------------------------------------------------------------------------------------------
// What stays

/// Constant text, a number, constant text, a number, …, constant text.
pub(super) struct Template {
    shape: Shape,
    /// What stands before number `i` ends at `ends[i]`.
    text: Vec<u8>,
    ends: Vec<usize>,
    escaping: Escaping,
    /// By family: what is `unknown` has no exemplars.
    takes_exemplars: Vec<bool>,
    deflater: Seen,
}

/// Compressing constant text pays from the second page on: shapes that come once are the library's.
enum Seen {
    Never,
    Once,
    Again(Box<Deflater>),
}

impl Template {
    pub(super) fn new(
        snapshot: &Snapshot,
        values: &Values,
        format: Format,
        escaping: Escaping,
    ) -> Template {
        let mut builder = Builder {
            families: &snapshot.catalog.families,
            names: names::resolve(&snapshot.catalog, format, escaping),
            format,
            text: Vec::new(),
            ends: Vec::new(),
            at: None,
        };
        page::walk(snapshot, format == Format::OpenMetrics, |place, value| {
            builder.line(&place, value.is_some());
        });
        builder.advance(snapshot.catalog.families.len(), 0);
        if format == Format::OpenMetrics {
            builder.text.extend_from_slice(b"# EOF\n");
        }
        let Builder { text, ends, names, .. } = builder;
        let takes = |names: &Names| matches!(names.type_word, "counter" | "histogram");
        Template {
            shape: Shape::of(snapshot, values),
            text,
            ends,
            escaping,
            takes_exemplars: names.iter().map(takes).collect(),
            deflater: Seen::Never,
        }
    }

    pub(super) fn fits(&self, snapshot: &Snapshot, values: &Values) -> bool {
        self.shape.fits(snapshot, values)
    }

    /// Replaces what is in `out` by the page.
    pub(super) fn render(&self, snapshot: &Snapshot, values: &Values, out: &mut Vec<u8>) {
        let numbers = values.numbers.as_slice();
        let mut page = Writer::over(std::mem::take(out), self.text.len() + numbers.len() * 8);
        let (mut at, mut from) = (0, 0);
        for (index, exemplar) in &values.exemplars {
            let Some(text) = self.exemplar_text(&snapshot.exemplars[*exemplar]) else { continue };
            let (ends, numbers) = (&self.ends[at..=*index], &numbers[at..=*index]);
            from = self.render_lines(ends, from, numbers, &mut page);
            page.back_over_line_end();
            page.put(&text);
            at = index + 1;
        }
        let from = self.render_lines(&self.ends[at..], from, &numbers[at..], &mut page);
        page.put(&self.text[from..]);
        *out = page.done();
    }

    /// What stands behind a line's number; None where the format allows none.
    fn exemplar_text(&self, at: &SeriesExemplar) -> Option<Vec<u8>> {
        if !*self.takes_exemplars.get(at.family as usize)? {
            return None;
        }
        let mut text = b" # {".to_vec();
        for (i, (name, value)) in
            names::exemplar_labels(&at.exemplar, self.escaping)?.iter().enumerate()
        {
            let comma = if i > 0 { "," } else { "" };
            text.extend_from_slice(
                format!("{comma}{}=\"", quoted_if_needed(name, false)).as_bytes(),
            );
            write_escaped(value, true, &mut text);
            text.push(b'"');
        }
        let Exemplar { value, unix_seconds, .. } = at.exemplar;
        text.extend_from_slice(b"} ");
        write_number(value, &mut text);
        text.push(b' ');
        write_number(unix_seconds, &mut text);
        text.push(b'\n');
        Some(text)
    }

    /// Writes the lines of these texts, the first of which starts at `from`; returns where the last ends.
    #[inline]
    fn render_lines(
        &self,
        ends: &[usize],
        mut from: usize,
        numbers: &[f64],
        page: &mut Writer,
    ) -> usize {
        for (end, number) in ends.iter().zip(numbers) {
            page.put(&self.text[from..*end]);
            page.put_line_end(*number);
            from = *end;
        }
        from
    }

    /// Replaces what is in `out` by the page, compressed; `scratch` is for the page before that.
    pub(super) fn compress(
        &mut self,
        snapshot: &Snapshot,
        values: &Values,
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) {
        let plain = values.exemplars.is_empty();
        if let (Seen::Again(deflater), true) = (&self.deflater, plain) {
            if self.deflate(deflater, &values.numbers, scratch, out).is_some() {
                return;
            }
        }
        self.render(snapshot, values, scratch);
        gzip::compress(scratch, out);
        if !plain {
            return; // exemplars are no constant text
        }
        self.deflater = match self.deflater {
            Seen::Never => Seen::Once,
            _ => Seen::Again(Box::new(Deflater::new(&self.text, &self.ends, scratch))),
        };
    }

    /// None when a number holds what its code has no symbol for.
    fn deflate(
        &self,
        deflater: &Deflater,
        numbers: &[f64],
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let mut member = deflater.begin(std::mem::take(out));
        let mut from = 0;
        for (ends, numbers) in self.ends.chunks(PIECE).zip(numbers.chunks(PIECE)) {
            let mut piece = Writer::over(std::mem::take(scratch), 0);
            let end = self.render_lines(ends, from, numbers, &mut piece);
            *scratch = piece.done();
            member.add(scratch, from, ends)?;
            from = end;
        }
        *out = member.done(&self.text[from..]);
        Some(())
    }
}

/// Lines that are rendered and compressed at once: they stay in the processor's cache meanwhile.
const PIECE: usize = 256;

struct Builder<'a> {
    families: &'a [CatalogFamily],
    names: Vec<Names>,
    format: Format,
    text: Vec<u8>,
    ends: Vec<usize>,
    /// Family and series of the line before.
    at: Option<(usize, usize)>,
}

impl Builder<'_> {
    fn line(&mut self, place: &Place, shown: bool) {
        self.advance(place.family, place.series);
        if shown {
            self.prefix(place);
            self.ends.push(self.text.len());
        }
    }

    /// Ends the series, and the families, before this line's: creation times, heads.
    fn advance(&mut self, family: usize, series: usize) {
        let before = self.at.replace((family, series));
        if before == self.at {
            return;
        }
        if let Some((f, s)) = before {
            self.created(f, s);
        }
        let heads = before.map_or(0, |(f, _)| f + 1)..family + 1;
        for f in heads {
            if let (Some(family), Some(names)) = (self.families.get(f), self.names.get(f)) {
                write_head(family, names, self.format, &mut self.text);
            }
        }
    }

    /// A series' `_created` line, in the format that has one and where the time is known.
    fn created(&mut self, f: usize, s: usize) {
        let (family, names) = (&self.families[f], &self.names[f]);
        let (Some(created), Some(series)) = (&names.created, family.series.get(s)) else { return };
        if series.created_seconds > 0.0 {
            write_prefix(created, "", &names.labels, series, None, &mut self.text);
            write_number(series.created_seconds, &mut self.text);
            self.text.push(b'\n');
        }
    }

    fn prefix(&mut self, place: &Place) {
        let (family, names) = (&self.families[place.family], &self.names[place.family]);
        let series = &family.series[place.series];
        let text = &mut self.text;
        let mut write = |suffix: &str, extra: Option<(&str, &str)>| {
            write_prefix(&names.sample, suffix, &names.labels, series, extra, text);
        };
        match place.line {
            Line::Value => write("", None),
            Line::Sum => write("_sum", None),
            Line::Count => write("_count", None),
            Line::Quantile(index) => {
                let quantile = family.buckets.get(index).copied().unwrap_or(f64::NAN);
                write("", Some(("quantile", &bound_text(quantile))));
            }
            Line::Bucket(index) => {
                let bound = family.buckets.get(index).copied().unwrap_or(f64::INFINITY);
                write("_bucket", Some(("le", &bound_text(bound))));
            }
            Line::Worker(sample) => {
                let label = names::free_label(sample.label_name, &names.labels);
                write("", Some((&label, &sample.label_value)));
            }
        }
    }
}

fn write_head(family: &CatalogFamily, names: &Names, format: Format, out: &mut Vec<u8>) {
    let name = quoted_if_needed(&names.family, true);
    let help = escaped(&family.help, format == Format::OpenMetrics);
    let help = if help.is_empty() { help } else { format!("# HELP {name} {help}\n") };
    let metric_type = format!("# TYPE {name} {}\n", names.type_word);
    if format != Format::OpenMetrics {
        out.extend_from_slice((help + &metric_type).as_bytes());
        return;
    }
    out.extend_from_slice(metric_type.as_bytes());
    let unit = &family.unit;
    let plain = !unit.is_empty() && !unit.contains(char::is_control);
    if plain && names.family.ends_with(&format!("_{unit}")) {
        out.extend_from_slice(format!("# UNIT {name} {unit}\n").as_bytes());
    }
    out.extend_from_slice(help.as_bytes());
}

/// `name_suffix{own labels, overflow mark, extra} `, or `{"name_suffix",…} ` for a name that needs quotes.
fn write_prefix(
    name: &str,
    suffix: &str,
    label_names: &[String],
    series: &CatalogSeries,
    extra: Option<(&str, &str)>,
    out: &mut Vec<u8>,
) {
    let own =
        label_names.iter().map(String::as_str).zip(series.label_values.iter().map(String::as_str));
    let mark = series.extra_label.iter().map(|(name, value)| (*name, value.as_str()));
    let mut opener = b'{';
    if names::is_legal(name, true) {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(suffix.as_bytes());
    } else {
        out.extend_from_slice(format!("{{\"{}{suffix}\"", escaped(name, true)).as_bytes());
        opener = b',';
    }
    let bare = opener;
    for (label, value) in own.chain(mark).chain(extra) {
        out.push(opener);
        opener = b',';
        out.extend_from_slice(quoted_if_needed(label, false).as_bytes());
        out.extend_from_slice(b"=\"");
        write_escaped(value, true, out);
        out.push(b'"');
    }
    let open = bare == b',' || opener == b',';
    out.extend_from_slice(if open { b"} " } else { b" " });
}

fn quoted_if_needed(name: &str, colon: bool) -> std::borrow::Cow<'_, str> {
    if names::is_legal(name, colon) {
        name.into()
    } else {
        format!("\"{}\"", escaped(name, true)).into()
    }
}

pub(super) fn escaped(text: &str, quotes: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    write_escaped(text, quotes, &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn write_escaped(text: &str, quotes: bool, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'"' if quotes => out.extend_from_slice(b"\\\""),
            other => out.push(other),
        }
    }
}

/// A bucket's bound as prometheus_client and OpenMetrics want it: Go's `%g`, with `.0` where no point
/// or exponent shows (`0.005`, `1.0`, `1e+06`).
pub(super) fn bound_text(bound: f64) -> String {
    if bound.is_infinite() {
        return if bound > 0.0 { "+Inf" } else { "-Inf" }.to_string();
    }
    let size = bound.abs();
    if size != 0.0 && !(1e-4..1e6).contains(&size) {
        let text = format!("{bound:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        return format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
    format!("{bound:?}")
}

fn write_number(value: f64, out: &mut Vec<u8>) {
    let mut text = [0; NUMBER_BYTES];
    let n = format_number(value, &mut text);
    out.extend_from_slice(&text[..n]);
}
