//! Python objects to the core's words and back.

use promring::client::{Exemplar, GaugeMode, MetricType, SeriesValue, Value};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

/// Text of a str; lone surrogates, which no UTF-8 page can carry, become U+FFFD.
pub(crate) fn text(string: &Bound<'_, PyString>) -> String {
    string.to_string_lossy().into_owned()
}

/// The texts of a sequence of str.
pub(crate) fn texts(sequence: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    sequence.try_iter()?.map(|item| Ok(text(item?.cast::<PyString>()?))).collect()
}

/// The texts of a dict of str to str.
pub(crate) fn pairs(dict: &Bound<'_, PyDict>) -> PyResult<Vec<(String, String)>> {
    dict.iter().map(|(name, value)| Ok((text(name.cast()?), text(value.cast()?)))).collect()
}

/// A metric type by its word.
pub(crate) fn metric_type(word: &str) -> PyResult<MetricType> {
    [MetricType::Counter, MetricType::Gauge, MetricType::Histogram, MetricType::Summary]
        .into_iter()
        .find(|known| known.as_str() == word)
        .ok_or_else(|| PyValueError::new_err(format!("unknown metric type {word:?}")))
}

/// A gauge's mode by prometheus_client's word; empty for other types.
pub(crate) fn gauge_mode(word: &str) -> PyResult<GaugeMode> {
    if word.is_empty() {
        return Ok(GaugeMode::All);
    }
    GaugeMode::parse(word)
        .ok_or_else(|| PyValueError::new_err(format!("Invalid multiprocess mode: {word}")))
}

/// A float; a summary's `(count, sum)`; a histogram's `(counts, sum)`, not cumulative, `+Inf` last.
pub(crate) fn value<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    match value {
        Value::Number(number) => Ok(number.into_pyobject(py)?.into_any()),
        Value::Summary { count, sum } => Ok((*count, *sum).into_pyobject(py)?.into_any()),
        Value::Histogram { counts, sum } => {
            Ok((PyList::new(py, counts)?, *sum).into_pyobject(py)?.into_any())
        }
    }
}

/// The library's `Exemplar`.
pub(crate) fn exemplar<'py>(py: Python<'py>, exemplar: &Exemplar) -> PyResult<Bound<'py, PyAny>> {
    let labels = PyDict::new(py);
    for (name, value) in &exemplar.labels {
        labels.set_item(name, value)?;
    }
    let class = py.import("prometheus_client.samples")?.getattr("Exemplar")?;
    class.call1((labels, exemplar.value, exemplar.unix_seconds))
}

/// A row of `Family.collect`: label values, worker or None, value, creation time, is it the overflow series?,
/// and exemplars by bucket.
pub(crate) fn row<'py>(py: Python<'py>, series: &SeriesValue) -> PyResult<Bound<'py, PyAny>> {
    let labels = PyTuple::new(py, &series.label_values)?;
    let value = value(py, &series.value)?;
    let exemplars = PyDict::new(py);
    for (bucket, kept) in &series.exemplars {
        exemplars.set_item(bucket, exemplar(py, kept)?)?;
    }
    let worker = series.worker.as_deref();
    let row = (labels, worker, value, series.created_seconds, series.overflow, exemplars);
    Ok(row.into_pyobject(py)?.into_any())
}
