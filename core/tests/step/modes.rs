//! The ways to end or stop a process at an instruction: image of its death, suspension, SIGKILL.

use promring::proof::{Eyes, Peer};

use crate::operations::Operation;
use crate::tracer::{traced, Tracee};
use crate::world::{parse, Call, World, BEFORE, MEANWHILE, OWN};

/// Set: the first violation ends the program.
pub const STOP_AT_FIRST: &str = "PROMRING_STEP_FIRST";

/// What was done and what was wrong.
#[derive(Default)]
pub struct Tally {
    pub instructions: usize,
    /// Images that differ from the one before.
    pub states: usize,
    /// Instructions at which a recoverer was killed, and images it left.
    pub nested_instructions: usize,
    pub nested_states: usize,
    pub suspensions: usize,
    pub kills: usize,
    pub violations: Vec<String>,
}

impl Tally {
    /// Notes what is wrong with a state.
    pub fn add(&mut self, at: &str, wrong: Vec<String>) {
        if std::env::var_os(STOP_AT_FIRST).is_some() {
            if let Some(what) = wrong.first() {
                println!("{at}: {what}");
                crate::files::remove_all();
                std::process::exit(1); // the kernel ends the children
            }
        }
        self.violations.extend(wrong.into_iter().map(|what| format!("{at}: {what}")));
    }
}

/// All modes of one operation. `thorough` divides the strides.
pub fn run(operation: &Operation, world: &mut World, thorough: usize) -> Tally {
    let every = |stride: usize| if stride == 0 { 0 } else { (stride / thorough).max(1) };
    (operation.lay)(world);
    world.set_base();
    let mut tally = Tally::default();
    images(operation, world, every(operation.nested_every), &mut tally);
    suspensions(operation, world, every(operation.suspend_every), &mut tally);
    kills(operation, world, every(operation.kill_every), &mut tally);
    tally
}

fn start(operation: &Operation, world: &mut World) -> Tracee {
    world.reset();
    let (stage, ledger, prepare) = (world.stage, world.ledger, operation.prepare);
    traced(move || {
        stage.adopt();
        prepare(stage, ledger)
    })
}

/// Death at every instruction: the image it leaves is judged whenever it or the ledger has changed.
fn images(operation: &Operation, world: &mut World, nested_every: usize, tally: &mut Tally) {
    let mut child = start(operation, world);
    let mut ledger = Vec::new();
    world.first.copy_from(world.stage);
    loop {
        let now = world.ledger.values();
        if tally.instructions == 0 || now != ledger || !world.stage.same_as(world.last) {
            ledger = now;
            world.last.copy_from(world.stage);
            let at = format!("killed at instruction {}", tally.instructions);
            tally.add(&at, world.judge(world.last, world.scratch));
            if nested_every > 0 && tally.states.is_multiple_of(nested_every) {
                nested(world, &at, tally);
            }
            tally.states += 1;
        }
        if !child.step() {
            return;
        }
        tally.instructions += 1;
    }
}

/// Death of the recoverer of a crash image, at each of its instructions.
fn nested(world: &World, at: &str, tally: &mut Tally) {
    let nested = world.nested;
    nested.copy_from(world.last);
    nested.forget_pids();
    let mut child = traced(|| {
        let mut recoverer = Peer::claim(nested).expect("a place");
        recoverer.warm();
        move || assert!(recoverer.settle(), "the drain lock is not to be had by the recoverer")
    });
    let mut n = 0;
    loop {
        if n == 0 || !nested.same_as(world.nested_last) {
            world.nested_last.copy_from(nested);
            let at = format!("{at}, its recoverer at {n}");
            tally.add(&at, world.judge(world.nested_last, world.nested_scratch));
            tally.nested_states += 1;
        }
        if !child.step() {
            break;
        }
        n += 1;
    }
    tally.nested_instructions += n;
}

/// Stopped for good at an instruction: others count, drain if they can, look in any case; then it goes on.
fn suspensions(operation: &Operation, world: &mut World, every: usize, tally: &mut Tally) {
    for n in (0..).step_by(every.max(1)).take_while(|_| every > 0) {
        let mut child = start(operation, world);
        if !child.steps(n) {
            return;
        }
        tally.suspensions += 1;
        let at = format!("suspended at instruction {n}");
        tally.add(&at, others_go_on(world));
        let newcomer = world.newcomer();
        child.finish();
        world.counts_and_dies(newcomer);
        tally.add(&format!("{at}, then gone on"), settle_by_peer(world));
    }
}

/// The living worker's part while another process stands still. It never waits.
fn others_go_on(world: &mut World) -> Vec<String> {
    world.peer_pushes(Call::Hit, 3);
    world.peer_pushes(Call::Late, 2); // the first is looked up, the second known
    let mut wrong = Vec::new();
    if world.traces {
        let hit = world.id(Call::Hit);
        let kept = world.stage.keep_exemplar(hit, MEANWHILE);
        if !kept || world.stage.exemplar(hit).as_deref() != Some(MEANWHILE) {
            wrong.push("no exemplar can be kept while a process stands still".into());
        }
    }
    let mut eyes = Eyes::new(world.stage);
    if !world.peer_holds_lock {
        world.peer.settle(); // if the lock is free
    }
    match world.peer.page(&mut eyes).map(|text| parse(&text)) {
        Some(Ok(page)) => world.compare(&page, 0, 0, &mut wrong),
        Some(Err(error)) => wrong.push(error),
        None => wrong.push("no page while a process stands still".into()),
    }
    wrong
}

/// The living worker settles what is there: exactly what was acknowledged and begun is shown.
fn settle_by_peer(world: &mut World) -> Vec<String> {
    if world.peer_holds_lock {
        world.peer.unlock();
    }
    let mut wrong = Vec::new();
    let shown = world.stage.exemplar(world.id(Call::Hit));
    let known = |trace: &String| [BEFORE, OWN, MEANWHILE].contains(&trace.as_str());
    if !shown.as_ref().is_none_or(known) {
        wrong.push(format!("a torn exemplar: {shown:?}"));
    }
    if !world.peer.settle() {
        return vec!["the drain lock is not to be had".into()];
    }
    match world.peer.page(&mut Eyes::new(world.stage)).map(|text| parse(&text)) {
        Some(Ok(page)) => world.compare(&page, 0, 0, &mut wrong),
        Some(Err(error)) => wrong.push(error),
        None => wrong.push("no page".into()),
    }
    wrong
}

/// SIGKILL at an instruction: what the kernel does to its locks is part of it.
fn kills(operation: &Operation, world: &mut World, every: usize, tally: &mut Tally) {
    for n in (0..).step_by(every.max(1)).take_while(|_| every > 0) {
        let mut child = start(operation, world);
        if !child.steps(n) {
            return;
        }
        child.kill();
        tally.kills += 1;
        let at = format!("SIGKILL at instruction {n}");
        tally.add(&at, settle_by_peer(world));
        tally.add(&at, world.judge(world.stage, world.scratch));
    }
}
