//! The ruby binding over the promring core.
