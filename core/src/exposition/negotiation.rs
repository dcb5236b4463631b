//! `Accept` and `Accept-Encoding` -> what is answered. Nothing fits -> text 0.0.4, never an error.
//!
//! The highest `q` that we speak wins; among equals the more specific, then the earlier. Rules:
//! Prometheus' `content_negotiation.md`.

use super::{Choice, Escaping, Format};

impl Choice {
    /// What suits a request with these headers; either may be empty.
    ///
    /// ```
    /// use promring::exposition::{Choice, Escaping, Format};
    /// let accept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;q=0.4";
    /// let choice = Choice::negotiate(accept, "gzip");
    /// assert_eq!(choice.format, Format::OpenMetrics);
    /// assert_eq!(choice.escaping, Escaping::AllowUtf8);
    /// assert!(choice.gzip);
    /// assert_eq!(Choice::negotiate("application/json", "").format, Format::Text);
    /// ```
    pub fn negotiate(accept: &str, accept_encoding: &str) -> Choice {
        let mut ranges: Vec<Range> = elements(accept).filter_map(Range::parse).collect();
        ranges.sort_by(|a, b| b.q.total_cmp(&a.q).then(b.specificity().cmp(&a.specificity())));
        let spoken = ranges.iter().find_map(|range| Some((range.format()?, range.escaping)));
        let (format, own) = spoken.unwrap_or((Format::Text, None));
        // Prometheus names the scheme beside the texts of version 1.0.0 only, and means all it asks for.
        let best_ranked = || ranges.iter().find_map(|range| range.escaping);
        let escaping = match format {
            Format::Protobuf => own.or_else(best_ranked),
            Format::Text => own.filter(|scheme| *scheme != Escaping::AllowUtf8),
            Format::TextUtf8 | Format::OpenMetrics => own,
        };
        let escaping = escaping.unwrap_or(Escaping::Underscores);
        Choice { format, escaping, gzip: wants_gzip(accept_encoding) }
    }
}

/// One element of `Accept`.
struct Range<'a> {
    media_type: &'a str,
    version: Option<&'a str>,
    proto: Option<&'a str>,
    encoding: Option<&'a str>,
    escaping: Option<Escaping>,
    q: f32,
}

impl<'a> Range<'a> {
    /// None for one that refuses (`q=0`), or whose `q` is no number.
    fn parse(element: &'a str) -> Option<Range<'a>> {
        let mut parameters = element.split(';').map(str::trim);
        let media_type = parameters.next()?;
        let mut range = Range {
            media_type,
            version: None,
            proto: None,
            encoding: None,
            escaping: None,
            q: 1.0,
        };
        for parameter in parameters {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = value.trim().trim_matches('"');
            match key.trim().to_ascii_lowercase().as_str() {
                "version" => range.version = Some(value),
                "proto" => range.proto = Some(value),
                "encoding" => range.encoding = Some(value),
                "escaping" => range.escaping = Escaping::from_word(value),
                "q" => range.q = quality(value)?,
                _ => {}
            }
        }
        (range.q > 0.0).then_some(range)
    }

    fn format(&self) -> Option<Format> {
        match (self.media_type.to_ascii_lowercase().as_str(), self.version) {
            ("text/plain", None | Some("" | "0.0.4")) | ("text/*" | "*/*", _) => Some(Format::Text),
            ("text/plain", Some("1.0.0")) => Some(Format::TextUtf8),
            ("application/openmetrics-text", None | Some("" | "1.0.0")) => {
                Some(Format::OpenMetrics)
            }
            ("application/vnd.google.protobuf", _)
                if self.proto == Some("io.prometheus.client.MetricFamily")
                    && self.encoding == Some("delimited") =>
            {
                Some(Format::Protobuf)
            }
            _ => None,
        }
    }

    fn specificity(&self) -> u8 {
        match self.media_type {
            "*/*" => 0,
            range if range.ends_with("/*") => 1,
            _ => 2,
        }
    }
}

fn elements(header: &str) -> impl Iterator<Item = &str> {
    header.split(',').map(str::trim).filter(|element| !element.is_empty())
}

fn quality(value: &str) -> Option<f32> {
    value.parse().ok().filter(|q| (0.0..=1.0).contains(q))
}

fn wants_gzip(accept_encoding: &str) -> bool {
    let mut gzip = None;
    let mut any = 0.0;
    for element in elements(accept_encoding) {
        let (coding, parameter) = element.split_once(';').unwrap_or((element, "q=1"));
        let q = parameter.trim().strip_prefix("q=").and_then(quality).unwrap_or(0.0);
        match coding.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => gzip = Some(q),
            "*" => any = q,
            _ => {}
        }
    }
    gzip.unwrap_or(any) > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn expect(accept: &str, format: Format, escaping: Escaping) {
        let choice = Choice::negotiate(accept, "");
        assert_eq!((choice.format, choice.escaping), (format, escaping), "{accept}");
    }

    const PROTOBUF: &str =
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

    #[test]
    fn what_real_servers_send() {
        use Escaping::{AllowUtf8, Underscores};
        let v2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        expect(v2, Format::OpenMetrics, Underscores);
        let v3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        expect(v3, Format::OpenMetrics, AllowUtf8);
        expect(&format!("{PROTOBUF};q=0.6,{v3}"), Format::Protobuf, AllowUtf8);
        expect(
            &format!("{PROTOBUF};q=0.6,text/plain;version=0.0.4;q=0.5"),
            Format::Protobuf,
            Underscores,
        );
    }

    #[test]
    fn corners() {
        use Escaping::{AllowUtf8, Dots, Underscores, Values};
        for nothing in
            ["", ",", ";", "q=1", "application/json", "text/html;q=1", "text/plain;version=7"]
        {
            expect(nothing, Format::Text, Underscores);
        }
        expect("application/vnd.google.protobuf", Format::Text, Underscores);
        expect("application/openmetrics-text", Format::OpenMetrics, Underscores);
        expect("application/openmetrics-text;q=0,text/plain;q=0.1", Format::Text, Underscores);
        expect("application/openmetrics-text;q=many,text/plain;q=0.1", Format::Text, Underscores);
        expect("application/openmetrics-text;version=2.0.0", Format::Text, Underscores);
        expect("*/*, application/openmetrics-text", Format::OpenMetrics, Underscores);
        expect(
            "text/plain;q=0.5,application/openmetrics-text;q=0.51",
            Format::OpenMetrics,
            Underscores,
        );
        expect("Text/Plain; Version=1.0.0 ; escaping=dots", Format::TextUtf8, Dots);
        expect("text/plain;version=1.0.0;escaping=\"values\"", Format::TextUtf8, Values);
        expect("text/plain;version=1.0.0;escaping=loud", Format::TextUtf8, Underscores);
        expect("text/plain;version=1.0.0;escaping=allow-utf-8", Format::TextUtf8, AllowUtf8);
        expect("text/plain;version=0.0.4;escaping=allow-utf-8", Format::Text, Underscores);
        expect("text/plain;version=0.0.4;escaping=values", Format::Text, Values);
    }

    #[test]
    fn gzip_when_it_is_welcome() {
        for welcome in ["gzip", "deflate, gzip;q=0.1", "GZIP", "x-gzip", "*", "br, *;q=0.5"] {
            assert!(Choice::negotiate("", welcome).gzip, "{welcome}");
        }
        for unwelcome in ["", "identity", "deflate", "gzip;q=0", "gzip;q=0, *", "*;q=0", "gzip;q=x"]
        {
            assert!(!Choice::negotiate("", unwelcome).gzip, "{unwelcome}");
        }
    }
}
