//! Kills and suspends a process at every instruction of what the library does, on the shipped code: run by `ci/step`.

mod expiry;
mod files;
#[path = "../support/forks.rs"]
mod forks;
mod modes;
mod operations;
#[path = "../support/tracer.rs"]
mod tracer;
mod world;

use std::process::ExitCode;
use std::time::Instant;

use modes::Tally;
use tracer::Ledger;

/// An operation, by its name: what is done with it, and in strides of what size.
type Row = (&'static str, Box<dyn Fn(usize) -> Tally>);

/// `step [--size N] [--first] [NAME...]`: N divides the strides; the first violation ends it; names choose
/// operations by their beginning.
fn main() -> ExitCode {
    let (mut size, mut wanted) = (1, Vec::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--first" => std::env::set_var(modes::STOP_AT_FIRST, "1"),
            "--size" => size = words.next().and_then(|n| n.parse().ok()).unwrap_or(1),
            _ if word.starts_with('-') => {} // what `cargo test` adds
            _ => wanted.push(word),
        }
    }
    println!(
        "{:<28} {:>12} {:>7} {:>11} {:>8} {:>9} {:>6} {:>10} {:>7}",
        "operation",
        "instructions",
        "states",
        "recoverers'",
        "states",
        "suspended",
        "killed",
        "violations",
        "seconds"
    );
    let mut rows = rows();
    let is_wanted = |name: &str| wanted.iter().any(|wanted| name.starts_with(wanted));
    rows.retain(|(name, _)| wanted.is_empty() || is_wanted(name));
    let violations = run(&rows, size);
    println!("{violations} violations");
    ExitCode::from(u8::from(violations > 0))
}

fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for operation in operations::ALL {
        let run = |size| modes::run(operation, &mut world::World::new(), size);
        rows.push((operation.name, Box::new(run)));
    }
    rows.push(("expire while another counts", Box::new(expiry::expire_while_another_counts)));
    for operation in files::ALL {
        rows.push((operation.name, Box::new(|size| files::run(operation, size))));
    }
    rows.push(("claim while another starts", Box::new(files::claim_while_another_starts)));
    rows.push(("start while another claims", Box::new(files::start_while_another_claims)));
    rows
}

/// Runs them all, as many at a time as there are processors: stepped and stepper take turns, so each row keeps one busy.
fn run(rows: &[Row], size: usize) -> u64 {
    const NEXT: usize = 0;
    const VIOLATIONS: usize = 1;
    let ledger = Ledger::new(2);
    let work = || {
        while let Some((name, run)) = rows.get(ledger.add(NEXT, 1) as usize) {
            ledger.add(VIOLATIONS, show(name, || run(size)));
        }
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let n = processors.min(rows.len());
    if n <= 1 {
        work();
    } else {
        let children: Vec<forks::Child> = (0..n).map(|_| forks::fork(work)).collect();
        let failed = children.into_iter().map(forks::Child::join).filter(|well| !well).count();
        ledger.add(VIOLATIONS, failed as u64); // of the test itself
    }
    ledger.get(VIOLATIONS)
}

/// One line, and a few of the violations; returns how many there are.
fn show(name: &str, run: impl FnOnce() -> Tally) -> u64 {
    let started = Instant::now();
    let tally = run();
    println!(
        "{name:<28} {:>12} {:>7} {:>11} {:>8} {:>9} {:>6} {:>10} {:>7.1}",
        tally.instructions,
        tally.states,
        tally.nested_instructions,
        tally.nested_states,
        tally.suspensions,
        tally.kills,
        tally.violations.len(),
        started.elapsed().as_secs_f64()
    );
    tally.violations.iter().take(5).for_each(|violation| println!("{name}: {violation}"));
    tally.violations.len() as u64
}
