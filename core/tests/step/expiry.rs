//! An idle series is removed while another process counts in it: the count keeps the series, or begins its next life.

use promring::proof::{Eyes, Peer};

use crate::modes::Tally;
use crate::tracer::{traced, Tracee};
use crate::world::{late, parse, Call, World, LATE};

/// What the series has counted before, and what comes while it is being removed.
const BEFORE: u64 = 5;
const MEANWHILE: u64 = 2;

/// At an instruction of the removal somebody counts who had looked before it began; then the removal goes on, or
/// its process is killed.
pub fn expire_while_another_counts(size: usize) -> Tally {
    let mut world = World::new();
    world.peer_pushes(Call::Late, BEFORE);
    world.peer.settle();
    world.set_base();
    let id = world.id(Call::Late);
    let mut tally = Tally::default();
    for n in (0..).step_by((23 / size).max(1)) {
        for (killed, asked_for) in [(false, false), (false, true), (true, false), (true, true)] {
            let Some(child) = removal_after(&mut world, id, n) else {
                tally.instructions = n;
                return tally;
            };
            (0..MEANWHILE).for_each(|_| assert!(world.peer.count(id, 1)));
            let how = if killed {
                child.kill();
                tally.kills += 1;
                "killed"
            } else {
                child.finish();
                tally.suspensions += 1;
                "gone on"
            };
            let shown = shown_by_peer(&mut world, asked_for.then_some(id));
            if ![BEFORE + MEANWHILE, MEANWHILE].map(|n| Some(n as f64)).contains(&shown) {
                let at = format!("suspended at instruction {n}, then {how}");
                tally.add(&at, vec![format!("{shown:?} of {BEFORE} + {MEANWHILE}")]);
            }
        }
    }
    tally
}

/// A process that stands before the `n`-th instruction of the removal; None when it has fewer.
fn removal_after(world: &mut World, id: u32, n: usize) -> Option<Tracee> {
    world.reset();
    let stage = world.stage;
    assert_eq!(stage.register(&late(), &["x"]), Some(id));
    let mut child = traced(move || {
        let mut keeper = Peer::claim(stage).expect("a place");
        keeper.warm();
        let idle = keeper.counts(id);
        move || {
            keeper.expire(&idle);
        }
    });
    child.steps(n).then_some(child)
}

/// The living worker drains, and makes good what was left half done: of all series, or of the one that is asked for.
fn shown_by_peer(world: &mut World, asked_for: Option<u32>) -> Option<f64> {
    let peer = &mut world.peer;
    let done = peer.settle()
        && match asked_for {
            Some(id) => peer.revive(id),
            None => peer.look_for_idle(),
        };
    assert!(done, "the drain lock is not to be had");
    let page = world.peer.page(&mut Eyes::new(world.stage))?;
    parse(&page).ok()?.get(LATE).copied()
}
