//! Loom's atomics, as `sync` hands them out in models; before each store of theirs a process may be killed.
//!
//! A process that dies between two stores has done the same as one that dies right before the second: so these are
//! all the places of a death that others can tell apart.

use std::cell::Cell;
use std::sync::Mutex;

pub(crate) use loom::sync::atomic::{fence, Ordering};

loom::thread_local! {
    /// Stores until this process is killed; none: it is not.
    static LEFT: Cell<Option<u32>> = Cell::new(None);
}

/// What a killed process's thread unwinds with.
pub(crate) struct Killed;

/// This process is killed before its store number `n`, counted from 0.
pub(crate) fn kill_before_store(n: u32) {
    LEFT.with(|left| left.set(Some(n)));
}

/// It is not killed any more.
pub(crate) fn live_on() {
    LEFT.with(|left| left.set(None));
}

fn before_store() {
    LEFT.with(|left| match left.get() {
        Some(0) => std::panic::resume_unwind(Box::new(Killed)), // without the hook that prints
        Some(n) => left.set(Some(n - 1)),
        None => {}
    });
}

macro_rules! mortal {
    ($name:ident, $number:ty, $($exchange:ident),*) => {
        #[derive(Debug, Default)]
        pub(crate) struct $name(loom::sync::atomic::$name);

        impl $name {
            pub(crate) fn load(&self, order: Ordering) -> $number {
                self.0.load(order)
            }

            pub(crate) fn store(&self, value: $number, order: Ordering) {
                before_store();
                self.0.store(value, order);
            }

            pub(crate) fn compare_exchange(
                &self,
                old: $number,
                new: $number,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$number, $number> {
                before_store();
                self.0.compare_exchange(old, new, success, failure)
            }

            $(pub(crate) fn $exchange(&self, value: $number, order: Ordering) -> $number {
                before_store();
                self.0.$exchange(value, order)
            })*
        }
    };
}

mortal!(AtomicU32, u32, fetch_add, fetch_sub, fetch_or, fetch_and);
mortal!(AtomicU64, u64, fetch_add, fetch_or, fetch_max);

/// Loom has no 16 bytes: a word that is always seen as it was stored last. What goes on in one compare-and-swap of a
/// direct cell is the stepper's to look at, and nothing else is ordered by them.
#[derive(Debug, Default)]
pub(crate) struct AtomicU128(Mutex<u128>);

impl AtomicU128 {
    pub(crate) fn load(&self, _: Ordering) -> u128 {
        *self.0.lock().unwrap()
    }

    pub(crate) fn compare_exchange_weak(
        &self,
        old: u128,
        new: u128,
        _: Ordering,
        _: Ordering,
    ) -> Result<u128, u128> {
        let mut word = self.0.lock().unwrap();
        let found = *word;
        if found == old {
            *word = new;
            return Ok(old);
        }
        Err(found)
    }
}
