//! The core's errors as Python exceptions.

use pyo3::prelude::*;
use pyo3::{create_exception, exceptions::PyValueError};

create_exception!(
    promring._native,
    Error,
    PyValueError,
    "What promring refuses: a setting, a metric that contradicts another one, a segment without room.\n\n\
     `code` tells the kind: a stable word such as \"family_conflict\"."
);

/// A core error as the exception to raise.
pub(crate) fn raised(py: Python<'_>, error: &promring::error::Error) -> PyErr {
    let raised = Error::new_err(error.to_string());
    match raised.value(py).setattr("code", error.code()) {
        Ok(()) => raised,
        Err(failed) => failed,
    }
}
