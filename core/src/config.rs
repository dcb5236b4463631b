//! Options, environment names, defaults with their docs. The README's table is generated from `SETTINGS`.

use std::path::PathBuf;

use crate::error::Error;

/// Where `/metrics` is listened on.
#[derive(Clone, Debug, PartialEq)]
pub enum Listen {
    /// Nowhere: scrapes come through the app's own endpoint, `promring dump` or `promring serve`.
    Off,
    /// `host:port`, `:port` or `port`.
    Tcp(String),
}

/// The label by which the per-process gauge modes (`all`, `liveall`) tell workers apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GaugeLabel {
    /// `pid`, as prometheus_client and client_ruby have it.
    Pid,
    /// `worker`: a small number that a recycled worker's successor takes over, so series stay few.
    Worker,
}

impl GaugeLabel {
    /// The label's name.
    pub fn as_str(self) -> &'static str {
        match self {
            GaugeLabel::Pid => "pid",
            GaugeLabel::Worker => "worker",
        }
    }
}

/// How promring works in this process.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Path of the segment, without the suffix that names the layout version.
    pub segment: Option<PathBuf>,
    /// `PROMETHEUS_MULTIPROC_DIR`: the segment's directory when `segment` is not set.
    pub multiproc_dir: Option<PathBuf>,
    /// What the default segment is named after; the current directory if not set.
    pub app_root: Option<PathBuf>,
    /// The aggregator's address.
    pub listen: Listen,
    /// Cap on series per app.
    pub max_series: u32,
    /// Cap on series per family.
    pub max_series_per_family: u32,
    /// A segment abandoned for less than this many seconds is taken up again instead of started afresh.
    pub adopt_seconds: u64,
    /// A label set in which nothing was counted for so many seconds is removed; 0: none ever is.
    pub series_ttl: u64,
    /// Label of the per-process gauge modes.
    pub gauge_label: GaugeLabel,
    /// Whether the processes report what they take from the machine (`process_*`).
    pub process_metrics: bool,
    /// Whether promring's counters of its own drains and scrapes are shown; they alone change while the app is idle.
    pub scrape_metrics: bool,
    /// Which histograms have exponential buckets, the first rule that fits a name.
    pub native_histograms: Vec<NativeRule>,
    /// Which summaries show quantiles, the first rule that fits a name.
    pub summary_quantiles: Vec<QuantileRule>,
    /// How many seconds back quantiles and sets look.
    pub summary_window: u64,
    /// Labels of `target_info`, by which Prometheus knows more of the app; not shown without any.
    pub target_info: Vec<(String, String)>,
}

/// Histograms of these names have exponential buckets, too.
#[derive(Clone, Debug, PartialEq)]
pub struct NativeRule {
    /// A name; `*` stands for any characters.
    pub name: String,
    /// Schema of their buckets, -4 to 8.
    pub schema: i8,
    /// Are the classic ones left out of messages?
    pub alone: bool,
}

impl NativeRule {
    /// `name=schema` or `name=schema:only`.
    fn parse(text: &str) -> Option<NativeRule> {
        let (name, schema) = text.trim().split_once('=')?;
        let (schema, alone) = match schema.split_once(':') {
            Some((schema, "only")) => (schema, true),
            Some(_) => return None,
            None => (schema, false),
        };
        let schema = schema.parse().ok().filter(|schema| (-4..=8).contains(schema))?;
        Some(NativeRule { name: name.to_string(), schema, alone })
    }
}

/// Summaries of these names show quantiles.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantileRule {
    /// A name; `*` stands for any characters.
    pub name: String,
    /// From 0 to 1, ascending.
    pub quantiles: Vec<f64>,
    /// Schema of the exponential buckets that they are computed from, -4 to 8: at 3 they are right to 4.4 %, at 4 to
    /// 2.2 %, at 5 to 1.1 %.
    pub schema: i8,
    /// Least and most of what is resolved so well. A series takes 112 bytes for each bucket in between.
    pub range: (f64, f64),
}

impl QuantileRule {
    /// `name=0.5/0.99`, then `:schema` and `:least..most` if wanted.
    fn parse(text: &str) -> Option<QuantileRule> {
        let (name, wanted) = text.trim().split_once('=')?;
        let mut parts = wanted.split(':');
        let quantiles =
            parts.next()?.split('/').map(|q| q.parse().ok()).collect::<Option<Vec<f64>>>()?;
        let schema = parts.next().map_or(Some(3), |schema| schema.parse().ok())?;
        let range = parts.next().map_or(Some((1e-6, 3600.0)), |range| {
            let (least, most) = range.split_once("..")?;
            Some((least.parse().ok()?, most.parse().ok()?))
        })?;
        let good = quantiles.iter().all(|quantile| (0.0..=1.0).contains(quantile))
            && quantiles.windows(2).all(|pair| pair[0] < pair[1])
            && (1..=16).contains(&quantiles.len())
            && (-4..=8).contains(&schema)
            && (0.0 < range.0 && range.0 < range.1 && range.1 < f64::INFINITY)
            && parts.next().is_none();
        good.then(|| QuantileRule { name: name.to_string(), quantiles, schema, range })
    }
}

/// Does a name fit one in which `*` stands for any characters?
fn fits(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|start| name.strip_prefix(start)) else {
        return false;
    };
    let mut last = None;
    for piece in pieces {
        // Every piece but the last goes where it first fits.
        if let Some(before) = last.replace(piece) {
            let Some(at) = rest.find(before) else { return false };
            rest = &rest[at + before.len()..];
        }
    }
    last.map_or(rest.is_empty(), |end| rest.ends_with(end))
}

impl Default for Config {
    fn default() -> Self {
        Config {
            segment: None,
            multiproc_dir: None,
            app_root: None,
            listen: Listen::Tcp("127.0.0.1:9394".into()),
            max_series: 100_000,
            max_series_per_family: 10_000,
            adopt_seconds: 0,
            series_ttl: 0,
            gauge_label: GaugeLabel::Pid,
            process_metrics: true,
            scrape_metrics: true,
            native_histograms: Vec::new(),
            summary_quantiles: Vec::new(),
            summary_window: 600,
            target_info: Vec::new(),
        }
    }
}

/// `name=value` of a label.
fn label(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let name = name.trim();
    let good = !name.is_empty() && !name.starts_with("__") && !name.chars().any(char::is_control);
    good.then(|| (name.to_string(), value.trim().to_string()))
}

/// One option as users see it.
#[derive(Debug)]
pub struct Setting {
    /// Name in `configure` of Ruby and Python.
    pub name: &'static str,
    /// Environment variable.
    pub env: &'static str,
    /// Default, in words.
    pub default: &'static str,
    /// What it does.
    pub doc: &'static str,
}

/// Every option, in the order of the README's table.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "segment",
        env: "PROMRING_SEGMENT",
        default: "`promring` in `PROMETHEUS_MULTIPROC_DIR` if that is set, else `/dev/shm/promring-<uid>/<app>`",
        doc: "Path of the app's segment, on a tmpfs. All processes that name the same path share one `/metrics`.",
    },
    Setting {
        name: "app_root",
        env: "PROMRING_APP_ROOT",
        default: "the current directory",
        doc: "Directory that the default segment is named after.",
    },
    Setting {
        name: "listen",
        env: "PROMRING_LISTEN",
        default: "`127.0.0.1:9394`",
        doc: "Address of the aggregator's `/metrics`, or `off`.",
    },
    Setting {
        name: "max_series",
        env: "PROMRING_MAX_SERIES",
        default: "100000",
        doc: "Cap on series per app; label sets beyond it count in their family's overflow series. Read when the segment is created.",
    },
    Setting {
        name: "max_series_per_family",
        env: "PROMRING_MAX_SERIES_PER_FAMILY",
        default: "10000",
        doc: "The same per metric family.",
    },
    Setting {
        name: "adopt_seconds",
        env: "PROMRING_ADOPT_SECONDS",
        default: "0",
        doc: "A server that starts within this time after the last process ended goes on with the old totals; 0 starts afresh.",
    },
    Setting {
        name: "series_ttl",
        env: "PROMRING_SERIES_TTL",
        default: "0",
        doc: "A label set that has counted nothing for so many seconds leaves the page, and begins anew at zero with its next count; 0 keeps all. Gauges stay.",
    },
    Setting {
        name: "gauge_label",
        env: "PROMRING_GAUGE_LABEL",
        default: "`pid`",
        doc: "Label of gauges in the modes `all` and `liveall`: `pid`, or `worker` for a small stable number.",
    },
    Setting {
        name: "process_metrics",
        env: "PROMRING_PROCESS_METRICS",
        default: "`on`",
        doc: "Whether `process_cpu_seconds_total` and its kin are shown, for all processes of the app together.",
    },
    Setting {
        name: "scrape_metrics",
        env: "PROMRING_SCRAPE_METRICS",
        default: "`on`",
        doc: "Whether `promring_scrapes_total`, `promring_drains_total` and their seconds are shown: all that a scrape of an idle app changes. With `off`, its pages are the same, byte for byte.",
    },
    Setting {
        name: "native_histograms",
        env: "PROMRING_NATIVE_HISTOGRAMS",
        default: "none",
        doc: "Histograms that are native, too: `http_*=3, queue_seconds=5:only` names them (`*` is anything), the schema of their exponential buckets, and whether protobuf leaves the classic ones out.",
    },
    Setting {
        name: "summary_quantiles",
        env: "PROMRING_SUMMARY_QUANTILES",
        default: "none",
        doc: "Summaries that show quantiles over a sliding window: `*_seconds=0.5/0.9/0.99, size_bytes=0.5/0.99:4:1..1e9` names them, the quantiles, the schema of the exponential buckets they are computed from (3: right to 4.4 %; 4: 2.2 %; 5: 1.1 %) and the range that it holds for (a microsecond to an hour).",
    },
    Setting {
        name: "summary_window",
        env: "PROMRING_SUMMARY_WINDOW",
        default: "600",
        doc: "How many seconds back quantiles and sets look: this long at the most, three quarters of it at the least.",
    },
    Setting {
        name: "target_info",
        env: "PROMRING_TARGET_INFO",
        default: "none",
        doc: "Labels of the metric `target_info`, as `service.name=shop,service.version=2`.",
    },
];

impl Config {
    /// The defaults, overridden by the environment. Values that cannot be used are returned to be
    /// logged; the default stays.
    pub fn from_env() -> (Config, Vec<Error>) {
        Config::from_lookup(|name| std::env::var(name).ok())
    }

    /// As [`Config::from_env`], with another source of variables.
    ///
    /// ```
    /// use promring::config::{Config, Listen};
    /// let (config, errors) = Config::from_lookup(|name| match name {
    ///     "PROMRING_LISTEN" => Some("off".into()),
    ///     "PROMRING_MAX_SERIES" => Some("many".into()),
    ///     _ => None,
    /// });
    /// assert_eq!(config.listen, Listen::Off);
    /// assert_eq!(config.max_series, 100_000);
    /// assert!(errors[0].to_string().starts_with("PROMRING_MAX_SERIES=\"many\" is not valid"));
    /// ```
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> (Config, Vec<Error>) {
        let mut config = Config::default();
        let mut errors = Vec::new();
        for setting in SETTINGS {
            if let Some(value) = lookup(setting.env).filter(|value| !value.is_empty()) {
                errors.extend(config.set(setting.name, &value).err());
            }
        }
        // prometheus_client still honours the lower-case name.
        let directory = ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"];
        config.multiproc_dir = directory
            .iter()
            .find_map(|name| lookup(name))
            .filter(|d| !d.is_empty())
            .map(PathBuf::from);
        (config, errors)
    }

    /// Sets one option by its name in [`SETTINGS`].
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let refuse =
            |env, expected| Error::Setting { name: env, value: value.to_string(), expected };
        let seconds = |env| {
            let seconds = number(value, 0, 31_536_000).map(u64::from);
            seconds.ok_or_else(|| refuse(env, "a number of seconds"))
        };
        let cap = |env| {
            let cap = number(value, 1, 10_000_000);
            cap.ok_or_else(|| refuse(env, "a number from 1 to 10000000"))
        };
        let on_or_off = |env| match value {
            "on" | "true" | "1" => Ok(true),
            "off" | "false" | "0" => Ok(false),
            _ => Err(refuse(env, "on or off")),
        };
        match name {
            "segment" => self.segment = Some(PathBuf::from(value)),
            "app_root" => self.app_root = Some(PathBuf::from(value)),
            "listen" if matches!(value, "off" | "none" | "false") => self.listen = Listen::Off,
            "listen" => {
                let port = value.rsplit(':').next().unwrap_or(value);
                port.parse::<u16>()
                    .map_err(|_| refuse("PROMRING_LISTEN", "host:port, :port, port or off"))?;
                self.listen = Listen::Tcp(value.to_string());
            }
            "max_series" => self.max_series = cap("PROMRING_MAX_SERIES")?,
            "max_series_per_family" => {
                self.max_series_per_family = cap("PROMRING_MAX_SERIES_PER_FAMILY")?;
            }
            "adopt_seconds" => self.adopt_seconds = seconds("PROMRING_ADOPT_SECONDS")?,
            "series_ttl" => self.series_ttl = seconds("PROMRING_SERIES_TTL")?,
            "gauge_label" => {
                self.gauge_label = match value {
                    "pid" => GaugeLabel::Pid,
                    "worker" => GaugeLabel::Worker,
                    _ => return Err(refuse("PROMRING_GAUGE_LABEL", "pid or worker")),
                }
            }
            "process_metrics" => self.process_metrics = on_or_off("PROMRING_PROCESS_METRICS")?,
            "scrape_metrics" => self.scrape_metrics = on_or_off("PROMRING_SCRAPE_METRICS")?,
            "native_histograms" => {
                self.native_histograms = listed(value, NativeRule::parse).ok_or_else(|| {
                    refuse("PROMRING_NATIVE_HISTOGRAMS", "name=schema or name=schema:only, separated by commas, schemas from -4 to 8")
                })?;
            }
            "summary_quantiles" => {
                self.summary_quantiles = listed(value, QuantileRule::parse).ok_or_else(|| {
                    refuse("PROMRING_SUMMARY_QUANTILES", "name=0.5/0.99, name=0.5/0.99:schema or name=0.5/0.99:schema:least..most, separated by commas, quantiles from 0 to 1 in ascending order")
                })?;
            }
            "summary_window" => {
                self.summary_window = number(value, 1, 86_400).map(u64::from).ok_or_else(|| {
                    refuse("PROMRING_SUMMARY_WINDOW", "a number of seconds from 1 to 86400")
                })?;
            }
            "target_info" => {
                self.target_info.clear();
                self.target_info = listed(value, label).filter(|l| each_once(l)).ok_or_else(|| {
                    refuse("PROMRING_TARGET_INFO", "label=value, separated by commas, each label once")
                })?;
            }
            _ => {
                return Err(Error::Setting {
                    name: "setting",
                    value: name.to_string(),
                    expected: "one of segment, app_root, listen, max_series, max_series_per_family, adopt_seconds, series_ttl, gauge_label, process_metrics, scrape_metrics, native_histograms, summary_quantiles, summary_window, target_info",
                })
            }
        }
        Ok(())
    }

    /// Schema of a histogram's exponential buckets, and whether they are shown alone; None for others.
    ///
    /// ```
    /// let mut config = promring::config::Config::default();
    /// config.set("native_histograms", "http_*_seconds=3, db=-1:only").unwrap();
    /// assert_eq!(config.native_for("http_request_seconds"), Some((3, false)));
    /// assert_eq!(config.native_for("db"), Some((-1, true)));
    /// assert_eq!(config.native_for("http_seconds"), None);
    /// assert!(config.set("native_histograms", "db=9").is_err());
    /// ```
    pub fn native_for(&self, name: &str) -> Option<(i8, bool)> {
        let rule = self.native_histograms.iter().find(|rule| fits(&rule.name, name))?;
        Some((rule.schema, rule.alone))
    }

    /// What quantiles a summary of that name shows.
    ///
    /// ```
    /// let mut config = promring::config::Config::default();
    /// config.set("summary_quantiles", "*_seconds=0.5/0.99, bytes=0.9:4:1..1e9").unwrap();
    /// assert_eq!(config.quantiles_for("db_seconds").unwrap().quantiles, [0.5, 0.99]);
    /// let bytes = config.quantiles_for("bytes").unwrap();
    /// assert_eq!((bytes.schema, bytes.range), (4, (1.0, 1e9)));
    /// assert_eq!(config.quantiles_for("seconds"), None);
    /// assert!(config.set("summary_quantiles", "db=0.9/0.5").is_err());
    /// ```
    pub fn quantiles_for(&self, name: &str) -> Option<&QuantileRule> {
        self.summary_quantiles.iter().find(|rule| fits(&rule.name, name))
    }

    /// The segment's path without the suffix of the layout version. `uid` is the effective user's.
    ///
    /// It depends on configuration alone, so that forked, spawned, re-executed and unrelated
    /// processes of the app meet in it.
    pub(crate) fn segment_base(&self, uid: u32) -> PathBuf {
        if let Some(path) = &self.segment {
            return path.clone();
        }
        if let Some(directory) = &self.multiproc_dir {
            return directory.join("promring");
        }
        let root =
            self.app_root.clone().or_else(|| std::env::current_dir().ok()).unwrap_or_default();
        let root = root.canonicalize().unwrap_or(root);
        let name: String = root
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_else(|| "app".into())
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' })
            .take(64)
            .collect();
        // Two apps may have directories of one name: a short hash of the whole path tells them apart.
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for byte in root.as_os_str().as_encoded_bytes() {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        PathBuf::from(format!("/dev/shm/promring-{uid}/{name}-{:08x}", hash as u32))
    }
}

/// What is separated by commas, each piece read by `parse`; None if one cannot be.
fn listed<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    text.split(',').filter(|piece| !piece.trim().is_empty()).map(parse).collect()
}

fn each_once(labels: &[(String, String)]) -> bool {
    let twice = |i: usize| labels[..i].iter().any(|(name, _)| *name == labels[i].0);
    !(0..labels.len()).any(twice)
}

fn number(text: &str, least: u32, most: u32) -> Option<u32> {
    text.trim().parse().ok().filter(|n| (least..=most).contains(n))
}
