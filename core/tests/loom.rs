//! The protocols, every interleaving: `RUSTFLAGS="--cfg loom" cargo test --release --test loom`.
//!
//! What runs is shipped code: `ring`, `worker` (claim, reaping), `registry` (insertion, publication), `drain` (lock,
//! redo, take-over, peek, folding) and what the segment hands out, with tiny rings and tables. Threads are processes;
//! one that is killed ends before any chosen store of its own, and the kernel frees its byte locks. Not shipped are
//! three stand-ins below them (`src/model/`): the mapping, byte locks and clocks, the producer's page. Loom sees neither
//! system calls nor bytes of a file.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::Arc;
use loom::thread;
use promring::model::{App, Process, Ring, RING_SLOTS};

/// Explores all interleavings with up to so many switches of thread that nobody asked for, twice: `race` is begun by the
/// one and by the other side. Loom looks for a race back to the last access of a word only, which may be an access of
/// the same thread's; what it cannot see from one side it sees from the other.
fn explore(preemptions: usize, model: impl Fn(Begins) + Sync + Send + 'static) {
    let model = std::sync::Arc::new(model);
    for begins in [Begins::Left, Begins::Right] {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.max_branches = 20_000;
        let model = model.clone();
        builder.check(move || model(begins));
    }
}

#[derive(Clone, Copy)]
enum Begins {
    Left,
    Right,
}

/// Runs both at the same time.
fn race<L: 'static, R: 'static>(
    begins: Begins,
    left: impl FnOnce() -> L + 'static,
    right: impl FnOnce() -> R + 'static,
) -> (L, R) {
    match begins {
        Begins::Left => {
            let right = thread::spawn(right);
            (left(), right.join().unwrap())
        }
        Begins::Right => {
            let left = thread::spawn(left);
            let right = right();
            (left.join().unwrap(), right)
        }
    }
}

/// A producer that stops at a full ring, and a drainer: nothing lost, doubled or torn.
#[test]
fn ring_hands_over_every_event_once() {
    loom::model(|| {
        let ring = Arc::new(Ring::default());
        let head = Arc::new(AtomicU64::new(0));
        let (ring2, head2) = (ring.clone(), head.clone());
        let producer = thread::spawn(move || {
            let mut tail = 0u64;
            for n in 1..=4u64 {
                while tail - head2.load(Ordering::Acquire) >= RING_SLOTS as u64 {
                    thread::yield_now();
                }
                ring2.put(tail, n as u32, n as f64);
                tail += 1;
            }
        });
        let mut seen = Vec::new();
        let mut at = 0u64;
        while seen.len() < 4 {
            match ring.peek(at) {
                Some((id, value)) => {
                    assert_eq!(f64::from(id), value, "torn");
                    seen.push(id);
                    at += 1;
                    head.store(at, Ordering::Release);
                }
                None => thread::yield_now(),
            }
        }
        producer.join().unwrap();
        assert_eq!(seen, [1, 2, 3, 4]);
    });
}

/// A new owner finds the tail that the dead one left, whatever the drainer does meanwhile.
#[test]
fn successor_finds_the_tail() {
    loom::model(|| {
        let ring = Arc::new(Ring::default());
        let head = Arc::new(AtomicU64::new(0));
        ring.put(0, 1, 1.0); // the dead owner's only event
        let (ring2, head2) = (ring.clone(), head.clone());
        let drainer = thread::spawn(move || {
            if ring2.peek(0).is_some() {
                head2.store(1, Ordering::Release);
            }
        });
        let tail = ring.find_tail(head.load(Ordering::Acquire));
        assert_eq!(tail, 1);
        ring.put(tail, 2, 2.0);
        drainer.join().unwrap();
        assert_eq!(ring.peek(0).or(Some((1, 1.0))), Some((1, 1.0)));
        assert_eq!(ring.peek(1), Some((2, 2.0)));
    });
}

/// An app with one counter and a process that has claimed a place.
fn app_of_one(places: usize) -> (App, Process, u32) {
    let app = App::new(places);
    let mut first = app.process(0);
    first.claim().expect("a place");
    let id = first.register("c", "").expect("a series");
    (app, first, id)
}

/// Two claimers at a place that somebody has left: one gets it, the other one adds a place.
#[test]
fn a_place_has_one_owner() {
    explore(4, |begins| {
        let (app, mut first, _) = app_of_one(3);
        let mut left = app.process(1);
        left.claim().expect("a place");
        left.die();
        assert!(first.settle());
        let claim = |number| move || app.process(number).claim();
        let (one, other) = race(begins, claim(2), claim(3));
        assert!(one.is_some() && other.is_some() && one != other, "{one:?}, {other:?}");
    });
}

/// A life that begins and ends while somebody else is about to claim: no two lives have one place and generation.
#[test]
fn a_claim_sees_a_life_that_has_passed() {
    explore(4, |begins| {
        let (app, mut first, _) = app_of_one(2);
        let mut left = app.process(1);
        let before = left.claim().expect("a place");
        left.die();
        assert!(first.settle());
        let short_life = move || {
            let mut short = app.process(2);
            let claimed = short.claim();
            short.die();
            assert!(first.settle()); // reaps it
            claimed
        };
        let (short, mine) = race(begins, short_life, move || app.process(3).claim());
        assert!(mine.is_none() || mine != short, "{mine:?} twice");
        assert!(mine != Some(before) && short != Some(before));
    });
}

/// A dead worker's ring has gone round; who claims its place right after the reaping goes on behind its last event.
#[test]
fn a_reaped_place_goes_on_where_it_ended() {
    explore(4, |begins| {
        let (app, mut first, id) = app_of_one(2);
        let mut dead = app.process(1);
        dead.claim().expect("a place");
        let n = RING_SLOTS as u64 + 1;
        for _ in 0..n {
            assert!(dead.push(id, 1));
            assert!(dead.settle());
        }
        dead.die();
        let successor = move || {
            let mut next = app.process(2);
            let claimed = next.claim().is_some();
            assert!(!claimed || next.push(id, 1));
            u64::from(claimed)
        };
        let settle = move || {
            assert!(first.settle());
            first
        };
        let (mut first, pushed) = race(begins, settle, successor);
        assert!(first.settle());
        assert_eq!(app.total(id), n + pushed);
    });
}

/// A claim while somebody looks for the dead: its place stays its own.
#[test]
fn a_new_worker_is_not_taken_for_dead() {
    explore(4, |begins| {
        let (app, mut first, id) = app_of_one(2);
        let claim = move || {
            let mut new = app.process(1);
            new.claim().expect("a place");
            assert!(new.push(id, 1));
            new
        };
        let settle = move || {
            assert!(first.settle());
            first
        };
        let (new, mut first) = race(begins, claim, settle);
        assert!(new.owns_place(), "taken for dead");
        assert!(first.settle());
        assert_eq!(app.total(id), 1);
    });
}

/// A claim against the retirement of the segment: not both go on.
#[test]
fn nobody_counts_in_a_retired_segment() {
    explore(4, |begins| {
        let app = App::new(1);
        let claim = move || {
            let mut claimer = app.process(1);
            claimer.claim().is_some() && !claimer.is_retired()
        };
        let (counts, retired) = race(begins, claim, move || app.process(0).retire());
        assert!(!(counts && retired), "counts where nobody looks");
    });
}

/// Two processes that register one family agree on it, and on a label set.
#[test]
fn a_key_is_inserted_once() {
    explore(1, |begins| {
        let app = App::new(1);
        let register = |number| move || app.process(number).register("c", "x").expect("room");
        let (one, other) = race(begins, register(0), register(1));
        assert_eq!(one, other);
        assert!(app.takes_counts(one));
        assert_eq!(app.labels(one), Some(("c".into(), vec!["x".into()])));
    });
}

/// The same for a label set of a family that both know.
#[test]
fn a_label_set_is_inserted_once() {
    explore(3, |begins| {
        let (app, _, _) = app_of_one(1);
        let register = |number| move || app.process(number).register("c", "x").expect("room");
        let (one, other) = race(begins, register(1), register(2));
        assert_eq!(one, other);
        assert!(app.takes_counts(one));
    });
}

/// Two label sets in one chain: each has a series, and whoever comes later finds it.
#[test]
fn neighbours_in_a_chain_are_both_found() {
    explore(3, |begins| {
        let (app, _, _) = app_of_one(1);
        let register = |number, value| move || app.process(number).register("c", value);
        let (x, y) = race(begins, register(1, "x"), register(2, "y"));
        assert!(x.is_some() && y.is_some() && x != y, "{x:?}, {y:?}");
        assert_eq!((register(0, "x")(), register(0, "y")()), (x, y));
    });
}

/// Who finds a series that takes counts finds its labels, and cached catalogs told of it.
#[test]
fn a_usable_series_is_whole_and_announced() {
    explore(4, |begins| {
        let (app, first, id) = app_of_one(1);
        let (before, next) = (app.catalog_version(), id + 1);
        let look = move || {
            if app.takes_counts(next) {
                assert!(app.catalog_version() > before, "usable and not told");
                assert_eq!(app.labels(next), Some(("c".into(), vec!["x".into()])));
            }
        };
        let ((), registered) = race(begins, look, move || first.register("c", "x"));
        assert_eq!(registered, Some(next));
    });
}

/// The one who registers is killed before any of his stores while another one registers the same.
#[test]
fn a_killed_registration_is_gone_or_whole() {
    each_store(2, |n, begins| {
        let (app, _, _) = app_of_one(1);
        let register = |process: &mut Process| process.register("c", "x");
        let dying = move || {
            app.process(1).killed_before_store(n, |dying| {
                register(dying);
            })
        };
        let (killed, id) = race(begins, dying, move || register(&mut app.process(2)));
        let id = id.expect("room");
        assert!(app.takes_counts(id));
        assert_eq!(register(&mut app.process(3)), Some(id));
        killed
    });
}

/// Runs the model for a death before store 0, 1, 2 … until nobody was killed in any of its interleavings.
fn each_store(
    preemptions: usize,
    model: impl Fn(u32, Begins) -> bool + Sync + Send + Clone + 'static,
) {
    for n in 0.. {
        let killed = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (model, seen) = (model.clone(), killed.clone());
        explore(preemptions, move |begins| {
            if model(n, begins) {
                seen.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        });
        if !killed.load(std::sync::atomic::Ordering::Relaxed) {
            assert!(n > 0, "no store was seen");
            return;
        }
    }
}

/// An app in which process 0 has two events in its ring, and process 1 a place.
fn two_events() -> (App, Process, Process, u32) {
    let (app, first, id) = app_of_one(3);
    let mut second = app.process(1);
    second.claim().expect("a place");
    assert!(first.push(id, 1) && first.push(id, 1));
    (app, first, second, id)
}

/// `drain::peek` against a drain: when nothing seems to have changed it has each event once.
#[test]
fn a_stable_peek_counts_each_event_once() {
    explore(2, |begins| {
        let (app, mut first, mut drainer, id) = two_events();
        let (seen, drained) = race(begins, move || first.peek(id), move || drainer.settle());
        assert!(seen.is_none() || seen == Some(2), "{seen:?}");
        assert!(drained);
        assert_eq!(app.total(id), 2);
    });
}

/// The same against a drainer that stands still for good before any of its stores.
#[test]
fn a_peek_beside_a_stopped_drainer_counts_each_event_once() {
    each_store(2, |n, begins| {
        let (_, mut first, mut stopped, id) = two_events();
        let stop = move || stopped.killed_before_store(n, |stopped| assert!(stopped.settle()));
        let (seen, stopped) = race(begins, move || first.peek(id), stop);
        assert!(seen.is_none() || seen == Some(2), "{seen:?}");
        stopped
    });
}

/// Two drainers and a producer that goes on: nothing lost, nothing doubled.
#[test]
fn two_drainers_hand_over_the_totals() {
    explore(3, |begins| {
        let (app, mut first, mut second, id) = two_events();
        let settle_and_push = move || {
            first.settle();
            u64::from(first.push(id, 1))
        };
        let settle = move || {
            second.settle();
            second
        };
        let (pushed, mut second) = race(begins, settle_and_push, settle);
        assert!(second.settle());
        assert_eq!(app.total(id), 2 + pushed);
    });
}

/// A drainer is killed before any of its stores, while another one comes to drain: the redo record makes it good.
#[test]
fn a_killed_drainer_is_made_good() {
    each_store(2, |n, begins| {
        let (app, mut first, mut dying, id) = two_events();
        let die = move || {
            let killed = dying.killed_before_store(n, |dying| {
                dying.settle();
            });
            dying.die();
            killed
        };
        let settle = move || {
            first.settle();
            first
        };
        let (killed, mut first) = race(begins, die, settle);
        assert!(first.settle(), "the dead one's lock is not to be had");
        assert_eq!(app.total(id), 2);
        killed
    });
}

/// Two successors of a killed drainer: one takes the lock over, and finishes what was committed.
#[test]
fn one_successor_takes_over() {
    each_store(2, |n, begins| {
        let (app, mut first, mut dying, id) = two_events();
        let mut third = app.process(2);
        third.claim().expect("a place");
        let killed = dying.killed_before_store(n, |dying| assert!(dying.settle()));
        dying.die();
        let settle = move || {
            first.settle();
            first
        };
        let (mut first, _) = race(begins, settle, move || third.settle());
        assert!(first.settle());
        assert!(app.takeovers() <= 1, "two took it over");
        assert_eq!(app.total(id), 2);
        killed
    });
}
