//! The Ruby binding: converts, makes one call of the core, converts back. Set-up only; the rest is in the modules.
//!
//! Reading order: `metric` is what Ruby's metric classes stand on, `statsd` what StatsD calls are looked up in,
//! `hot` the calls of every request over the two, `aggregator` everything about the app as a whole.
#![deny(unsafe_code)]
#![allow(missing_docs)] // all that is public is the function that Ruby loads

mod aggregator;
mod convert;
mod error;
mod hot;
mod metric;
mod statsd;

use magnus::{Error, Module, Ruby};

/// Defines `Promring::Native`, which `lib/promring.rb` builds on; nobody else should.
#[magnus::init(name = "promring_native")]
fn init(ruby: &Ruby) -> Result<(), Error> {
    let promring = ruby.define_module("Promring")?;
    promring.const_set("VERSION", promring::VERSION.replacen('-', ".pre.", 1))?;
    let native = promring.define_module("Native")?;
    metric::init(ruby, native)?;
    statsd::init(ruby, native)?;
    aggregator::init(native)
}
