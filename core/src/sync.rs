//! The one door to atomics: std's in production, loom's under `--cfg loom`.
//!
//! Every other module names `crate::sync`, so a model checker sees each load and store, and a reader
//! finds every ordering by searching for one import. May use nothing of promring.
#![allow(unsafe_code)]

#[cfg(loom)]
mod mortal;
#[cfg(loom)]
pub(crate) use mortal::{fence, AtomicU128, AtomicU32, AtomicU64, Ordering};
#[cfg(loom)]
pub(crate) use mortal::{kill_before_store, live_on, Killed};

#[cfg(not(loom))]
pub(crate) use portable_atomic::AtomicU128;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{fence, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Words of this process alone that stand in statics: a model, whose threads are processes, has no part in them.
pub(crate) mod private {
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64};
}

/// A `&'static T` that can be set anew by any thread; empty at first.
#[cfg(not(loom))]
pub(crate) struct AtomicRef<T: 'static>(AtomicPtr<T>);

#[cfg(not(loom))]
impl<T: Sync> AtomicRef<T> {
    pub(crate) const fn new() -> Self {
        AtomicRef(AtomicPtr::new(std::ptr::null_mut()))
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<&'static T> {
        let pointer = self.0.load(Ordering::Acquire); // partner: the release store in `set`
                                                      // SAFETY: null, or made from a `&'static T` by `set`; T is Sync, so sharing it is fine.
        unsafe { pointer.as_ref() }
    }

    pub(crate) fn set(&self, value: &'static T) {
        self.0.store(std::ptr::from_ref(value).cast_mut(), Ordering::Release); // partner: `get`
    }

    pub(crate) fn clear(&self) {
        self.0.store(std::ptr::null_mut(), Ordering::Release); // partner: `get`
    }
}

/// A `&'static T` that is always there, and can be exchanged by any thread.
#[cfg(not(loom))]
pub(crate) struct AlwaysRef<T: 'static>(AtomicPtr<T>);

#[cfg(not(loom))]
impl<T: Sync> AlwaysRef<T> {
    pub(crate) const fn new(first: &'static T) -> Self {
        AlwaysRef(AtomicPtr::new(std::ptr::from_ref(first).cast_mut()))
    }

    #[inline]
    pub(crate) fn get(&self) -> &'static T {
        let pointer = self.0.load(Ordering::Acquire); // partner: the release store in `set`
                                                      // SAFETY: made from a `&'static T` by `new` or `set`; T is Sync, so sharing it is fine.
        unsafe { &*pointer }
    }

    pub(crate) fn set(&self, value: &'static T) {
        self.0.store(std::ptr::from_ref(value).cast_mut(), Ordering::Release); // partner: `get`
    }
}

/// Reads the f64 whose bits an atomic word holds.
#[inline]
pub(crate) fn load_f64(word: &AtomicU64, order: Ordering) -> f64 {
    f64::from_bits(word.load(order))
}
