//! The Python module `promring._native`: converts, makes one call of the core, converts back.
//!
//! `hot` holds the calls that an app makes all day and everything unsafe; `metric` the classes behind
//! an app's metrics; `aggregator` the rest of the core's door; `convert` and `error` serve them.
//!
//! The global lock is kept in every call. It is what makes a process a single producer (a scrape
//! drains and may claim the process's place, so it counts as one), and a lock of the core that is
//! never held across a release of it cannot be inherited, held, by a forked child.
#![deny(unsafe_code)]

mod aggregator;
mod convert;
mod error;
mod hot;
mod metric;

use pyo3::prelude::*;

/// Exact Prometheus metrics for all workers of an app: the native half.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::aggregator::{
        attach, configure, detach_for_tests, gauge_label, main, scrape, segment_path,
        start_aggregator, stop_aggregator, tick,
    };
    #[pymodule_export]
    use super::error::Error;
    #[pymodule_export]
    use super::metric::{end_worker, families, family, on_exemplar, Family, Labels, Series};
    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // Python's spelling of pre-releases, as in the wheel's metadata: 0.3.0-rc.1 is 0.3.0rc1.
        let version =
            promring::VERSION.replace("-alpha.", "a").replace("-beta.", "b").replace("-rc.", "rc");
        module.add("__version__", version)
    }
}
