//! The command line `promring`, the same from the gem and the wheel: serve, dump, ls.

use std::io::Write;
use std::path::{Path, PathBuf};

use lexopt::prelude::*;

use crate::aggregator;
use crate::client;
use crate::config::{Config, Listen, SETTINGS};
use crate::os;
use crate::registry;
use crate::segment::Segment;
use crate::worker;

const HELP: &str = "\
promring – exact Prometheus metrics for pre-fork servers

usage: promring [--segment PATH] COMMAND [options]

commands
  serve [--listen HOST:PORT]  answer /metrics for an app in the foreground: a sidecar, a systemd
                              unit, or apps without a server (cron jobs, queues)
  dump                        write the exposition to stdout, once
  ls [DIRECTORY]              list segments and who is attached

options
  --segment PATH   the app's segment (PROMRING_SEGMENT); without it the one of the current directory
  --listen ADDR    address for serve (PROMRING_LISTEN), 127.0.0.1:9394 by default
  -h, --help       this text
  -V, --version    the version

exit status
  0 done   1 it failed; stderr says what and the remedy   2 wrong usage

settings from the environment
";

/// What was asked for.
enum Command {
    Help,
    Version,
    Serve,
    Dump,
    List(Option<PathBuf>),
}

/// Runs the command line; `arguments` without the program's name. Returns the exit status.
pub fn main(arguments: &[String]) -> i32 {
    let (mut config, errors) = Config::from_env();
    errors.iter().for_each(|error| eprintln!("promring: {error}"));
    let command = match parse(arguments, &mut config) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("promring: {error}\nTry `promring --help`.");
            return 2;
        }
    };
    let done = match command {
        Command::Help => print(&help()),
        Command::Version => print(&format!("promring {}\n", crate::VERSION)),
        Command::Serve => serve(config),
        Command::Dump => dump(config),
        Command::List(directory) => list(directory.as_deref(), &config),
    };
    match done {
        Ok(()) => 0,
        Err(message) => {
            eprintln!("promring: {message}");
            1
        }
    }
}

fn parse(arguments: &[String], config: &mut Config) -> Result<Command, lexopt::Error> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut command = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Help),
            Short('V') | Long("version") => return Ok(Command::Version),
            Long(name @ ("segment" | "listen")) => {
                let name = name.to_string();
                let value = parser.value()?.string()?;
                config.set(&name, &value).map_err(|error| error.to_string())?;
            }
            Value(word) => match (&command, word.string()?.as_str()) {
                (None, "serve") => command = Some(Command::Serve),
                (None, "dump") => command = Some(Command::Dump),
                (None, "ls") => command = Some(Command::List(None)),
                (Some(Command::List(None)), directory) => {
                    command = Some(Command::List(Some(PathBuf::from(directory))));
                }
                (_, word) => return Err(format!("unknown command {word:?}").into()),
            },
            other => return Err(other.unexpected()),
        }
    }
    command.ok_or_else(|| "no command given".into())
}

fn help() -> String {
    let mut text = HELP.to_string();
    for setting in SETTINGS {
        text += &format!("  {:<31} {}\n", setting.env, setting.doc);
    }
    text
}

fn print(text: &str) -> Result<(), String> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(()),
    }
}

fn serve(config: Config) -> Result<(), String> {
    let Listen::Tcp(address) = config.listen.clone() else {
        return Err("PROMRING_LISTEN is off: name an address with --listen".into());
    };
    client::configure(config);
    aggregator::serve(&address).map_err(|error| error.to_string())
}

fn dump(config: Config) -> Result<(), String> {
    let data = data_file(&config);
    if !data.exists() {
        return Err(format!(
            "there is no segment {}: is the app running? (promring ls)",
            data.display()
        ));
    }
    client::configure(config);
    print(&String::from_utf8_lossy(&aggregator::scrape("").body))
}

/// The data file of the configured segment.
fn data_file(config: &Config) -> PathBuf {
    Segment::data_path(&config.segment_base(os::uid()))
}

fn list(directory: Option<&Path>, config: &Config) -> Result<(), String> {
    let data = data_file(config);
    let default = data.parent().unwrap_or(Path::new("/dev/shm"));
    let directory = directory.unwrap_or(default);
    let entries = std::fs::read_dir(directory).map_err(|error| {
        format!(
            "{}: {error}; name the segments' directory: promring ls DIRECTORY",
            directory.display()
        )
    })?;
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| Segment::is_data_path(path))
        .collect();
    paths.sort();
    if paths.is_empty() {
        return print(&format!("no segments in {}\n", directory.display()));
    }
    paths.iter().try_for_each(|path| print(&describe(path)))
}

/// A segment and its workers, one line each.
fn describe(path: &Path) -> String {
    let segment = match Segment::open_existing(path) {
        Ok(segment) => segment,
        Err(error) => return format!("{}\n  unusable: {error}\n", path.display()),
    };
    let kib = segment.reserved_bytes() / 1024;
    let mut text =
        format!("{}  {kib} KiB, {} series\n", path.display(), registry::n_live_series(&segment));
    match segment.role_holder() {
        Some(pid) => text += &format!("  aggregator pid {pid}\n"),
        None => text += "  no aggregator\n",
    }
    for worker in worker::list(&segment) {
        let state = if worker.dead { "ended, not yet reaped" } else { "running" };
        text += &format!(
            "  worker {:<4} pid {:<8} {state}, {} events pending\n",
            worker.place, worker.pid, worker.pending
        );
    }
    text
}
