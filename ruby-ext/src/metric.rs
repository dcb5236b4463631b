//! A metric family with some, all or none of its label values given beforehand.

use std::cell::{Cell, RefCell};

use hashbrown::HashMap;
use magnus::rb_sys::AsRawId;
use magnus::value::Id;
use magnus::{function, method, Class, Error, Module, Object, RArray, RModule, Ruby, Symbol};
use magnus::{TryConvert, Value};
use promring::client::{self, Family, FamilySpec, GaugeMode, MetricType, Series};
use promring::error;
use rb_sys::ID;

use crate::convert::{self, as_strs};
use crate::error::raised;
use crate::hot;

/// What a metric of lib/promring/metrics.rb holds. It holds no Ruby object: label names are interned ids.
#[magnus::wrap(class = "Promring::Native::Metric", free_immediately, size)]
pub struct Metric {
    /// None when the segment had no room for it: then it counts nothing, and that has been said.
    family: Option<&'static Family>,
    label_ids: Box<[ID]>,
    preset: Box<[Option<Box<str>>]>,
    /// `le` or `quantile`, which no label of the family is called.
    part: ID,
    /// The series, once every label value is given.
    fixed: Cell<Option<&'static Series>>,
    /// What this process, or its parent before the fork, has added to a series through a data store, by address:
    /// the store's contract wants an answer at each increment, and to ask the segment would be a drain.
    added: RefCell<HashMap<usize, f64>>,
}

impl Metric {
    fn new(
        family: Option<&'static Family>,
        label_ids: Box<[ID]>,
        part: ID,
        preset: Vec<Option<Box<str>>>,
    ) -> Metric {
        Metric {
            family,
            label_ids,
            part,
            preset: preset.into(),
            fixed: Cell::new(None),
            added: RefCell::new(HashMap::new()),
        }
    }

    /// Registers a family, or finds the one that agrees with it.
    fn register(
        ruby: &Ruby,
        metric_type: String,
        name: String,
        help: String,
        labels: RArray,
        buckets: Vec<f64>,
        mode: String,
    ) -> Result<Metric, Error> {
        let wrong = |what: &str, word: &str| {
            Error::new(ruby.exception_arg_error(), format!("{word:?} is no {what}"))
        };
        let metric_type =
            metric_type_of(&metric_type).ok_or_else(|| wrong("type", &metric_type))?;
        let gauge_mode =
            GaugeMode::parse(&mode).ok_or_else(|| wrong("aggregation of gauges", &mode))?;
        let symbols =
            labels.into_iter().map(Symbol::try_convert).collect::<Result<Vec<_>, Error>>()?;
        let label_names = symbols
            .iter()
            .map(|label| Ok(label.name()?.into_owned()))
            .collect::<Result<_, Error>>()?;
        let spec = FamilySpec {
            name,
            help,
            unit: String::new(),
            metric_type,
            gauge_mode,
            label_names,
            buckets,
            native: None,
        };
        let family = match client::family(&spec) {
            Ok(family) => Some(family),
            Err(error @ error::Error::Full { .. }) => {
                client::log(&format!("{error}. It is not counted"));
                None
            }
            Err(error) => return Err(raised(ruby, &error)),
        };
        // An id made of a symbol is never collected, nor the symbol any more.
        let label_ids = symbols.iter().map(|label| Id::from(*label).as_raw()).collect();
        let part = if metric_type == MetricType::Summary { "quantile" } else { "le" };
        let part = ruby.intern(part).as_raw();
        Ok(Metric::new(family, label_ids, part, vec![None; symbols.len()]))
    }

    /// The same family with these label values given, nil where one is not.
    fn with(&self, values: Vec<Option<String>>) -> Metric {
        let preset = values.into_iter().map(|value| value.map(String::into_boxed_str)).collect();
        Metric::new(self.family, self.label_ids.clone(), self.part, preset)
    }

    /// The label's place among the label values.
    pub fn position(&self, label: ID, likely: usize) -> Option<usize> {
        if self.label_ids.get(likely) == Some(&label) {
            return Some(likely);
        }
        self.label_ids.iter().position(|id| *id == label)
    }

    /// The label by which prometheus-client tells the parts of an observation in a data store.
    pub fn part_id(&self) -> ID {
        self.part
    }

    /// How many labels the family has.
    pub fn n_labels(&self) -> usize {
        self.label_ids.len()
    }

    /// The value given beforehand.
    pub fn preset(&self, position: usize) -> Option<&str> {
        self.preset.get(position)?.as_deref()
    }

    /// The series when every label value was given beforehand.
    #[inline]
    pub fn fixed(&self) -> Option<&'static Series> {
        self.fixed.get().filter(|series| series.is_live()).or_else(|| self.find_fixed())
    }

    /// The first time, and after a removal: asking for the series brings it back.
    #[cold]
    fn find_fixed(&self) -> Option<&'static Series> {
        let values: Vec<&str> = self.preset.iter().map(Option::as_deref).collect::<Option<_>>()?;
        let series = self.family?.series(&values).ok();
        self.fixed.set(series);
        series
    }

    /// The series of these label values, in the order of the label names.
    #[inline]
    pub fn series(&self, values: &[&str]) -> Option<&'static Series> {
        self.family?.series(values).ok()
    }

    /// Counts for a data store, and answers with this process's value: of a gauge its own, else what it has added.
    #[inline]
    pub fn count(&self, series: &'static Series, amount: f64) -> f64 {
        if series.family().spec().metric_type == MetricType::Gauge {
            series.add(amount);
            return series.get_local();
        }
        let mut added = self.added.borrow_mut(); // nobody else: nothing of Ruby runs meanwhile
        let sum = added.entry(std::ptr::from_ref(series) as usize).or_insert(0.0);
        if series.inc(amount) {
            *sum += amount;
        }
        *sum
    }

    fn count_to(&self, values: Vec<String>, amount: f64) -> f64 {
        self.series(&as_strs(&values)).map_or(0.0, |series| self.count(series, amount))
    }

    fn touch(&self, values: Vec<String>) {
        self.series(&as_strs(&values));
    }

    /// Counts, observes, or adds to a gauge; false when the amount was refused, which is counted.
    fn add(&self, values: Vec<String>, amount: f64) -> bool {
        let Some(series) = self.series(&as_strs(&values)) else { return false };
        match series.family().spec().metric_type {
            MetricType::Counter => series.inc(amount),
            MetricType::Gauge => series.add(amount),
            MetricType::Histogram | MetricType::Summary => series.observe(amount),
        }
    }

    fn set(&self, values: Vec<String>, value: f64) -> bool {
        self.series(&as_strs(&values)).is_some_and(|series| series.set(value))
    }

    /// nil when there is no such series: asking does not make one.
    fn get(ruby: &Ruby, this: &Metric, values: Vec<String>) -> Option<Value> {
        let family = this.family?;
        family.collect().iter().find(|series| !series.overflow && series.label_values == values)?;
        let series = family.series(&as_strs(&values)).ok()?;
        Some(convert::number(ruby, series.get()))
    }

    fn collect(ruby: &Ruby, this: &Metric) -> RArray {
        let all = this.family.map(Family::collect).unwrap_or_default();
        ruby.ary_from_iter(all.into_iter().map(|series| convert::series(ruby, series)))
    }

    fn remove(&self, values: Vec<String>) -> bool {
        self.family.is_some_and(|family| family.remove(&as_strs(&values)).unwrap_or(false))
    }

    fn clear(&self) {
        if let Some(family) = self.family {
            family.clear();
        }
    }
}

fn metric_type_of(word: &str) -> Option<MetricType> {
    use MetricType::{Counter, Gauge, Histogram, Summary};
    [Counter, Gauge, Histogram, Summary].into_iter().find(|found| found.as_str() == word)
}

/// How a name is registered already: `[type, label names]`, or nil.
fn registered(name: String) -> Option<(&'static str, Vec<String>)> {
    let spec = client::registered(&name)?;
    Some((spec.metric_type.as_str(), spec.label_names))
}

/// Defines `Promring::Native::Metric`.
pub fn init(ruby: &Ruby, native: RModule) -> Result<(), Error> {
    native.define_singleton_method("registered", function!(registered, 1))?;
    let class = native.define_class("Metric", ruby.class_object())?;
    class.undef_default_alloc_func();
    class.define_singleton_method("new", function!(Metric::register, 6))?;
    class.define_method("with", method!(Metric::with, 1))?;
    class.define_method("touch", method!(Metric::touch, 1))?;
    class.define_method("add_to", method!(Metric::add, 2))?;
    class.define_method("count_to", method!(Metric::count_to, 2))?;
    class.define_method("set_to", method!(Metric::set, 2))?;
    class.define_method("get", method!(Metric::get, 1))?;
    class.define_method("collect", method!(Metric::collect, 0))?;
    class.define_method("remove", method!(Metric::remove, 1))?;
    class.define_method("clear", method!(Metric::clear, 0))?;
    hot::define_metric_calls(class);
    Ok(())
}
