//! The app as a whole: configuration, the aggregator's role, the page, the command line.
//!
//! Ruby's lock is held throughout. Released during a scrape, another thread could increment meanwhile, and both
//! would claim this process's place and push into its ring, which has one producer; a fork in that moment would
//! copy locks that nobody in the child unlocks. A scrape is done in milliseconds and waits for a busy drain lock
//! no longer than 100 of them.

use std::sync::{Mutex, PoisonError};

use magnus::{function, Error, Object, RHash, RModule, Ruby};
use promring::aggregator::{self, Page, Start};
use promring::config::Config;
use promring::{cli, client};

use crate::error::raised;

/// Settings by name; those not named come from the environment. False when it is too late.
fn configure(ruby: &Ruby, settings: RHash) -> Result<bool, Error> {
    let (mut config, errors) = Config::from_env();
    errors.iter().for_each(|error| client::log(&error.to_string()));
    settings.foreach(|name: String, value: String| {
        config.set(&name, &value).map_err(|error| raised(ruby, &error))?;
        Ok(magnus::r_hash::ForEach::Continue)
    })?;
    Ok(client::configure(config))
}

/// The aggregator's pid, or nil when there is nothing to start.
fn start() -> Option<u32> {
    match aggregator::start() {
        Ok(Start::Started { pid } | Start::AlreadyStarted { pid }) => Some(pid),
        Ok(Start::Off) => None,
        Err(error) => {
            client::log(&error.to_string());
            None
        }
    }
}

/// `[content type, page]`.
fn scrape(ruby: &Ruby, accept: String) -> (&'static str, magnus::RString) {
    let Page { content_type, body, .. } = aggregator::scrape(&accept);
    let page = match String::from_utf8(body) {
        Ok(text) => ruby.str_new(&text),
        Err(error) => ruby.str_from_slice(error.as_bytes()),
    };
    (content_type, page)
}

fn segment_path() -> Option<String> {
    client::segment_path().map(|path| path.to_string_lossy().into_owned())
}

fn log(line: String) {
    client::log(&line);
}

/// Lines that wait for the app's logger, each with the process that said it: a fork copies them.
static KEPT: Mutex<Vec<(u32, String)>> = Mutex::new(Vec::new());
/// More lines than this are not kept.
const MOST_LINES: usize = 100;

/// From now on lines are kept until `kept_log` asks for them: a logger is Ruby code, and lines are said where no
/// Ruby code may run.
fn keep_log() {
    client::set_log(|line| {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MOST_LINES {
            kept.push((std::process::id(), line.to_string()));
        }
    });
}

fn kept_log() -> Vec<String> {
    let kept = std::mem::take(&mut *KEPT.lock().unwrap_or_else(PoisonError::into_inner));
    if kept.is_empty() {
        return Vec::new();
    }
    let me = std::process::id();
    kept.into_iter().filter(|(said_by, _)| *said_by == me).map(|(_, line)| line).collect()
}

fn command_line(arguments: Vec<String>) -> i32 {
    cli::main(&arguments)
}

/// Defines the functions of `Promring::Native`.
pub fn init(native: RModule) -> Result<(), Error> {
    native.define_singleton_method("configure", function!(configure, 1))?;
    native.define_singleton_method("attach", function!(client::attach, 0))?;
    native.define_singleton_method("start_aggregator", function!(start, 0))?;
    native.define_singleton_method("stop_aggregator", function!(aggregator::stop, 0))?;
    native.define_singleton_method("scrape", function!(scrape, 1))?;
    native.define_singleton_method("tick", function!(client::tick, 0))?;
    native.define_singleton_method("segment_path", function!(segment_path, 0))?;
    native.define_singleton_method("log", function!(log, 1))?;
    native.define_singleton_method("keep_log", function!(keep_log, 0))?;
    native.define_singleton_method("kept_log", function!(kept_log, 0))?;
    native.define_singleton_method("command_line", function!(command_line, 1))?;
    Ok(())
}
