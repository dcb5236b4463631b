//! The calls of every request, as raw functions of Ruby's C interface: 11 ns each where typed methods take 28.
//!
//! Each answers true for "done" and false for "not the usual way", upon which the Ruby method that called it
//! converts, validates, raises. So nothing in here raises: of Ruby's functions only those are called that cannot
//! (no conversion, no allocation, nothing that runs Ruby code), and no longjmp ever crosses a Rust frame.
//! A panic is caught at the boundary and answered with true: an app is not told of our troubles in its requests.
//!
//! Ruby's lock is held throughout and never released, so there is one producer per process, as the core wants it.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void, CStr};
use std::mem::{transmute, MaybeUninit};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::slice;
use std::str;
use std::sync::OnceLock;

use magnus::rb_sys::AsRawValue;
use magnus::{RClass, RString, Ruby, Value};
use promring::client::Series;
use rb_sys::special_consts::{Qfalse, Qtrue};
use rb_sys::{rb_float_new, rb_float_value, rb_hash_foreach, rb_sym2id, rb_sym2str};
use rb_sys::{ruby_value_type as Type, ENCODING_GET, FIX2LONG, FIXNUM_P, FLONUM_P, ID, NIL_P};
use rb_sys::{RARRAY_AREF, RARRAY_LEN, RB_FLOAT_TYPE_P, RB_SYMBOL_P, RB_TYPE_P};
use rb_sys::{RSTRING_LEN, RSTRING_PTR, RTYPEDDATA_GET_DATA, SPECIAL_CONST_P, STATIC_SYM_P, VALUE};

use crate::metric::Metric;
use crate::statsd::{Aliases, Direct, Kind};

/// More labels than this are looked up the slow way.
const MOST_LABELS: usize = 8;
/// A StatsD call of more words of 8 bytes than this is looked up the slow way.
const KEY_WORDS: usize = 64;

const CONTINUE: c_int = 0;
const STOP: c_int = 1;

/// Runs a call; see the module's text for what it answers.
#[inline(always)]
fn answer(call: impl FnOnce() -> Option<()>) -> VALUE {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(None) => Qfalse as VALUE,
        Ok(Some(())) | Err(_) => Qtrue as VALUE,
    }
}

/// What a typed-data object of ours holds.
///
/// # Safety
/// `object` is `self` of a method defined on the class that wraps `T`.
#[inline(always)]
unsafe fn wrapped<'a, T>(object: VALUE) -> &'a T {
    // SAFETY: the class has no allocator and `dup` needs one, so every instance was made by magnus, which lets
    // the data pointer point to a boxed `T` until the object is collected; the caller's stack keeps it.
    unsafe { &*RTYPEDDATA_GET_DATA(object).cast::<T>() }
}

/// Integers that are immediates, and Floats; everything else needs a conversion that may run Ruby code.
#[inline(always)]
fn number(value: VALUE) -> Option<f64> {
    if FIXNUM_P(value) {
        // SAFETY: it is a Fixnum.
        return Some(unsafe { FIX2LONG(value) } as f64);
    }
    // SAFETY: arguments of a method are valid objects; `rb_float_value` gets Floats only and cannot raise then.
    unsafe { RB_FLOAT_TYPE_P(value).then(|| rb_float_value(value)) }
}

/// The bytes of a String that UTF-8 can be read from: UTF-8 itself, US-ASCII and binary, which are checked later.
///
/// # Safety
/// `value` is a String; it is neither changed nor collected while the bytes are used.
#[inline(always)]
unsafe fn bytes_of<'a>(value: VALUE) -> Option<&'a [u8]> {
    const LAST_PLAIN_ENCODING: c_int = 2; // binary 0, UTF-8 1, US-ASCII 2: fixed in every Ruby
                                          // SAFETY: it is a String (see above), whose pointer is valid for its length.
    unsafe {
        if ENCODING_GET(value) > LAST_PLAIN_ENCODING {
            return None;
        }
        Some(slice::from_raw_parts(RSTRING_PTR(value).cast(), RSTRING_LEN(value) as usize))
    }
}

#[inline(always)]
fn is_string(value: VALUE) -> bool {
    // SAFETY: arguments and what Hashes and Arrays hold are valid objects.
    unsafe { RB_TYPE_P(value, Type::RUBY_T_STRING) }
}

type Pair = unsafe extern "C" fn(VALUE, VALUE, VALUE) -> c_int;
type Walk = unsafe extern "C" fn(VALUE, Option<Pair>, VALUE) -> c_int;

/// The way to walk a Hash that needs no guard against exceptions and changes, which costs as much as all the rest.
/// Ruby exports it for its own extensions and does not promise it: without it we take the usual way.
static WALK: OnceLock<Option<Walk>> = OnceLock::new();

fn find_walk() {
    // SAFETY: the name ends with a zero. What is found is Ruby's function of this name, which has had this signature
    // since Ruby 2.6.
    WALK.get_or_init(|| unsafe {
        let found = libc::dlsym(libc::RTLD_DEFAULT, c"rb_hash_stlike_foreach".as_ptr());
        (!found.is_null()).then(|| transmute::<*mut c_void, Walk>(found))
    });
}

/// Calls back for each pair of a Hash, until it is told to stop.
///
/// # Safety
/// `hash` is a Hash; the callback neither raises nor changes it, and knows what `argument` is.
#[inline(always)]
unsafe fn walk(hash: VALUE, callback: Pair, argument: VALUE) {
    // SAFETY: as the caller promises; without changes and exceptions there is nothing to guard against, and so
    // `rb_hash_foreach` does not raise either.
    unsafe {
        match WALK.get() {
            Some(Some(walk)) => drop(walk(hash, Some(callback), argument)),
            _ => rb_hash_foreach(hash, Some(callback), argument),
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Metrics

extern "C" fn increment(this: VALUE, by: VALUE, labels: VALUE) -> VALUE {
    answer(|| {
        let by = number(by).filter(|by| *by >= 0.0)?; // a negative one is an error, NaN is refused the slow way
        series_of(this, labels)?.inc(by);
        Some(())
    })
}

extern "C" fn observe(this: VALUE, value: VALUE, labels: VALUE) -> VALUE {
    answer(|| {
        let value = number(value)?;
        series_of(this, labels)?.observe(value);
        Some(())
    })
}

extern "C" fn set(this: VALUE, value: VALUE, labels: VALUE) -> VALUE {
    answer(|| {
        let value = number(value)?;
        series_of(this, labels)?.set(value);
        Some(())
    })
}

extern "C" fn add(this: VALUE, amount: VALUE, labels: VALUE) -> VALUE {
    answer(|| {
        let amount = number(amount)?;
        series_of(this, labels)?.add(amount);
        Some(())
    })
}

/// As a data store counts: answers with this process's value, a Float.
extern "C" fn count_here(this: VALUE, by: VALUE, labels: VALUE) -> VALUE {
    let mut value = f64::NAN;
    let done = answer(|| {
        let by = number(by).filter(|by| by.is_finite())?;
        let series = series_of(this, labels)?;
        // SAFETY: called by methods of `Promring::Native::Metric` alone.
        value = unsafe { wrapped::<Metric>(this) }.count(series, by);
        Some(())
    });
    if done == Qfalse as VALUE {
        return done;
    }
    // SAFETY: any f64 is a Float. Where it is no immediate an object is allocated; should memory be out, the
    // longjmp crosses this frame alone, which holds nothing to drop.
    unsafe { rb_float_new(value) }
}

/// As a data store observes: the sum's increment stands for the whole observation.
extern "C" fn observe_sum(this: VALUE, value: VALUE, labels: VALUE) -> VALUE {
    answer(|| {
        let value = number(value)?;
        // SAFETY: called by methods of `Promring::Native::Metric` alone.
        let metric: &Metric = unsafe { wrapped(this) };
        let mut values = LabelValues::new(metric);
        values.skipped = metric.part_id();
        // SAFETY: `labels` is an argument of the method, a valid object.
        let is_hash = unsafe { RB_TYPE_P(labels, Type::RUBY_T_HASH) };
        is_hash.then(|| values.find(labels))??.observe(value);
        Some(())
    })
}

/// The series that a Hash of labels names, together with what was given beforehand.
#[inline(always)]
fn series_of(this: VALUE, labels: VALUE) -> Option<&'static Series> {
    // SAFETY: called by methods of `Promring::Native::Metric` alone.
    let metric: &Metric = unsafe { wrapped(this) };
    if NIL_P(labels) {
        return metric.fixed();
    }
    // SAFETY: `labels` is an argument of the method, a valid object.
    let is_hash = unsafe { RB_TYPE_P(labels, Type::RUBY_T_HASH) };
    is_hash.then(|| LabelValues::new(metric).find(labels))?
}

/// The label values of one call, in the order of the family's label names, on the stack.
struct LabelValues<'a> {
    metric: &'a Metric,
    values: [&'a [u8]; MOST_LABELS],
    given: u32,
    /// How many pairs of the Hash have been taken: most callers write labels in the order of their declaration.
    n_taken: usize,
    /// The label by which a data store tells the parts of an observation, 0 for none.
    skipped: ID,
    digits: Digits,
}

impl<'a> LabelValues<'a> {
    #[inline(always)]
    fn new(metric: &'a Metric) -> Self {
        LabelValues {
            metric,
            values: [b""; MOST_LABELS],
            given: 0,
            n_taken: 0,
            skipped: 0,
            digits: Digits::new(),
        }
    }

    #[inline(always)]
    fn find(mut self, labels: VALUE) -> Option<&'static Series> {
        let n = self.metric.n_labels();
        if n > MOST_LABELS {
            return None;
        }
        // SAFETY: `labels` is a Hash; the callback gets the pointer back as it is, within this call, and neither
        // raises nor changes the Hash.
        unsafe { walk(labels, take_label, (&raw mut self) as VALUE) };
        if self.n_taken == usize::MAX {
            return None; // a key that is no label, or a value that needs `to_s`
        }
        let mut texts = [""; MOST_LABELS];
        for (position, text) in texts.iter_mut().enumerate().take(n) {
            *text = if self.given & 1 << position != 0 {
                str::from_utf8(self.values[position]).ok()?
            } else {
                self.metric.preset(position)?
            };
        }
        self.metric.series(&texts[..n])
    }

    #[inline(always)]
    fn take(&mut self, key: VALUE, value: VALUE) -> Option<()> {
        // SAFETY: what a Hash holds are valid objects; an id is asked for of Symbols only, and one that is not
        // interned yet gets its id, which does not raise.
        let id: ID = unsafe { RB_SYMBOL_P(key).then(|| rb_sym2id(key))? };
        if id == self.skipped {
            return Some(());
        }
        let position = self.metric.position(id, self.n_taken)?;
        *self.values.get_mut(position)? = self.digits.text_of(value)?;
        self.given |= 1 << position;
        self.n_taken += 1;
        Some(())
    }
}

/// Called back for each pair. Nothing in it panics: it could not be caught here.
unsafe extern "C" fn take_label(key: VALUE, value: VALUE, values: VALUE) -> c_int {
    // SAFETY: the pointer that `find` passed, which nobody else uses while the Hash is walked.
    let values = unsafe { &mut *(values as *mut LabelValues<'_>) };
    match values.take(key, value) {
        Some(()) => CONTINUE,
        None => {
            values.n_taken = usize::MAX;
            STOP
        }
    }
}

/// Room for the digits of a call's Integers.
struct Digits {
    room: [MaybeUninit<u8>; 128],
    free: usize,
}

impl Digits {
    #[inline(always)]
    fn new() -> Self {
        Digits { room: [MaybeUninit::uninit(); 128], free: 128 }
    }

    /// What `to_s` answers for Strings, Symbols, small Integers, nil, true and false.
    ///
    /// The bytes stay as long as the call: nothing of Ruby runs meanwhile, and the caller's Hash holds the value.
    #[inline(always)]
    fn text_of<'a>(&mut self, value: VALUE) -> Option<&'a [u8]> {
        if is_string(value) {
            // SAFETY: a String held by the caller's Hash; no Ruby code runs before the call returns.
            return unsafe { bytes_of(value) };
        }
        if FIXNUM_P(value) {
            // SAFETY: it is a Fixnum.
            return self.write(unsafe { FIX2LONG(value) });
        }
        // SAFETY: a valid object; a Symbol's String is held by the table of symbols.
        unsafe {
            if RB_SYMBOL_P(value) {
                return bytes_of(rb_sym2str(value));
            }
        }
        match value {
            _ if NIL_P(value) => Some(b""),
            _ if value == Qtrue as VALUE => Some(b"true"),
            _ if value == Qfalse as VALUE => Some(b"false"),
            _ => None,
        }
    }

    fn write<'a>(&mut self, number: i64) -> Option<&'a [u8]> {
        let end = self.free;
        let mut put = |digit: u8| {
            self.free = self.free.checked_sub(1)?;
            self.room.get_mut(self.free)?.write(digit);
            Some(())
        };
        let mut rest = number.unsigned_abs();
        loop {
            put(b'0' + (rest % 10) as u8)?;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            put(b'-')?;
        }
        let written = self.room.get(self.free..end)?;
        // SAFETY: each byte of the range was written above; `self` outlives the call's use of them and is not
        // moved, and no byte is written twice.
        Some(unsafe { slice::from_raw_parts(written.as_ptr().cast(), written.len()) })
    }
}

// ---------------------------------------------------------------------------------------------
// StatsD

/// A function that Ruby calls, for one kind of call.
macro_rules! call_of {
    ($name:ident = $call:ident($kind:ident, $($argument:ident),+)) => {
        extern "C" fn $name(this: VALUE, $($argument: VALUE),+) -> VALUE {
            $call(Kind::$kind, this, $($argument),+)
        }
    };
}

call_of!(count = statsd_call(Count, name, value, tags));
call_of!(gauge = statsd_call(Gauge, name, value, tags));
call_of!(time = statsd_call(Time, name, value, tags));
call_of!(observe_tagged = statsd_call(Observe, name, value, tags));
call_of!(count_direct = direct_call(Count, name, value, tags, bare));
call_of!(gauge_direct = direct_call(Gauge, name, value, tags, bare));
call_of!(observe_direct = direct_call(Observe, name, value, tags, bare));

#[inline(always)]
fn statsd_call(kind: Kind, this: VALUE, name: VALUE, value: VALUE, tags: VALUE) -> VALUE {
    // SAFETY: called by methods of `Promring::Native::Aliases` alone.
    answer(|| look_up(kind, unsafe { wrapped(this) }, name, value, tags))
}

#[inline(always)]
fn look_up(kind: Kind, aliases: &Aliases, name: VALUE, value: VALUE, tags: VALUE) -> Option<()> {
    let value = number(value)?;
    let mut key = Key::new(aliases.seed);
    key.take_call(kind, name, tags)?;
    kind.apply(aliases.find(key.hash(), key.words())?, value);
    Some(())
}

/// A set's value is a text. One with a bar in it would end there as a datagram, and goes that way.
extern "C" fn set_tagged(this: VALUE, name: VALUE, value: VALUE, tags: VALUE) -> VALUE {
    answer(|| {
        // SAFETY: called by methods of `Promring::Native::Aliases` alone.
        let aliases: &Aliases = unsafe { wrapped(this) };
        let mut digits = Digits::new();
        let text = digits.text_of(value)?;
        let mut key = Key::new(aliases.seed);
        key.take_call(Kind::Set, name, tags)?;
        let series = aliases.find(key.hash(), key.words())?;
        (!text.contains(&b'|')).then(|| series.add_to_set(text)).map(drop)
    })
}

/// Lends the bytes of a String; `with` runs nothing of Ruby's.
pub fn with_bytes<R>(text: RString, with: impl FnOnce(&[u8]) -> R) -> R {
    // SAFETY: the caller's stack holds the String, and nobody changes or collects it before `with` returns.
    with(unsafe { text.as_slice() })
}

/// A call whose name is `bare` goes without the client's prefix, which the table's names have. What is answered for
/// "done" is what the caller answers in turn.
#[inline(always)]
fn direct_call(
    kind: Kind,
    this: VALUE,
    name: VALUE,
    value: VALUE,
    tags: VALUE,
    bare: VALUE,
) -> VALUE {
    // SAFETY: called by methods of `Promring::Native::Direct` alone.
    let direct: &Direct = unsafe { wrapped(this) };
    let done = answer(|| {
        if bare != Qfalse as VALUE && !NIL_P(bare) {
            return None;
        }
        // SAFETY: on a thread of Ruby's that holds its lock; what `direct` follows is an `Aliases`, which it marks
        // and so keeps.
        let aliases =
            unsafe { wrapped(Ruby::get_unchecked().get_inner(direct.followed()?).as_raw()) };
        look_up(kind, aliases, name, value, tags)
    });
    if done == Qfalse as VALUE {
        return done;
    }
    // SAFETY: as above; the object is marked, too.
    unsafe { Ruby::get_unchecked() }.get_inner(direct.done()).as_raw()
}

/// Calls `with` with the hash and the words of a call, unless it is one that is looked up the slow way.
pub fn with_key_of_call(
    kind: Kind,
    seed: u64,
    name: Value,
    tags: Value,
    with: impl FnOnce(u64, &[u64]),
) {
    let mut key = Key::new(seed);
    if key.take_call(kind, name.as_raw(), tags.as_raw()).is_some() {
        with(key.hash(), key.words());
    }
}

/// Name and tags of a call as words. Different calls have different keys, since a part's first word says of what sort it
/// is and how long: a Symbol is its own, and ends with a byte that no other first word ends with; a text of up to 7 bytes
/// has its length, and a bit that no other has, in the first byte; all else begins with a head.
/// The hash is computed from registers, while the words are written: to read them back at once would cost more than
/// all the rest.
struct Key {
    room: [MaybeUninit<u64>; KEY_WORDS],
    len: usize,
    hash: u64,
}

impl Key {
    #[inline(always)]
    fn new(seed: u64) -> Key {
        // Nothing is written yet: half written, the whole room would be copied to where it is used.
        Key { room: [MaybeUninit::uninit(); KEY_WORDS], len: 0, hash: seed }
    }

    #[inline(always)]
    fn words(&self) -> &[u64] {
        // SAFETY: the first `len` words have been written, see `put`.
        unsafe { slice::from_raw_parts(self.room.as_ptr().cast(), self.len) }
    }

    #[inline(always)]
    fn hash(&self) -> u64 {
        self.hash.rotate_left(26) // the product's high bits are its good ones, the table looks at the low ones, too
    }

    #[inline(always)]
    fn mix(&mut self, word: u64) {
        self.hash = (self.hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    #[inline(always)]
    fn put(&mut self, word: u64) -> Option<()> {
        self.room.get_mut(self.len)?.write(word);
        self.len += 1;
        self.mix(word);
        Some(())
    }

    /// A part's first word.
    #[inline(always)]
    fn head(&mut self, sort: u8, len: usize) -> Option<()> {
        self.put((len as u64) << 8 | u64::from(sort))
    }

    /// A text, or an object that is its own value: small Integers, static Symbols, flonums, nil, true, false.
    #[inline(always)]
    fn part(&mut self, value: VALUE) -> Option<()> {
        if is_string(value) {
            // SAFETY: a String that the caller holds; its bytes are copied before anything else happens.
            let bytes = unsafe { bytes_of(value)? };
            if bytes.len() < 8 {
                return self.put(last_word(bytes) | (0x80 | bytes.len() as u64) << 56);
            }
            self.head(b's', bytes.len())?;
            let mut chunks = bytes.chunks_exact(8);
            for chunk in &mut chunks {
                self.put(u64::from_le_bytes(chunk.try_into().ok()?))?;
            }
            let rest = chunks.remainder();
            return if rest.is_empty() { Some(()) } else { self.put(last_word(rest)) };
        }
        if STATIC_SYM_P(value) && value >> 56 == 0 {
            return self.put(value);
        }
        if SPECIAL_CONST_P(value) || FLONUM_P(value) {
            self.head(b'i', 1)?;
            return self.put(value);
        }
        None
    }

    #[inline(always)]
    fn take_call(&mut self, kind: Kind, name: VALUE, tags: VALUE) -> Option<()> {
        self.put(kind as u64)?;
        self.part(name)?;
        if NIL_P(tags) || is_string(tags) {
            return self.part(tags);
        }
        // SAFETY: `tags` is an argument of the method. A Hash is walked as in `LabelValues::find`; an Array is not
        // changed while it is read, as no Ruby code runs.
        unsafe {
            if RB_TYPE_P(tags, Type::RUBY_T_HASH) {
                self.head(b'h', 0)?;
                walk(tags, take_tag, (&raw mut *self) as VALUE);
                return (self.len <= KEY_WORDS).then_some(());
            }
            if RB_TYPE_P(tags, Type::RUBY_T_ARRAY) {
                self.head(b'a', 0)?;
                return (0..RARRAY_LEN(tags))
                    .try_for_each(|at| self.part(RARRAY_AREF(tags, at as isize)));
            }
        }
        None
    }
}

/// Up to 7 bytes as a word, the rest of it zero.
#[inline(always)]
fn last_word(bytes: &[u8]) -> u64 {
    let word = |part: &[u8]| part.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    match bytes {
        [a, b, c, d, rest @ ..] => {
            word(rest) << 32 | u64::from(u32::from_le_bytes([*a, *b, *c, *d]))
        }
        few => word(few),
    }
}

/// Called back for each tag. Nothing in it panics: it could not be caught here.
unsafe extern "C" fn take_tag(name: VALUE, value: VALUE, key: VALUE) -> c_int {
    // SAFETY: the pointer that `take_call` passed, which nobody else uses while the Hash is walked.
    let key = unsafe { &mut *(key as *mut Key) };
    if key.part(name).and_then(|()| key.part(value)).is_some() {
        CONTINUE
    } else {
        key.len = usize::MAX; // `take_call` tells by it
        STOP
    }
}

// ---------------------------------------------------------------------------------------------
// Set-up

type Call2 = extern "C" fn(VALUE, VALUE, VALUE) -> VALUE;
type Call3 = extern "C" fn(VALUE, VALUE, VALUE, VALUE) -> VALUE;
type Call4 = extern "C" fn(VALUE, VALUE, VALUE, VALUE, VALUE) -> VALUE;

/// Defines the hot methods of `Promring::Native::Metric`.
pub fn define_metric_calls(class: RClass) {
    find_walk();
    let calls: [(&CStr, Call2); 6] = [
        (c"increment", increment),
        (c"observe", observe),
        (c"set", set),
        (c"add", add),
        (c"count", count_here),
        (c"observe_sum", observe_sum),
    ];
    for (name, call) in calls {
        define(class, name, call as *const c_void, 2);
    }
}

/// Defines the hot methods of `Promring::Native::Aliases`.
pub fn define_statsd_calls(class: RClass) {
    let calls: [(&CStr, Call3); 5] = [
        (c"count", count),
        (c"gauge", gauge),
        (c"time", time),
        (c"observe", observe_tagged),
        (c"set", set_tagged),
    ];
    for (name, call) in calls {
        define(class, name, call as *const c_void, 3);
    }
}

/// Defines the hot methods of `Promring::Native::Direct`.
pub fn define_direct_calls(class: RClass) {
    let calls: [(&CStr, Call4); 3] =
        [(c"count", count_direct), (c"gauge", gauge_direct), (c"observe", observe_direct)];
    for (name, call) in calls {
        define(class, name, call as *const c_void, 4);
    }
}

fn define(class: RClass, name: &CStr, call: *const c_void, n_arguments: c_int) {
    // SAFETY: `call` is one of the functions above and takes self and `n_arguments` arguments, which is how Ruby
    // calls it; the name is copied.
    unsafe {
        let call = transmute::<*const c_void, unsafe extern "C" fn() -> VALUE>(call);
        rb_sys::rb_define_method(class.as_raw(), name.as_ptr(), Some(call), n_arguments);
    }
}
