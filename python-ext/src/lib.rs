//! The python binding over the promring core.
