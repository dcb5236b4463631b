//! StatsD calls seen before, by what was given: name and tags as they came -> series.

use std::cell::RefCell;
use std::collections::hash_map::RandomState;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

use magnus::{method, Class, Error, Module, Object, RModule, Ruby, Value};
use promring::client::Series;

use crate::convert::as_strs;
use crate::hot;
use crate::metric::Metric;

/// Beyond so many the table starts anew: names and tags may be without end, memory is not.
const MOST_ALIASES: usize = 10_000;

/// What becomes of the value of a call; the first byte of its key.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// `increment`: added to a counter.
    Count = b'c',
    /// `gauge`: the value, whatever its sign.
    Gauge = b'g',
    /// `measure`: milliseconds, observed as seconds.
    Time = b't',
    /// `histogram` and `distribution`: observed as it is.
    Observe = b'o',
}

impl Kind {
    /// Does what the call asks for. A value that does not fit is refused and counted by the core.
    #[inline]
    pub fn apply(self, series: &Series, value: f64) -> bool {
        match self {
            Kind::Count => series.inc(value),
            Kind::Gauge => series.set(value),
            Kind::Time => series.observe(value / 1000.0),
            Kind::Observe => series.observe(value),
        }
    }

    fn of(word: &str) -> Option<Kind> {
        match word {
            "count" => Some(Kind::Count),
            "gauge" => Some(Kind::Gauge),
            "time" => Some(Kind::Time),
            "observe" => Some(Kind::Observe),
            _ => None,
        }
    }
}

/// The table of one client: its prefix and default tags are part of what an alias stands for.
#[magnus::wrap(class = "Promring::Native::Aliases", free_immediately, size)]
pub struct Aliases {
    table: RefCell<HashMap<Box<[u8]>, &'static Series, Seeded>>,
}

impl Aliases {
    fn new() -> Aliases {
        Aliases { table: RefCell::new(HashMap::with_hasher(Seeded::new())) }
    }

    /// The series of a call seen before; None also after its removal.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<&'static Series> {
        self.table.borrow().get(key).copied().filter(|series| series.is_live())
    }

    /// Does what a call asks for that has not been seen before, and knows it from now on. False when the value
    /// was refused.
    fn learn(
        &self,
        kind: String,
        name: Value,
        tags: Value,
        metric: &Metric,
        label_values: Vec<String>,
        value: f64,
    ) -> bool {
        let (Some(kind), Some(series)) = (Kind::of(&kind), metric.series(&as_strs(&label_values)))
        else {
            return false;
        };
        if let Some(key) = hot::key_of_call(kind, name, tags) {
            let mut table = self.table.borrow_mut();
            if table.len() >= MOST_ALIASES {
                table.clear();
            }
            table.insert(key, series);
        }
        kind.apply(series, value)
    }

    fn len(&self) -> usize {
        self.table.borrow().len()
    }
}

/// A hash in words of 8 bytes, seeded per table: what is hashed comes from outside.
struct Seeded(u64);

impl Seeded {
    fn new() -> Seeded {
        Seeded(RandomState::new().build_hasher().finish())
    }
}

impl BuildHasher for Seeded {
    type Hasher = Words;

    fn build_hasher(&self) -> Words {
        Words(self.0)
    }
}

struct Words(u64);

impl Words {
    #[inline]
    fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for Words {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.word(u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
        }
        let rest = chunks.remainder();
        let mut last = [0u8; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last));
    }

    #[inline]
    fn write_usize(&mut self, number: usize) {
        self.word(number as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0.rotate_left(26) // the product's high bits are its good ones, the table looks at the low ones, too
    }
}

/// Defines `Promring::Native::Aliases`.
pub fn init(ruby: &Ruby, native: RModule) -> Result<(), Error> {
    let class = native.define_class("Aliases", ruby.class_object())?;
    class.undef_default_alloc_func();
    class.define_singleton_method("new", magnus::function!(Aliases::new, 0))?;
    class.define_method("learn", method!(Aliases::learn, 6))?;
    class.define_method("size", method!(Aliases::len, 0))?;
    hot::define_statsd_calls(class);
    Ok(())
}
