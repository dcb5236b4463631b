//! What is stepped: each operation of the shipped client, with what it finds in the segment.

use promring::client::{self, GaugeMode, Series};
use promring::proof::{self, Arena, Peer};

use crate::tracer::Ledger;
use crate::world::{hits, late, level, sizes, spans, users, Call, World, BEFORE, OWN};

/// The stepped part of an operation.
pub type Stepped = Box<dyn FnOnce()>;

/// An operation of one process, and what the others do while it stands still.
pub struct Operation {
    pub name: &'static str,
    /// Brings the segment into the state that the operation finds.
    pub lay: fn(&mut World),
    /// In the child, at full speed: everything up to the first stepped instruction.
    pub prepare: fn(Arena, Ledger) -> Stepped,
    /// Every so many images a recovery is stepped, too; 0: none is.
    pub nested_every: usize,
    /// At every so many instructions the child is suspended while others go on; 0: it never is.
    pub suspend_every: usize,
    /// At every so many instructions the child is really killed; 0: it never is.
    pub kill_every: usize,
}

/// Every operation.
pub const ALL: &[Operation] = &[
    Operation {
        name: "push, empty ring",
        lay: |_| {},
        prepare: |_, ledger| hit_after(ledger, 1),
        nested_every: 1,
        suspend_every: 1,
        kill_every: 1,
    },
    Operation {
        name: "push, end of a lap",
        lay: |world| wind(world, 2 * proof::RING_SLOTS - 1),
        prepare: |_, ledger| hit_after(ledger, 1),
        nested_every: 1,
        suspend_every: 1,
        kill_every: 0,
    },
    Operation {
        name: "push, 2^48 events gone by",
        lay: |world| wind(world, (1 << 48) - 1),
        prepare: |_, ledger| hit_after(ledger, 1),
        nested_every: 1,
        suspend_every: 1,
        kill_every: 0,
    },
    Operation {
        name: "observe",
        lay: |_| {},
        prepare: |_, ledger| {
            let series = client::family(&sizes()).unwrap().series(&[]).unwrap();
            count(ledger, Call::Size, || series.observe(3.0));
            Box::new(move || count(ledger, Call::Size, || series.observe(3.0)))
        },
        nested_every: 1,
        suspend_every: 1,
        kill_every: 0,
    },
    Operation {
        name: "self-help drain",
        lay: |_| {},
        prepare: |_, ledger| hit_after(ledger, proof::SELF_HELP),
        nested_every: 1500,
        suspend_every: 14000,
        kill_every: 0,
    },
    Operation {
        name: "direct add, lock held",
        lay: |world| {
            wind(world, 5_000); // the ring is full amid a lap
            world.peer_holds_lock = world.peer.lock();
        },
        prepare: |_, ledger| hit_after(ledger, proof::RING_SLOTS + 1),
        nested_every: 4,
        suspend_every: 11,
        kill_every: 11,
    },
    Operation {
        name: "direct observe, lock held",
        lay: |world| world.peer_holds_lock = world.peer.lock(),
        prepare: |_, ledger| {
            let series = client::family(&sizes()).unwrap().series(&[]).unwrap();
            let observe = move || count(ledger, Call::Size, || series.observe(3.0));
            (0..=proof::RING_SLOTS).for_each(|_| observe());
            Box::new(observe)
        },
        nested_every: 0,
        suspend_every: 7,
        kill_every: 0,
    },
    Operation {
        name: "drain, 1 event",
        lay: |world| world.peer_pushes(Call::Size, 1),
        prepare: round,
        nested_every: 1,
        suspend_every: 23,
        kill_every: 31,
    },
    Operation {
        name: "drain, 10 events",
        lay: |world| {
            world.peer_pushes(Call::Hit, 5);
            world.peer_pushes(Call::Size, 5);
        },
        prepare: round,
        nested_every: 3,
        suspend_every: 53,
        kill_every: 67,
    },
    Operation {
        name: "drain, fractions",
        lay: |world| {
            // A whole amount between two halves: its step must leave the cell's fraction as it is.
            let id = world.id(Call::Hit);
            assert!(
                world.peer.push(id, 0.5) && world.peer.count(id, 1) && world.peer.push(id, 0.5)
            );
            world.count(Call::Hit, 2);
        },
        prepare: round,
        nested_every: 2,
        suspend_every: 53,
        kill_every: 67,
    },
    Operation {
        name: "drain, sampled",
        lay: |world| {
            // An observation that counts twice is not counted by the loop of the common ones.
            let id = world.id(Call::Size);
            world.peer_pushes(Call::Size, 1);
            (0..2).for_each(|_| assert!(world.peer.push_sampled(id, 3.0, 2.0)));
            world.count(Call::Size, 4);
            world.peer_pushes(Call::Hit, 1);
        },
        prepare: round,
        nested_every: 2,
        suspend_every: 53,
        kill_every: 67,
    },
    Operation {
        name: "drain, a corrupt event",
        lay: |world| {
            world.peer_pushes(Call::Hit, 2);
            assert!(world.peer.push(u32::MAX >> 1, 1.0)); // of no series: somebody scribbled
            world.peer_pushes(Call::Size, 2);
            assert!(world.peer.count_in_cell(u32::MAX >> 1, 1)); // and of no cell
            world.peer_pushes(Call::Hit, 1);
        },
        prepare: round,
        nested_every: 3,
        suspend_every: 0,
        kill_every: 0,
    },
    Operation {
        name: "drain, 100 events",
        lay: |world| {
            for _ in 0..10 {
                world.peer_pushes(Call::Hit, 7);
                world.peer_pushes(Call::Size, 3);
            }
        },
        prepare: round,
        nested_every: 40,
        suspend_every: 211,
        kill_every: 0,
    },
    Operation {
        name: "drain, new cells meanwhile",
        lay: |world| {
            world.peer_pushes(Call::Hit, 3);
            world.stage.stand_before_growth();
        },
        prepare: round,
        nested_every: 0,
        suspend_every: 7,
        kill_every: 0,
    },
    Operation {
        name: "reap and fold gauges",
        lay: |world| {
            world.peer_pushes(Call::Hit, 2);
            // Its record is in the entry that the dead one's first event takes: it must be stale by then.
            world.peer_pushes(Call::Size, 1);
            world.someone_dies(3);
        },
        prepare: round,
        nested_every: 4,
        suspend_every: 149,
        kill_every: 199,
    },
    Operation {
        name: "note a sub-window",
        lay: |world| {
            let id = world.stage.register(&spans(), &[]).expect("a series");
            assert!([3.0, 3.0, 100.0].into_iter().all(|value| world.peer.push(id, value)));
            assert!(world.peer.settle());
            world.noted = Some((id, 3.0));
            world.stage.begin_sub_windows(1);
            world.peer_pushes(Call::Hit, 2);
        },
        prepare: round,
        nested_every: 200,
        suspend_every: 89,
        kill_every: 997,
    },
    Operation {
        name: "clear a set's spare group",
        lay: |world| {
            let id = world.stage.register(&users(), &[]).expect("a series");
            world.stage.begin_sub_windows(0); // as if the clock had gone back: the group that is cleared next
            assert!((0..40).all(|user| world.stage.add_to_set(id, user)));
            world.stage.begin_sub_windows(1);
            assert!((100..103).all(|user| world.stage.add_to_set(id, user)));
            world.in_set = Some((id, 3.0..=3.0));
        },
        prepare: round,
        nested_every: 200,
        suspend_every: 89,
        kill_every: 997,
    },
    Operation {
        name: "add to a set",
        lay: |world| {
            let id = world.stage.register(&users(), &[]).expect("a series");
            world.stage.begin_sub_windows(0);
            assert!((100..103).all(|user| world.stage.add_to_set(id, user)));
            world.in_set = Some((id, 3.0..=4.0));
        },
        prepare: |_, _| {
            let series = client::family(&users()).unwrap().series(&[]).unwrap();
            Box::new(move || assert!(series.add_to_set(b"one more")))
        },
        nested_every: 0,
        suspend_every: 1,
        kill_every: 1,
    },
    Operation {
        name: "register a family",
        lay: |_| {},
        prepare: |_, _| {
            let spec = late();
            Box::new(move || {
                client::family(&spec).unwrap();
            })
        },
        nested_every: 0,
        suspend_every: 47,
        kill_every: 0,
    },
    Operation {
        name: "register a series",
        lay: |_| {},
        prepare: |_, _| {
            let family = client::family(&late()).unwrap();
            Box::new(move || {
                family.series(&["x"]).unwrap();
            })
        },
        nested_every: 0,
        suspend_every: 23,
        kill_every: 0,
    },
    Operation {
        name: "register, regions grow",
        lay: |world| world.stage.stand_before_growth(),
        prepare: |_, ledger| {
            let series = client::family(&hits()).unwrap().series(&[]).unwrap();
            count(ledger, Call::Hit, || series.inc(1.0));
            let spec = late();
            Box::new(move || {
                let series = client::family(&spec).unwrap().series(&["x"]).unwrap();
                count(ledger, Call::Late, || series.inc(1.0));
            })
        },
        nested_every: 0,
        suspend_every: 67,
        kill_every: 211,
    },
    Operation {
        name: "remove, revive, count",
        lay: |world| world.late_before = Some(5.0),
        prepare: |_, ledger| {
            let family = client::family(&late()).unwrap();
            (0..5).for_each(|_| assert!(family.series(&["x"]).unwrap().inc(1.0)));
            Box::new(move || {
                assert!(family.remove(&["x"]).unwrap());
                count(ledger, Call::Late, || family.series(&["x"]).unwrap().inc(1.0));
            })
        },
        nested_every: 3,
        suspend_every: 0,
        kill_every: 101,
    },
    Operation {
        name: "expire, count anew",
        lay: |world| world.late_before = Some(5.0),
        prepare: |stage, ledger| {
            let family = client::family(&late()).unwrap();
            (0..5).for_each(|_| assert!(family.series(&["x"]).unwrap().inc(1.0)));
            let id = stage.register(&late(), &["x"]).expect("a series");
            let mut keeper = Peer::claim(stage).expect("a place");
            keeper.warm();
            assert!(keeper.settle());
            let idle = keeper.counts(id);
            Box::new(move || {
                assert!(keeper.expire(&idle));
                count(ledger, Call::Late, || family.series(&["x"]).unwrap().inc(1.0));
            })
        },
        nested_every: 6,
        suspend_every: 0,
        kill_every: 211,
    },
    Operation {
        name: "claim a place",
        lay: |_| {},
        prepare: |_, ledger| hit_after(ledger, 0),
        nested_every: 0,
        suspend_every: 53,
        kill_every: 59,
    },
    Operation {
        name: "claim, places grow",
        lay: |world| world.stage.stand_before_growth(),
        prepare: |_, ledger| hit_after(ledger, 0),
        nested_every: 0,
        suspend_every: 53,
        kill_every: 59,
    },
    Operation {
        name: "claim a dead one's place",
        lay: |world| {
            // With so many, the next claimer looks after the dead; a place that is free has been somebody's.
            (0..6).for_each(|_| drop(world.newcomer()));
            world.someone_dies(3);
            wind(world, 5 * proof::RING_SLOTS + 3);
        },
        prepare: |_, ledger| hit_after(ledger, 0),
        nested_every: 40,
        suspend_every: 1499,
        kill_every: 1511,
    },
    Operation {
        name: "keep the first exemplar",
        lay: |world| world.traces = true,
        prepare: |_, ledger| traced_hit_after(ledger, 1),
        nested_every: 0,
        suspend_every: 3,
        kill_every: 7,
    },
    Operation {
        name: "keep another exemplar",
        lay: |world| {
            world.traces = true;
            // Both copies are in use.
            (0..2).for_each(|_| assert!(world.stage.keep_exemplar(world.id(Call::Hit), BEFORE)));
        },
        prepare: |_, ledger| traced_hit_after(ledger, 1),
        nested_every: 0,
        suspend_every: 3,
        kill_every: 7,
    },
    Operation {
        name: "set a gauge",
        lay: |_| {},
        prepare: |_, ledger| {
            let hit = client::family(&hits()).unwrap().series(&[]).unwrap();
            count(ledger, Call::Hit, || hit.inc(1.0));
            let gauge = client::family(&level(GaugeMode::Sum)).unwrap().series(&[]).unwrap();
            Box::new(move || count(ledger, Call::Level, || gauge.set(8.0)))
        },
        nested_every: 0,
        suspend_every: 1,
        kill_every: 3,
    },
];

/// The child's call, between its two entries in the ledger.
fn count(ledger: Ledger, call: Call, work: impl FnOnce() -> bool) {
    ledger.add(2 * call as usize, 1);
    assert!(work());
    ledger.add(2 * call as usize + 1, 1);
}

/// Increments `n` times, then is stepped through one more.
fn hit_after(ledger: Ledger, n: u64) -> Stepped {
    let series: &'static Series = client::family(&hits()).unwrap().series(&[]).unwrap();
    (0..n).for_each(|_| count(ledger, Call::Hit, || series.inc(1.0)));
    Box::new(move || count(ledger, Call::Hit, || series.inc(1.0)))
}

/// As [`hit_after`]; the one more brings an exemplar.
fn traced_hit_after(ledger: Ledger, n: u64) -> Stepped {
    let series: &'static Series = client::family(&hits()).unwrap().series(&[]).unwrap();
    (0..n).for_each(|_| count(ledger, Call::Hit, || series.inc(1.0)));
    let traced = || series.inc_with_exemplar(1.0, &[("trace", OWN)], Some(1.0)).unwrap();
    Box::new(move || count(ledger, Call::Hit, traced))
}

/// The aggregator's round, once everything has been looked up: lock, recover, drain, reap, unlock.
fn round(stage: Arena, _: Ledger) -> Stepped {
    let mut aggregator = Peer::claim(stage).expect("a place");
    aggregator.warm();
    Box::new(move || {
        aggregator.settle();
    })
}

/// The child's ring stands at that position: its place has been somebody's.
fn wind(world: &World, head: u64) {
    let before = Peer::claim(world.stage).expect("a place");
    world.stage.wind_ring(before.place(), head);
    before.leave();
}
