//! Models of the ring and of a worker's claim, every interleaving: `RUSTFLAGS="--cfg loom" cargo test --release --test loom`.
//!
//! The ring under test is the shipped one (`src/ring.rs`, shrunk to two slots). Registry chains, claim
//! and redo record live behind the kernel's locks and a mapped file that loom cannot see; their
//! protocols are modelled here store by store, in the order of the shipped code.
#![cfg(loom)]

use loom::sync::atomic::{fence, AtomicU64, Ordering};
use loom::sync::Arc;
use loom::thread;
use promring::model::{find_tail, new_ring, peek, put, RING_SLOTS};

/// A producer that stops at a full ring, and a drainer: nothing lost, doubled or torn.
#[test]
fn ring_hands_over_every_event_once() {
    loom::model(|| {
        let ring = Arc::new(new_ring());
        let head = Arc::new(AtomicU64::new(0));
        let (ring2, head2) = (ring.clone(), head.clone());
        let producer = thread::spawn(move || {
            let mut tail = 0u64;
            for n in 1..=4u64 {
                while tail - head2.load(Ordering::Acquire) >= RING_SLOTS as u64 {
                    thread::yield_now();
                }
                put(&ring2, tail, n as u32, n as f64);
                tail += 1;
            }
        });
        let mut seen = Vec::new();
        let mut at = 0u64;
        while seen.len() < 4 {
            match peek(&ring, at) {
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
        let ring = Arc::new(new_ring());
        let head = Arc::new(AtomicU64::new(0));
        put(&ring, 0, 1, 1.0); // the dead owner's only event
        let (ring2, head2) = (ring.clone(), head.clone());
        let drainer = thread::spawn(move || {
            if peek(&ring2, 0).is_some() {
                head2.store(1, Ordering::Release);
            }
        });
        let tail = find_tail(&ring, head.load(Ordering::Acquire));
        assert_eq!(tail, 1);
        put(&ring, tail, 2, 2.0);
        drainer.join().unwrap();
        assert_eq!(peek(&ring, 0).or(Some((1, 1.0))), Some((1, 1.0)));
        assert_eq!(peek(&ring, 1), Some((2, 2.0)));
    });
}

/// `worker::claim_place`: of two claimers one gets the place; the byte lock is a swap here.
#[test]
fn a_place_has_one_owner() {
    loom::model(|| {
        const FREE: u64 = 0;
        const LIVE: u64 = 1;
        let byte = Arc::new(AtomicU64::new(0));
        let state = Arc::new(AtomicU64::new(FREE));
        let owners = Arc::new(AtomicU64::new(0));
        let claim = |byte: Arc<AtomicU64>, state: Arc<AtomicU64>, owners: Arc<AtomicU64>| {
            let seen = state.load(Ordering::Acquire);
            if seen & 0xff != FREE || byte.swap(1, Ordering::AcqRel) == 1 {
                return;
            }
            if state.load(Ordering::Acquire) != seen {
                byte.store(0, Ordering::Release); // somebody's life has passed in between
                return;
            }
            state.store((((seen >> 8) + 1) << 8) | LIVE, Ordering::Release);
            assert_eq!(owners.fetch_add(1, Ordering::Relaxed), 0, "two owners");
        };
        let other = {
            let (byte, state, owners) = (byte.clone(), state.clone(), owners.clone());
            thread::spawn(move || claim(byte, state, owners))
        };
        claim(byte, state, owners.clone());
        other.join().unwrap();
        assert_eq!(owners.load(Ordering::Relaxed), 1);
    });
}

/// `drain::step` against `drain::peek`: a peek that saw nothing change has the event exactly once.
#[test]
fn a_stable_peek_counts_the_event_once() {
    loom::model(|| {
        let commit = Arc::new(AtomicU64::new(0));
        let entry = Arc::new(AtomicU64::new(0));
        let cell = Arc::new(AtomicU64::new(10));
        let drainer = {
            let (commit, entry, cell) = (commit.clone(), entry.clone(), cell.clone());
            thread::spawn(move || {
                entry.store(11, Ordering::Relaxed);
                commit.store(1, Ordering::Release);
                fence(Ordering::Release);
                cell.store(11, Ordering::Relaxed);
            })
        };
        let before = commit.load(Ordering::Acquire);
        let words = entry.load(Ordering::Relaxed);
        let mut copy = cell.load(Ordering::Relaxed);
        if before == 1 {
            copy = words; // the committed words are laid over
        } else {
            copy += 1; // the event is still in the ring: the walk adds it
        }
        fence(Ordering::Acquire);
        if commit.load(Ordering::Acquire) == before {
            assert_eq!(copy, 11);
        }
        drainer.join().unwrap();
    });
}

/// `registry`'s chains: two processes that insert the same key agree on one entry.
#[test]
fn a_key_is_inserted_once() {
    loom::model(|| {
        // Entry i has key `keys[i]`; links are entry + 1, as in the family chains.
        let head = Arc::new(AtomicU64::new(0));
        let next = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let insert = |mine: u64, head: Arc<AtomicU64>, next: Arc<[AtomicU64; 2]>| -> u64 {
            let mut seen = 0;
            loop {
                let first = head.load(Ordering::Acquire);
                if first != seen {
                    return first; // one key only: whatever is new in the chain is that key
                }
                seen = first;
                next[mine as usize].store(first, Ordering::Relaxed);
                if head
                    .compare_exchange(first, mine + 1, Ordering::AcqRel, Ordering::Acquire)
                    .is_ok()
                {
                    return mine + 1;
                }
            }
        };
        let other = {
            let (head, next) = (head.clone(), next.clone());
            thread::spawn(move || insert(1, head, next))
        };
        let ours = insert(0, head, next);
        assert_eq!(ours, other.join().unwrap());
    });
}
