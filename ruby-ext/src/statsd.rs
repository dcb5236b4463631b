//! StatsD calls seen before, by what was given: name and tags as they came -> series.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use hashbrown::HashTable;
use magnus::gc::Marker;
use magnus::typed_data::Obj;
use magnus::value::Opaque;
use magnus::{
    method, Class, DataTypeFunctions, Error, Module, Object, RModule, RString, Ruby, TryConvert,
    TypedData, Value,
};
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
    /// `set`: a text, one of those that are counted.
    Set = b's',
}

impl Kind {
    /// Does what the call asks for. A value that does not fit is refused and counted by the core.
    #[inline(always)]
    pub fn apply(self, series: &Series, value: f64) -> bool {
        match self {
            Kind::Count => series.inc(value),
            Kind::Gauge => series.set(value),
            Kind::Time => series.observe(value / 1000.0),
            Kind::Observe => series.observe(value),
            Kind::Set => false, // its values are no numbers
        }
    }

    fn of(word: &str) -> Option<Kind> {
        match word {
            "count" => Some(Kind::Count),
            "gauge" => Some(Kind::Gauge),
            "time" => Some(Kind::Time),
            "observe" => Some(Kind::Observe),
            "set" => Some(Kind::Set),
            _ => None,
        }
    }
}

/// What is given in a call, as words: see `hot::Key`, which hashes while it writes.
pub struct Alias {
    hash: u64,
    words: Box<[u64]>,
    series: &'static Series,
}

/// The table of one client: its prefix and default tags are part of what an alias stands for.
#[magnus::wrap(class = "Promring::Native::Aliases", free_immediately, size)]
pub struct Aliases {
    table: RefCell<HashTable<Alias>>,
    /// Names and tags come from outside: nobody shall know which of them collide.
    pub seed: u64,
}

impl Aliases {
    fn new() -> Aliases {
        let seed = RandomState::new().build_hasher().finish();
        Aliases { table: RefCell::new(HashTable::new()), seed }
    }

    /// The series of a call seen before; None also after its removal.
    #[inline(always)]
    pub fn find(&self, hash: u64, words: &[u64]) -> Option<&'static Series> {
        let table = self.table.borrow();
        // Word by word: they have just been written, and wider loads would wait for the stores.
        let same = |alias: &Alias| {
            alias.words.len() == words.len() && alias.words.iter().zip(words).all(|(a, b)| a == b)
        };
        table.find(hash, same).map(|alias| alias.series).filter(|series| series.is_live())
    }

    fn insert(&self, hash: u64, words: &[u64], series: &'static Series) {
        let mut table = self.table.borrow_mut();
        if table.len() >= MOST_ALIASES {
            table.clear();
        }
        match table.find_mut(hash, |alias| *alias.words == *words) {
            Some(alias) => alias.series = series,
            None => {
                let alias = Alias { hash, words: words.into(), series };
                table.insert_unique(hash, alias, |alias| alias.hash);
            }
        }
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
        value: Value,
    ) -> Result<bool, Error> {
        let (Some(kind), Some(series)) = (Kind::of(&kind), metric.series(&as_strs(&label_values)))
        else {
            return Ok(false);
        };
        hot::with_key_of_call(kind, self.seed, name, tags, |hash, words| {
            self.insert(hash, words, series);
        });
        if kind == Kind::Set {
            return Ok(hot::with_bytes(RString::try_convert(value)?, |text| {
                series.add_to_set(text)
            }));
        }
        Ok(kind.apply(series, f64::try_convert(value)?))
    }

    fn len(&self) -> usize {
        self.table.borrow().len()
    }
}

/// The table in which the calls of `StatsD` itself are looked up: that of its client, or none while each call has to be
/// seen by the client. One call of ours does what takes Ruby two method calls and three conditions.
#[derive(TypedData)]
#[magnus(class = "Promring::Native::Direct", free_immediately, mark, size)]
pub struct Direct {
    followed: Cell<Option<Opaque<Obj<Aliases>>>>,
    /// What its calls answer when they are done.
    done: Opaque<Value>,
}

impl DataTypeFunctions for Direct {
    fn mark(&self, marker: &Marker) {
        marker.mark(self.done); // and so it does not move
        if let Some(aliases) = self.followed.get() {
            marker.mark(aliases);
        }
    }
}

impl Direct {
    fn new(done: Value) -> Direct {
        Direct { followed: Cell::new(None), done: done.into() }
    }

    #[inline(always)]
    pub fn done(&self) -> Opaque<Value> {
        self.done
    }

    fn follow(&self, aliases: Option<Obj<Aliases>>) {
        self.followed.set(aliases.map(Opaque::from));
    }

    #[inline(always)]
    pub fn followed(&self) -> Option<Opaque<Obj<Aliases>>> {
        self.followed.get()
    }
}

/// Defines `Promring::Native::Aliases` and `Direct`.
pub fn init(ruby: &Ruby, native: RModule) -> Result<(), Error> {
    let class = native.define_class("Aliases", ruby.class_object())?;
    class.undef_default_alloc_func();
    class.define_singleton_method("new", magnus::function!(Aliases::new, 0))?;
    class.define_method("learn", method!(Aliases::learn, 6))?;
    class.define_method("size", method!(Aliases::len, 0))?;
    hot::define_statsd_calls(class);
    let class = native.define_class("Direct", ruby.class_object())?;
    class.undef_default_alloc_func();
    class.define_singleton_method("new", magnus::function!(Direct::new, 1))?;
    class.define_method("calls=", method!(Direct::follow, 1))?;
    hot::define_direct_calls(class);
    Ok(())
}
