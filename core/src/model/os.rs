//! Stands for `os` in a model, whose threads are processes: who asks, and the kernel's byte locks.
//!
//! The shipped module is system calls, which loom cannot see. Times stand still here, and pids prove nothing, as in
//! two containers: only the locks tell who lives.

use std::cell::Cell;
use std::io;

use crate::sync::{AtomicU32, Ordering};

loom::thread_local! {
    static PROCESS: Cell<u32> = Cell::new(0);
}

/// This thread is that process from now on.
pub(crate) fn be(process: u32) {
    PROCESS.with(|own| own.set(process));
}

pub(crate) fn pid() -> u32 {
    PROCESS.with(Cell::get)
}

pub(crate) fn start_time(_: u32) -> Option<u64> {
    None
}

pub(crate) fn pid_namespace() -> u64 {
    0
}

pub(crate) fn boot_ns() -> u64 {
    0
}

pub(crate) fn boot_ticks(_: u64) -> u64 {
    0
}

pub(crate) fn unix_ns() -> u64 {
    1
}

pub(crate) fn monotonic_ns() -> u64 {
    1
}

/// Who holds a byte, as one bit for each process. The kernel changes a byte under a lock of its own, hence by exchanges
/// that acquire and release; whoever only asks may be told what was true a moment ago.
#[derive(Debug)]
pub(crate) struct LockFile(Vec<AtomicU32>);

impl LockFile {
    pub(crate) fn new(bytes: u64) -> LockFile {
        LockFile((0..bytes).map(|_| AtomicU32::default()).collect())
    }

    fn byte(&self, at: u64) -> &AtomicU32 {
        &self.0[at as usize]
    }

    pub(crate) fn try_lock(&self, at: u64) -> io::Result<bool> {
        let own = 1 << pid();
        let taken = self.byte(at).compare_exchange(0, own, Ordering::AcqRel, Ordering::Acquire);
        Ok(taken.is_ok() || taken == Err(own))
    }

    pub(crate) fn try_share(&self, at: u64) -> io::Result<bool> {
        self.byte(at).fetch_or(1 << pid(), Ordering::AcqRel);
        Ok(true)
    }

    pub(crate) fn unlock(&self, at: u64) {
        self.byte(at).fetch_and(!(1 << pid()), Ordering::AcqRel);
    }

    pub(crate) fn holder(&self, at: u64) -> io::Result<Option<u32>> {
        let others = self.byte(at).load(Ordering::Acquire) & !(1 << pid());
        Ok((others != 0).then(|| others.trailing_zeros()))
    }

    /// All that the kernel does at a process's end.
    pub(crate) fn unlock_all(&self) {
        (0..self.0.len() as u64).for_each(|at| self.unlock(at));
    }
}

/// A value per process: here always empty, since no process of a model has threads.
pub(crate) struct PerProcess<T: 'static>(std::marker::PhantomData<&'static T>);

impl<T: Sync> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        PerProcess(std::marker::PhantomData)
    }

    pub(crate) fn get(&self) -> Option<&'static T> {
        None
    }

    pub(crate) fn set(&self, _: &'static T) {}

    pub(crate) fn clear(&self) {}
}
