//! Kills and suspends a process at every instruction of what the library does, on the shipped code: run by `ci/step`.

mod expiry;
mod files;
mod modes;
mod operations;
#[path = "../support/tracer.rs"]
mod tracer;
mod world;

use std::process::ExitCode;
use std::time::Instant;

use modes::Tally;

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
    let mut table = Table { wanted, failed: 0 };
    for operation in operations::ALL {
        table.row(operation.name, || modes::run(operation, &mut world::World::new(), size));
    }
    table.row("expire while another counts", || expiry::expire_while_another_counts(size));
    for operation in files::ALL {
        table.row(operation.name, || files::run(operation, size));
    }
    table.row("claim while another starts", || files::claim_while_another_starts(size));
    table.row("start while another claims", || files::start_while_another_claims(size));
    println!("{} violations", table.failed);
    ExitCode::from(u8::from(table.failed > 0))
}

struct Table {
    wanted: Vec<String>,
    failed: usize,
}

impl Table {
    fn row(&mut self, name: &str, run: impl FnOnce() -> Tally) {
        if !self.wanted.is_empty() && !self.wanted.iter().any(|wanted| name.starts_with(wanted)) {
            return;
        }
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
        tally.violations.iter().take(5).for_each(|violation| println!("    {violation}"));
        self.failed += tally.violations.len();
    }
}
