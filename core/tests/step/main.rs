//! Kills and suspends a process at every instruction of what the library does, on the shipped code: run by `ci/step`.

mod modes;
mod operations;
mod tracer;
mod world;

use std::process::ExitCode;
use std::time::Instant;

/// `step [--size N] [NAME...]`: N divides the strides; names choose operations by their beginning.
fn main() -> ExitCode {
    let (mut size, mut wanted) = (1, Vec::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--size" => size = words.next().and_then(|n| n.parse().ok()).unwrap_or(1),
            _ if word.starts_with('-') => {} // what `cargo bench` and `cargo test` add
            _ => wanted.push(word),
        }
    }
    println!(
        "{:<28} {:>12} {:>7} {:>10} {:>8} {:>9} {:>6} {:>10} {:>7}",
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
    let mut failed = 0;
    for operation in operations::ALL {
        if !wanted.is_empty() && !wanted.iter().any(|name| operation.name.starts_with(name)) {
            continue;
        }
        let started = Instant::now();
        let tally = modes::run(operation, &mut world::World::new(), size);
        println!(
            "{:<28} {:>12} {:>7} {:>11} {:>8} {:>9} {:>6} {:>10} {:>7.1}",
            operation.name,
            tally.instructions,
            tally.states,
            tally.nested_instructions,
            tally.nested_states,
            tally.suspensions,
            tally.kills,
            tally.violations.len(),
            started.elapsed().as_secs_f64()
        );
        for violation in tally.violations.iter().take(5) {
            println!("    {violation}");
        }
        failed += tally.violations.len();
    }
    println!("{failed} violations");
    ExitCode::from(u8::from(failed > 0))
}
