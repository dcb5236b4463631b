//! What an app calls all day – `inc`, `dec`, `set`, `observe`, `labels` – as raw METH_FASTCALL functions.
//!
//! The only unsafe code of the binding. Each function is entered by the interpreter with the global
//! lock held and keeps it; a panic ends at the function's own edge, and counting never raises for
//! reasons of ours. Nothing of ours is borrowed or locked while code of the app may run: that is
//! whenever a number is converted, an object ends, or a call goes back to Python.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

use promring::client;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::ffi::PyObject;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use crate::metric::{Labels, Series};

// ---------------------------------------------------------------------------------------------
// A series that can be exchanged

/// Where a `Series` counts; a load to read.
pub(crate) struct Target(AtomicPtr<client::Series>);

impl Target {
    pub(crate) fn new(series: &'static client::Series) -> Target {
        Target(AtomicPtr::new(ptr::from_ref(series).cast_mut()))
    }

    #[inline]
    pub(crate) fn get(&self) -> &'static client::Series {
        // SAFETY: `new` and `set` store pointers made of `&'static Series` only, and nobody writes through them.
        // Relaxed: what is behind them was complete before this process's global lock was last taken.
        unsafe { &*self.0.load(Ordering::Relaxed) }
    }

    pub(crate) fn set(&self, series: &'static client::Series) {
        self.0.store(ptr::from_ref(series).cast_mut(), Ordering::Relaxed); // see `get`
    }
}

// ---------------------------------------------------------------------------------------------
// Bound functions

type Fast = ffi::PyCFunctionFastWithKeywords;

/// The description of a function, which the interpreter keeps a pointer to for ever.
struct Method(UnsafeCell<ffi::PyMethodDef>);

// SAFETY: the interpreter only reads it, and so do we.
unsafe impl Sync for Method {}

impl Method {
    const fn new(
        name: &'static std::ffi::CStr,
        doc: &'static std::ffi::CStr,
        function: Fast,
    ) -> Method {
        Method(UnsafeCell::new(ffi::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: function },
            ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
            ml_doc: doc.as_ptr(),
        }))
    }

    fn bind(&'static self, slf: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        // SAFETY: the description lives for ever and fits its function; `slf` is a live object, of the class that
        // the function expects: `bound` and `bound_labels` are called by the methods of these classes only. The
        // result is a new reference or null with an exception set, as `from_owned_ptr_or_err` wants it.
        unsafe {
            let function = ffi::PyCFunction_NewEx(self.0.get(), slf.as_ptr(), ptr::null_mut());
            Ok(Bound::from_owned_ptr_or_err(slf.py(), function)?.unbind())
        }
    }
}

static COUNTER_INC: Method = Method::new(c"inc", c"inc(amount=1, exemplar=None)", counter_inc);
static GAUGE_INC: Method = Method::new(c"inc", c"inc(amount=1)", gauge_inc);
static GAUGE_DEC: Method = Method::new(c"dec", c"dec(amount=1)", gauge_dec);
static GAUGE_SET: Method = Method::new(c"set", c"set(value)", gauge_set);
static OBSERVE: Method = Method::new(c"observe", c"observe(amount, exemplar=None)", observe);
static LABELS: Method = Method::new(c"labels", c"labels(*labelvalues, **labelkwargs)", labels);

/// The function of a series for a call; None when there is none of that name.
pub(crate) fn bound(
    series: &Bound<'_, PyAny>,
    call: &str,
    gauge: bool,
) -> Option<PyResult<Py<PyAny>>> {
    let method = match (call, gauge) {
        ("inc", false) => &COUNTER_INC,
        ("inc", true) => &GAUGE_INC,
        ("dec", true) => &GAUGE_DEC,
        ("set", true) => &GAUGE_SET,
        ("observe", false) => &OBSERVE,
        _ => return None,
    };
    Some(method.bind(series))
}

/// `labels` of a look-up.
pub(crate) fn bound_labels(labels: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    LABELS.bind(labels)
}

/// Arguments as the interpreter hands them over.
#[derive(Clone, Copy)]
struct Arguments {
    first: *const *mut PyObject,
    n_positional: usize,
    names: *mut PyObject,
}

impl Arguments {
    /// The only argument, if there is one; None when names or more arguments want the long way.
    #[inline]
    fn single(self) -> Option<Option<*mut PyObject>> {
        if !self.names.is_null() || self.n_positional > 1 {
            return None;
        }
        if self.n_positional == 0 {
            return Some(None);
        }
        // SAFETY: METH_FASTCALL hands over an array of `n_positional` borrowed references; it has one.
        Some(Some(unsafe { *self.first }))
    }

    /// The values of parameters `names`, as a Python function would take them.
    fn by_name<'py, const N: usize>(
        self,
        py: Python<'py>,
        function: &str,
        names: [&str; N],
    ) -> PyResult<[Option<Bound<'py, PyAny>>; N]> {
        let mut values = [const { None }; N];
        if self.n_positional > N {
            let text =
                format!("{function}() takes at most {N} arguments ({} given)", self.n_positional);
            return Err(PyTypeError::new_err(text));
        }
        for (at, value) in values.iter_mut().enumerate().take(self.n_positional) {
            *value = Some(self.at(py, at));
        }
        for (at, name) in self.keywords(py)?.iter().enumerate() {
            let Some(known) = names.iter().position(|known| *known == name) else {
                let text = format!("{function}() got an unexpected keyword argument '{name}'");
                return Err(PyTypeError::new_err(text));
            };
            if values[known].replace(self.at(py, self.n_positional + at)).is_some() {
                let text = format!("{function}() got multiple values for argument '{name}'");
                return Err(PyTypeError::new_err(text));
            }
        }
        Ok(values)
    }

    fn at<'py>(self, py: Python<'py>, index: usize) -> Bound<'py, PyAny> {
        // SAFETY: METH_FASTCALL | METH_KEYWORDS hands over `n_positional` references and one more for each name;
        // both callers count to no more than that. They are alive as long as the call.
        unsafe { Bound::from_borrowed_ptr(py, *self.first.add(index)) }
    }

    fn keywords(self, py: Python<'_>) -> PyResult<Vec<String>> {
        // SAFETY: null, or a tuple of str that is alive as long as the call.
        let names = unsafe { Bound::from_borrowed_ptr_or_opt(py, self.names) };
        let Some(names) = names else { return Ok(Vec::new()) };
        names.cast::<PyTuple>()?.iter().map(|name| name.extract()).collect()
    }
}

/// Runs one call: None to Python, an exception, or – after a panic, which has printed itself – None too.
#[inline]
fn guarded(call: impl FnOnce(Python<'_>) -> PyResult<()>) -> *mut PyObject {
    // SAFETY: the interpreter calls the functions of this module with the global lock held.
    let py = unsafe { Python::assume_attached() };
    match catch_unwind(AssertUnwindSafe(|| call(py))) {
        Ok(Err(error)) => raise(error),
        Ok(Ok(())) | Err(_) => py.None().into_ptr(),
    }
}

/// Leaves an exception to the interpreter. Attached in pyo3's own books, too: what an error drops while they say that no
/// thread is attached is kept until some other call of pyo3's, which an app that only counts does not make.
#[cold]
fn raise(error: PyErr) -> *mut PyObject {
    Python::attach(|py| error.restore(py));
    ptr::null_mut()
}

/// The `Series` that a function was bound to.
#[inline]
fn series_of<'a>(py: Python<'a>, slf: *mut PyObject) -> Borrowed<'a, 'a, Series> {
    // SAFETY: `Method::bind` has stored a live `Series`, which the function object keeps alive as long as the call.
    unsafe { Borrowed::from_ptr(py, slf).cast_unchecked() }
}

/// A number as C has it.
#[inline]
fn number(py: Python<'_>, object: *mut PyObject) -> PyResult<f64> {
    // SAFETY: `object` is a borrowed reference of the running call.
    let value = unsafe { ffi::PyFloat_AsDouble(object) };
    if value == -1.0 {
        if let Some(error) = PyErr::take(py) {
            return Err(error);
        }
    }
    Ok(value)
}

const NEGATIVE: &str = "Counters can only be incremented by non-negative amounts.";

unsafe extern "C" fn counter_inc(
    slf: *mut PyObject,
    first: *const *mut PyObject,
    n: isize,
    names: *mut PyObject,
) -> *mut PyObject {
    let arguments = Arguments { first, n_positional: n as usize, names };
    guarded(|py| {
        let series = series_of(py, slf);
        let Some(single) = arguments.single() else {
            let [amount, exemplar] = arguments.by_name(py, "inc", ["amount", "exemplar"])?;
            return count(
                &series,
                amount.map_or(Ok(1.0), |amount| number(py, amount.as_ptr()))?,
                exemplar,
            );
        };
        let amount = single.map_or(Ok(1.0), |object| number(py, object))?;
        if amount < 0.0 {
            return Err(PyValueError::new_err(NEGATIVE));
        }
        series.get().live().inc(amount);
        Ok(())
    })
}

fn count(
    series: &Bound<'_, Series>,
    amount: f64,
    exemplar: Option<Bound<'_, PyAny>>,
) -> PyResult<()> {
    if amount < 0.0 {
        return Err(PyValueError::new_err(NEGATIVE));
    }
    series.get().live().inc(amount);
    keep_exemplar(series, amount, exemplar)
}

unsafe extern "C" fn observe(
    slf: *mut PyObject,
    first: *const *mut PyObject,
    n: isize,
    names: *mut PyObject,
) -> *mut PyObject {
    let arguments = Arguments { first, n_positional: n as usize, names };
    guarded(|py| {
        let series = series_of(py, slf);
        if let Some(Some(object)) = arguments.single() {
            series.get().live().observe(number(py, object)?);
            return Ok(());
        }
        let [amount, exemplar] = arguments.by_name(py, "observe", ["amount", "exemplar"])?;
        let amount = amount.ok_or_else(|| missing("observe", "amount"))?;
        let amount = number(py, amount.as_ptr())?;
        series.get().live().observe(amount);
        keep_exemplar(&series, amount, exemplar)
    })
}

fn missing(function: &str, argument: &str) -> PyErr {
    PyTypeError::new_err(format!(
        "{function}() missing 1 required positional argument: '{argument}'"
    ))
}

unsafe extern "C" fn gauge_inc(
    slf: *mut PyObject,
    first: *const *mut PyObject,
    n: isize,
    names: *mut PyObject,
) -> *mut PyObject {
    let arguments = Arguments { first, n_positional: n as usize, names };
    guarded(|py| add(py, slf, arguments, "inc", 1.0))
}

unsafe extern "C" fn gauge_dec(
    slf: *mut PyObject,
    first: *const *mut PyObject,
    n: isize,
    names: *mut PyObject,
) -> *mut PyObject {
    let arguments = Arguments { first, n_positional: n as usize, names };
    guarded(|py| add(py, slf, arguments, "dec", -1.0))
}

fn add(
    py: Python<'_>,
    slf: *mut PyObject,
    arguments: Arguments,
    name: &str,
    sign: f64,
) -> PyResult<()> {
    let amount = match arguments.single() {
        Some(single) => single.map_or(Ok(1.0), |object| number(py, object))?,
        None => {
            let [amount] = arguments.by_name(py, name, ["amount"])?;
            amount.map_or(Ok(1.0), |amount| number(py, amount.as_ptr()))?
        }
    };
    series_of(py, slf).get().live().add(sign * amount);
    Ok(())
}

unsafe extern "C" fn gauge_set(
    slf: *mut PyObject,
    first: *const *mut PyObject,
    n: isize,
    names: *mut PyObject,
) -> *mut PyObject {
    let arguments = Arguments { first, n_positional: n as usize, names };
    guarded(|py| {
        let value = match arguments.single() {
            Some(Some(object)) => any_number(py, object)?,
            _ => {
                let [value] = arguments.by_name(py, "set", ["value"])?;
                any_number(py, value.ok_or_else(|| missing("set", "value"))?.as_ptr())?
            }
        };
        series_of(py, slf).get().live().set(value);
        Ok(())
    })
}

/// What Python's `float()` takes, texts too: a gauge's `set` has always taken them.
#[inline]
fn any_number(py: Python<'_>, object: *mut PyObject) -> PyResult<f64> {
    // SAFETY: `object` is a borrowed reference of the running call; PyNumber_Float returns a new reference to a float,
    // or null with an exception set.
    unsafe {
        if ffi::Py_TYPE(object) == &raw mut ffi::PyFloat_Type {
            return Ok(ffi::PyFloat_AsDouble(object));
        }
        let float = Bound::from_owned_ptr_or_err(py, ffi::PyNumber_Float(object))?;
        number(py, float.as_ptr())
    }
}

static EXEMPLAR_HOOK: Mutex<Option<Py<PyAny>>> = Mutex::new(None);

pub(crate) fn set_exemplar_hook(hook: Py<PyAny>) {
    let old = EXEMPLAR_HOOK.lock().unwrap_or_else(PoisonError::into_inner).replace(hook);
    drop(old); // after the lock: its end may run code of the app
}

#[cold]
fn keep_exemplar(
    series: &Bound<'_, Series>,
    amount: f64,
    exemplar: Option<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let Some(exemplar) = exemplar else { return Ok(()) };
    let py = series.py();
    let hook = EXEMPLAR_HOOK
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .as_ref()
        .map(|hook| hook.clone_ref(py));
    match hook {
        Some(hook) if exemplar.is_truthy()? => hook.call1(py, (series, amount, exemplar)).map(drop),
        _ => Ok(()),
    }
}

// ---------------------------------------------------------------------------------------------
// labels()

/// More labels than this go the long way.
const MOST_LABELS: usize = 16;
/// Call sites whose keyword order is remembered.
const SHAPES: usize = 4;

/// Label values to children.
///
/// A call with exact `str` values costs their cached hashes and a probe; keyword calls find the order
/// of their names by the identity of the tuple that the interpreter passes, which is a constant of
/// the module that calls. Everything else, and every first time, goes to `otherwise`.
pub(crate) struct Lookup {
    parent: Py<PyAny>,
    otherwise: Py<PyAny>,
    names: Vec<Py<PyString>>,
    table: UnsafeCell<Table>,
    shapes: UnsafeCell<Shapes>,
}

// SAFETY: `table` and `shapes` are touched with the global lock held only (`Lookup`'s methods are reached from Python,
// or from its garbage collector), and no reference into them lives while code of the app, or the collector, may run.
unsafe impl Sync for Lookup {}

/// Open addressing, at most half full.
#[derive(Default)]
struct Table {
    places: Vec<Option<Entry>>,
    n_entries: usize,
}

struct Entry {
    hash: u64,
    values: Box<[Py<PyAny>]>,
    child: Py<PyAny>,
    series: Py<Series>,
}

/// A call site's tuple of keywords, and where among them each label's value stands.
type Shape = (Py<PyAny>, Box<[u8]>);

/// The call sites that are remembered.
#[derive(Default)]
struct Shapes {
    known: [Option<Shape>; SHAPES],
    next: usize,
}

/// Label values of one call, in the order of the label names.
struct Given {
    values: [*mut PyObject; MOST_LABELS],
    n: usize,
    hash: u64,
}

impl Given {
    fn values(&self) -> &[*mut PyObject] {
        &self.values[..self.n]
    }

    /// The `at(i)`-th objects as label values; None unless all are exactly `str`.
    #[inline]
    fn of(n: usize, at: impl Fn(usize) -> *mut PyObject) -> Option<Given> {
        let mut given = Given { values: [ptr::null_mut(); MOST_LABELS], n, hash: 0 };
        for (i, value) in given.values.iter_mut().enumerate().take(n) {
            *value = at(i);
            // SAFETY: a borrowed reference of the running call. The hash of a str runs no code and cannot fail.
            let hash = unsafe {
                if ffi::Py_TYPE(*value) != &raw mut ffi::PyUnicode_Type {
                    return None;
                }
                ffi::PyObject_Hash(*value)
            };
            given.hash =
                (given.hash ^ hash as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        Some(given)
    }
}

/// Are these two exact strs equal? Runs no code of the app.
#[inline]
fn same(a: *mut PyObject, b: *mut PyObject) -> bool {
    // SAFETY: both are alive and exactly str: `Given::of`, `Lookup::new` and `shape_of` have checked it.
    a == b || unsafe { ffi::PyUnicode_Compare(a, b) } == 0
}

impl Table {
    #[inline]
    fn find(&self, given: &Given) -> Option<&Entry> {
        let mask = self.places.len().checked_sub(1)?;
        let mut at = given.hash as usize & mask;
        // Half of the places are free: the walk ends.
        while let Some(entry) = &self.places[at] {
            let equal = |(a, b): (&Py<PyAny>, &*mut PyObject)| same(a.as_ptr(), *b);
            if entry.hash == given.hash && entry.values.iter().zip(given.values()).all(equal) {
                return Some(entry);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// Puts an entry in; returns what it replaces, for the caller to drop when nothing is borrowed.
    fn insert(&mut self, entry: Entry) -> Option<Entry> {
        if (self.n_entries + 1) * 2 > self.places.len() {
            let n_places = (self.places.len() * 2).max(8);
            let old = std::mem::take(&mut self.places);
            self.places.resize_with(n_places, || None);
            self.n_entries = 0;
            for entry in old.into_iter().flatten() {
                let _moved = self.insert(entry); // none was there twice
            }
        }
        let mask = self.places.len() - 1;
        let mut at = entry.hash as usize & mask;
        while let Some(there) = &self.places[at] {
            let pairs = || there.values.iter().zip(&entry.values);
            if there.hash == entry.hash && pairs().all(|(a, b)| same(a.as_ptr(), b.as_ptr())) {
                return self.places[at].replace(entry);
            }
            at = (at + 1) & mask;
        }
        self.n_entries += 1;
        self.places[at].replace(entry)
    }
}

impl Lookup {
    pub(crate) fn new(
        parent: Py<PyAny>,
        label_names: &Bound<'_, PyTuple>,
        otherwise: Py<PyAny>,
    ) -> PyResult<Lookup> {
        let exact = |name: Bound<'_, PyAny>| -> PyResult<Py<PyString>> {
            Ok(name.cast_exact::<PyString>()?.clone().unbind())
        };
        let names = label_names.iter().map(exact).collect::<PyResult<_>>()?;
        let (table, shapes) = (UnsafeCell::default(), UnsafeCell::default());
        Ok(Lookup { parent, otherwise, names, table, shapes })
    }

    /// The call's label values, if this is a call for the short way.
    #[inline]
    fn given(&self, py: Python<'_>, arguments: Arguments) -> Option<Given> {
        let n = self.names.len();
        if n > MOST_LABELS {
            return None;
        }
        let first = arguments.first;
        if arguments.names.is_null() {
            // SAFETY: METH_FASTCALL hands over `n_positional` references: `n` of them, as asked first.
            return (arguments.n_positional == n)
                .then(|| Given::of(n, |i| unsafe { *first.add(i) }))
                .flatten();
        }
        if arguments.n_positional != 0 {
            return None;
        }
        // SAFETY: see `impl Sync`; `known` and `order` are done with before anything else is called but
        // `PyObject_Hash` of strs.
        let shapes = unsafe { &*self.shapes.get() };
        let known =
            shapes.known.iter().flatten().find(|(names, _)| names.as_ptr() == arguments.names);
        if let Some((_, order)) = known {
            // SAFETY: there is one reference for each name of the tuple, and `order` was made from this tuple.
            return Given::of(n, |i| unsafe { *first.add(usize::from(order[i])) });
        }
        let order = self.learn(py, arguments)?;
        // SAFETY: as above.
        Given::of(n, |i| unsafe { *first.add(usize::from(order[i])) })
    }

    /// Remembers the order of a call site's keywords; None when they are not the label names.
    #[cold]
    fn learn(&self, py: Python<'_>, arguments: Arguments) -> Option<Box<[u8]>> {
        // SAFETY: not null, and alive as long as the call.
        let names = unsafe { Bound::from_borrowed_ptr(py, arguments.names) };
        let tuple = names.cast_exact::<PyTuple>().ok()?;
        if tuple.len() != self.names.len() {
            return None;
        }
        let given: Vec<Bound<'_, PyAny>> = tuple.iter().collect();
        if given.iter().any(|name| name.cast_exact::<PyString>().is_err()) {
            return None;
        }
        let position =
            |name: &Py<PyString>| given.iter().position(|g| same(g.as_ptr(), name.as_ptr()));
        let order: Box<[u8]> = self
            .names
            .iter()
            .map(|name| position(name).map(|at| at as u8))
            .collect::<Option<_>>()?;
        let fresh = (names.unbind(), order.clone());
        let old = {
            // SAFETY: see `impl Sync`; the borrow ends with the block, before `old` is dropped.
            let shapes = unsafe { &mut *self.shapes.get() };
            let at = shapes.next;
            shapes.next = (at + 1) % SHAPES;
            shapes.known[at].replace(fresh)
        };
        drop(old);
        Some(order)
    }

    #[inline]
    fn child(&self, py: Python<'_>, arguments: Arguments) -> PyResult<Py<PyAny>> {
        let given = self.given(py, arguments);
        if let Some(given) = &given {
            // SAFETY: see `impl Sync`; the borrow ends when the references are counted.
            let table = unsafe { &*self.table.get() };
            if let Some(entry) = table.find(given) {
                if entry.series.get().target.get().is_live() {
                    return Ok(entry.child.clone_ref(py));
                }
            }
        }
        self.child_otherwise(py, arguments, given)
    }

    /// The library's own way, and what it finds is remembered.
    #[cold]
    fn child_otherwise(
        &self,
        py: Python<'_>,
        arguments: Arguments,
        given: Option<Given>,
    ) -> PyResult<Py<PyAny>> {
        let mut values = vec![self.parent.bind(py).clone()];
        values.extend((0..arguments.n_positional).map(|at| arguments.at(py, at)));
        let named = PyDict::new(py);
        // SAFETY: null, or a tuple of str that is alive as long as the call.
        let names = unsafe { Bound::from_borrowed_ptr_or_opt(py, arguments.names) };
        for (at, name) in names.iter().flat_map(|names| names.try_iter()).flatten().enumerate() {
            named.set_item(name?, arguments.at(py, arguments.n_positional + at))?;
        }
        let child = self.otherwise.bind(py).call(PyTuple::new(py, values)?, Some(&named))?;
        let Some(given) = given else { return Ok(child.unbind()) };
        let series =
            child.getattr_opt("_promring")?.and_then(|series| series.cast_into::<Series>().ok());
        if let Some(series) = series {
            series.get().live();
            self.remember(py, &given, child.clone().unbind(), series.unbind());
        }
        Ok(child.unbind())
    }

    fn remember(&self, py: Python<'_>, given: &Given, child: Py<PyAny>, series: Py<Series>) {
        // SAFETY: borrowed references that are alive as long as the call.
        let value =
            |value: &*mut PyObject| unsafe { Bound::from_borrowed_ptr(py, *value) }.unbind();
        let values = given.values().iter().map(value).collect();
        let entry = Entry { hash: given.hash, values, child, series };
        // SAFETY: see `impl Sync`; the borrow ends with the statement, before what was replaced is dropped.
        let replaced = unsafe { &mut *self.table.get() }.insert(entry);
        drop(replaced);
    }

    /// Forgets all children.
    pub(crate) fn forget(&self) {
        // SAFETY: see `impl Sync`; the borrow ends with the statement, before the children are dropped.
        let old = std::mem::take(unsafe { &mut *self.table.get() });
        drop(old);
    }

    /// For the garbage collector: a parent holds `labels`, which holds this, which holds the parent.
    pub(crate) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.parent)?;
        // SAFETY: see `impl Sync`; the collector's visits run no code of the app and change nothing here.
        let table = unsafe { &*self.table.get() };
        for entry in table.places.iter().flatten() {
            visit.call(&entry.child)?;
            visit.call(&entry.series)?;
        }
        Ok(())
    }

    /// For the garbage collector: breaks the cycle.
    pub(crate) fn clear(&self) {
        self.forget();
    }
}

unsafe extern "C" fn labels(
    slf: *mut PyObject,
    first: *const *mut PyObject,
    n: isize,
    names: *mut PyObject,
) -> *mut PyObject {
    let arguments = Arguments { first, n_positional: n as usize, names };
    // SAFETY: the interpreter calls this with the global lock held; `Method::bind` has stored a live `Labels`, which
    // the function object keeps alive as long as the call.
    let (py, labels) = unsafe {
        let py = Python::assume_attached();
        (py, Borrowed::from_ptr(py, slf).cast_unchecked::<Labels>())
    };
    match catch_unwind(AssertUnwindSafe(|| labels.get().lookup.child(py, arguments))) {
        Ok(Ok(child)) => child.into_ptr(),
        Ok(Err(error)) => raise(error),
        // Without a child there is no metric to go on with: this is the one place that must say so.
        Err(_) => {
            raise(pyo3::exceptions::PyRuntimeError::new_err("promring: labels() has panicked"))
        }
    }
}
