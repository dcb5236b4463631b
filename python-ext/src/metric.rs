//! The classes behind an app's metrics: a family, one of its series, and the look-up of `labels()`.

use promring::client::{self, FamilySpec, MetricType, Native};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use crate::convert;
use crate::error::raised;
use crate::hot::{self, Lookup, Target};

/// A metric family, shared by all processes of the app.
#[pyclass(frozen, module = "promring._native")]
pub struct Family(&'static client::Family);

/// The family of that name; registered now if it is new. `native` is the schema of a histogram's exponential
/// buckets beside its classic ones. Raises Error when it contradicts one of that name.
#[pyfunction]
#[pyo3(signature = (metric_type, name, documentation, label_names = None, *, unit = "", mode = "", buckets = Vec::new(), native = None))]
#[allow(clippy::too_many_arguments)] // most of them are keywords
pub(crate) fn family(
    metric_type: &str,
    name: &Bound<'_, PyString>,
    documentation: &Bound<'_, PyString>,
    label_names: Option<&Bound<'_, PyAny>>,
    unit: &str,
    mode: &str,
    buckets: Vec<f64>,
    native: Option<i8>,
) -> PyResult<Family> {
    let spec = FamilySpec {
        name: convert::text(name),
        help: convert::text(documentation),
        unit: unit.to_string(),
        metric_type: convert::metric_type(metric_type)?,
        gauge_mode: convert::gauge_mode(mode)?,
        label_names: label_names.map_or(Ok(Vec::new()), convert::texts)?,
        native: native.map(|schema| Native::around(schema, &buckets)),
        buckets,
    };
    client::family(&spec).map(Family).map_err(|error| raised(name.py(), &error))
}

/// Every family that any process of the app has registered.
#[pyfunction]
pub(crate) fn families() -> Vec<Family> {
    client::families().into_iter().map(Family).collect()
}

#[pymethods]
impl Family {
    /// counter, gauge, histogram or summary.
    #[getter]
    fn metric_type(&self) -> &'static str {
        self.0.spec().metric_type.as_str()
    }

    /// Name of its samples; a counter's ends in `_total`, if its library wants that.
    #[getter]
    fn name(&self) -> &str {
        &self.0.spec().name
    }

    /// Help text.
    #[getter]
    fn documentation(&self) -> &str {
        &self.0.spec().help
    }

    /// Unit, may be empty.
    #[getter]
    fn unit(&self) -> &str {
        &self.0.spec().unit
    }

    /// How workers' values combine: prometheus_client's multiprocess mode; empty unless a gauge.
    #[getter]
    fn mode(&self) -> &'static str {
        match self.0.spec().metric_type {
            MetricType::Gauge => self.0.spec().gauge_mode.as_str(),
            _ => "",
        }
    }

    /// Label names, in the order of label values.
    #[getter]
    fn label_names<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.0.spec().label_names)
    }

    /// Finite upper bounds of a histogram.
    #[getter]
    fn buckets(&self) -> Vec<f64> {
        self.0.spec().buckets.clone()
    }

    /// The series of a label set; a removed one comes back, at zero. What is counted by its methods is that
    /// worker's whose number `identifier()` returns; this process's, if it is none or no number.
    #[pyo3(signature = (label_values, identifier = None))]
    fn series(
        &self,
        label_values: &Bound<'_, PyAny>,
        identifier: Option<Py<PyAny>>,
    ) -> PyResult<Series> {
        let py = label_values.py();
        let label_values = convert::texts(label_values)?;
        let target = find(self.0, &label_values).map_err(|error| raised(py, &error))?;
        Ok(Series { target: Target::new(target), label_values, identifier })
    }

    /// Hides a label set's series in all processes; False when there is none.
    fn remove(&self, label_values: &Bound<'_, PyAny>) -> PyResult<bool> {
        let texts = convert::texts(label_values)?;
        let values: Vec<&str> = texts.iter().map(String::as_str).collect();
        self.0.remove(&values).map_err(|error| raised(label_values.py(), &error))
    }

    /// Hides every series that has these labels, whatever its others; returns how many.
    fn remove_matching(&self, labels: &Bound<'_, PyDict>) -> PyResult<usize> {
        let pairs = convert::pairs(labels)?;
        let pairs: Vec<(&str, &str)> =
            pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        Ok(self.0.remove_matching(&pairs))
    }

    /// Hides every series.
    fn clear(&self) {
        self.0.clear();
    }

    /// All series over all processes: (label values, worker or None, value, creation time, overflow?,
    /// exemplars by bucket).
    fn collect<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let rows = self.0.collect();
        let rows: PyResult<Vec<_>> = rows.iter().map(|row| convert::row(py, row)).collect();
        PyList::new(py, rows?)
    }
}

fn find(
    family: &'static client::Family,
    label_values: &[String],
) -> Result<&'static client::Series, promring::error::Error> {
    let values: Vec<&str> = label_values.iter().map(String::as_str).collect();
    family.series(&values)
}

/// One series as this process uses it; stands where prometheus_client keeps a metric's value object.
#[pyclass(frozen, weakref, module = "promring._native")]
pub struct Series {
    pub(crate) target: Target,
    label_values: Vec<String>,
    /// Asked at each call which worker it is of.
    identifier: Option<Py<PyAny>>,
}

impl Series {
    /// Runs calls of the core as the worker that the identifier names. No code of the app runs in `work`.
    fn as_worker<R>(&self, py: Python<'_>, work: impl FnOnce() -> R) -> PyResult<R> {
        let Some(identifier) = &self.identifier else { return Ok(work()) };
        Ok(match identifier.call0(py)?.extract(py) {
            Ok(number) => client::as_worker(number, work),
            Err(_) => work(),
        })
    }

    /// After a removal: the series again, at zero.
    #[cold]
    pub(crate) fn revived(&self) -> &'static client::Series {
        let old = self.target.get();
        match find(old.family(), &self.label_values) {
            Ok(series) => {
                self.target.set(series);
                series
            }
            Err(_) => old, // the number of labels was right when it was made
        }
    }

    /// The series, brought back if it was removed.
    #[inline]
    pub(crate) fn live(&self) -> &'static client::Series {
        let series = self.target.get();
        if series.is_live() {
            series
        } else {
            self.revived()
        }
    }

    fn metric_type(&self) -> MetricType {
        self.target.get().family().spec().metric_type
    }
}

#[pymethods]
impl Series {
    /// Adds: to a counter what is not negative, to a gauge anything.
    fn inc(&self, py: Python<'_>, amount: f64) -> PyResult<()> {
        self.as_worker(py, || {
            match self.metric_type() {
                MetricType::Gauge => self.live().add(amount),
                _ => self.live().inc(amount),
            };
        })
    }

    /// Sets a gauge; `timestamp` counts in the mostrecent modes. Starts a counter anew at `value`.
    #[pyo3(signature = (value, timestamp = None))]
    fn set(&self, py: Python<'_>, value: f64, timestamp: Option<f64>) -> PyResult<()> {
        self.as_worker(py, || {
            let series = self.live();
            match (self.metric_type(), timestamp) {
                (MetricType::Gauge, Some(at)) => series.set_at(value, at),
                (MetricType::Gauge, None) => series.set(value),
                _ => {
                    let values: Vec<&str> = self.label_values.iter().map(String::as_str).collect();
                    let _ = series.family().remove(&values); // fails on a wrong number of labels only
                    self.live().inc(value)
                }
            };
        })
    }

    /// Adds a value to a gauge of the mode unique, which shows about how many different ones the last while has brought.
    fn add_to_set(&self, value: &[u8]) {
        self.live().add_to_set(value);
    }

    /// Observes a value in a histogram or summary, as if `weight` times.
    #[pyo3(signature = (value, weight = 1.0))]
    fn observe(&self, py: Python<'_>, value: f64, weight: f32) -> PyResult<()> {
        self.as_worker(py, || {
            self.live().observe_weighted(value, weight);
        })
    }

    /// The value over all processes; of a gauge in the modes all and liveall, this worker's own.
    fn get<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let value = self.as_worker(py, || self.target.get().get())?;
        convert::value(py, &value)
    }

    /// Has it an identifier? Then calls by `bound` would be this process's.
    #[getter]
    fn is_identified(&self) -> bool {
        self.identifier.is_some()
    }

    /// False after a removal.
    #[getter]
    fn is_live(&self) -> bool {
        self.target.get().is_live()
    }

    /// Keeps an exemplar of a counter's amount or a histogram's observation for all processes, which show
    /// it in OpenMetrics and protobuf; now, or at `timestamp`. False when enough have come just before.
    /// Raises Error when it cannot be one; the value counts all the same.
    #[pyo3(signature = (labels, value, timestamp = None))]
    fn share_exemplar(
        &self,
        labels: &Bound<'_, PyDict>,
        value: f64,
        timestamp: Option<f64>,
    ) -> PyResult<bool> {
        let pairs = convert::pairs(labels)?;
        let pairs: Vec<(&str, &str)> =
            pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let kept = self.live().keep_exemplar(value, &pairs, timestamp);
        kept.map_err(|error| raised(labels.py(), &error))
    }

    /// The library's `Exemplar` that some process has kept last, of one bucket.
    #[pyo3(signature = (bucket = 0))]
    fn get_exemplar<'py>(
        &self,
        py: Python<'py>,
        bucket: usize,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let exemplar = self.target.get().exemplar(bucket);
        exemplar.map(|exemplar| convert::exemplar(py, &exemplar)).transpose()
    }

    /// Keeps one of the library's for all processes, as value objects of the library do.
    fn set_exemplar(&self, exemplar: &Bound<'_, PyAny>) -> PyResult<()> {
        let labels = exemplar.getattr("labels")?;
        let value = exemplar.getattr("value")?.extract()?;
        let timestamp = exemplar.getattr("timestamp")?.extract()?;
        self.share_exemplar(labels.cast()?, value, timestamp).map(drop)
    }

    /// A function of C for one call: inc, dec, set or observe. It counts for this process.
    fn bound(slf: &Bound<'_, Self>, call: &str) -> PyResult<Py<PyAny>> {
        let gauge = slf.get().metric_type() == MetricType::Gauge;
        hot::bound(slf.as_any(), call, gauge)
            .ok_or_else(|| PyValueError::new_err(format!("no such call: {call:?}")))?
    }

    /// Points to the same label set of another family; for a fresh segment.
    fn rebind(&self, family: &Family) -> PyResult<()> {
        let series = find(family.0, &self.label_values)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        self.target.set(series);
        Ok(())
    }
}

/// Ends a worker that identifiers have named in this process; False when there is none.
#[pyfunction]
pub(crate) fn end_worker(number: u64) -> bool {
    client::end_worker(number)
}

/// What runs when an increment or observation brings an exemplar: `hook(series, amount, exemplar)`.
#[pyfunction]
pub(crate) fn on_exemplar(hook: Py<PyAny>) {
    hot::set_exemplar_hook(hook);
}

/// The look-up behind `labels()` of one metric: label values to the child that stands for them.
///
/// What it does not know it asks of `otherwise(parent, *values, **labels)`, and keeps the answer if
/// that has a `Series` as its `_promring`.
#[pyclass(frozen, module = "promring._native")]
pub struct Labels {
    pub(crate) lookup: Lookup,
}

#[pymethods]
impl Labels {
    #[new]
    fn new(
        parent: Py<PyAny>,
        label_names: &Bound<'_, PyTuple>,
        otherwise: Py<PyAny>,
    ) -> PyResult<Labels> {
        Ok(Labels { lookup: Lookup::new(parent, label_names, otherwise)? })
    }

    /// `labels` as a function of C.
    fn bound(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        hot::bound_labels(slf.as_any())
    }

    /// Forgets all children: after a removal.
    fn forget(&self) {
        self.lookup.forget();
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.lookup.traverse(visit)
    }

    fn __clear__(&self) {
        self.lookup.clear();
    }
}
