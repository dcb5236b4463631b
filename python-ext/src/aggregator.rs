//! Settings, scraping, the aggregator's role and the command line.

use std::path::PathBuf;

use promring::aggregator::{self, Start};
use promring::client;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::convert;
use crate::error::raised;

/// Sets options by their names; False, without effect, when this process is attached already.
#[pyfunction]
pub(crate) fn configure(settings: &Bound<'_, PyDict>) -> PyResult<bool> {
    let mut config = client::config().clone();
    for (name, value) in settings {
        let (name, value) = (convert::text(&name.str()?), convert::text(&value.str()?));
        config.set(&name, &value).map_err(|error| raised(settings.py(), &error))?;
    }
    Ok(client::configure(config))
}

/// Attaches this process to the app's segment; never fails, see `segment_path`.
#[pyfunction]
pub(crate) fn attach() {
    client::attach();
}

/// The segment's file; None when there is none that other processes could find.
#[pyfunction]
pub(crate) fn segment_path() -> Option<PathBuf> {
    client::segment_path()
}

/// Forgets attachment, configuration and families, for tests.
#[pyfunction]
pub(crate) fn detach_for_tests() {
    client::detach_for_tests();
}

/// Name of the label that tells workers apart in the gauge modes all and liveall.
#[pyfunction]
pub(crate) fn gauge_label() -> &'static str {
    client::config().gauge_label.as_str()
}

/// Content type and bytes of a page of everything that the app counts.
#[pyfunction]
#[pyo3(signature = (accept = ""))]
pub(crate) fn scrape<'py>(py: Python<'py>, accept: &str) -> (&'static str, Bound<'py, PyBytes>) {
    let page = aggregator::scrape(accept);
    (page.content_type, PyBytes::new(py, &page.body))
}

/// Starts the aggregator as a child process of this one; returns its pid, None if listening is off.
#[pyfunction]
pub(crate) fn start_aggregator(py: Python<'_>) -> PyResult<Option<u32>> {
    match aggregator::start().map_err(|error| raised(py, &error))? {
        Start::Started { pid } | Start::AlreadyStarted { pid } => Ok(Some(pid)),
        Start::Off => Ok(None),
    }
}

/// Ends the aggregator that this process has started.
#[pyfunction]
pub(crate) fn stop_aggregator() {
    aggregator::stop();
}

/// Notices that the aggregator is gone and takes its role up again: once per request.
#[pyfunction]
pub(crate) fn tick() {
    client::tick();
}

/// The command line; returns the exit status.
#[pyfunction]
pub(crate) fn main(arguments: Vec<Bound<'_, PyString>>) -> i32 {
    let arguments: Vec<String> = arguments.iter().map(convert::text).collect();
    promring::cli::main(&arguments)
}
