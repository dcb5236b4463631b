//! scrape() for any process, and the aggregator's role under a lock: drain, listen, self-metrics.
//!
//! By default the server's master starts the aggregator as a small child process of its own: no
//! thread in the master, none of the server's sockets held, nothing that could stall it. A second one
//! (of a master that is being upgraded) stands by until the role's lock byte is free. When the
//! aggregator is killed, a worker that notices – it looks once per request and whenever it drains –
//! starts another one, detached, which watches the same master.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::client;
use crate::config::Listen;
use crate::error::Error;
use crate::exposition::{Choice, Format, Renderer};
use crate::http::{self, Answer, Asked, Limits, Listener};
use crate::os::{self, Forked};
use crate::process;
use crate::segment::{Carrier, Segment, LOCK_ROLE};
use crate::snapshot::{Reader, Shown, Snapshot};
use crate::sync::{AtomicRef, AtomicU64, Ordering};

/// How often the aggregator drains and looks whether its master lives.
const ROUND: Duration = Duration::from_millis(250);
/// How often one that stands by tries for the role: between two aggregators nobody listens.
const STANDBY: Duration = Duration::from_millis(20);
/// An aggregator that has made no round for so long may be gone.
const SILENCE: Duration = Duration::from_millis(600);
/// How often a process looks whether it is. With the silence and a start, another one answers within a second.
const LOOK: Duration = Duration::from_millis(100);
/// Scrapes that come within this time of each other share one page.
const PAGE_LIFE: Duration = Duration::from_millis(100);
/// How often a taken port is tried again.
const BIND_EVERY: Duration = Duration::from_secs(1);

// ---------------------------------------------------------------------------------------------
// Scraping

/// What a scrape answers.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its `Content-Encoding`, if it has one.
    pub content_encoding: Option<&'static str>,
    /// Its bytes.
    pub body: Vec<u8>,
}

/// What a process keeps from one scrape to the next.
struct Scraper {
    segment: &'static Segment,
    reader: Reader,
    renderer: Renderer,
}

impl Scraper {
    fn new(segment: &'static Segment) -> Scraper {
        let config = client::config();
        let target = config.target_info.clone();
        let shown = Shown { target, scrape_metrics: config.scrape_metrics };
        Scraper { segment, reader: Reader::new(segment, shown), renderer: Renderer::new() }
    }
}

/// Emptied in forked children by [`forget_scraper`]: another thread may have been scraping at the fork, and its
/// lock would never be released there.
static SCRAPER: os::PerProcess<Mutex<Option<Scraper>>> = os::PerProcess::new();

/// The client's fork handler calls it. A handler of our own would have to be set at the first scrape: a child
/// forked by another thread just then would wait for ever for that to be over.
pub(crate) fn forget_scraper() {
    SCRAPER.clear();
}

fn scraper() -> &'static Mutex<Option<Scraper>> {
    SCRAPER.get().unwrap_or_else(|| {
        let fresh: &'static Mutex<_> = Box::leak(Box::new(Mutex::new(None)));
        SCRAPER.set(fresh);
        fresh
    })
}

/// Drains, copies and renders everything the app counts, in any process of it.
///
/// `accept` is the request's `Accept` header; the page is not compressed.
pub fn scrape(accept: &str) -> Page {
    scrape_as(Choice::negotiate(accept, ""))
}

/// As [`scrape`], in a format that was chosen before.
pub fn scrape_as(choice: Choice) -> Page {
    let with_natives = choice.format == Format::Protobuf;
    let body = with_snapshot(with_natives, |snapshot, renderer| {
        let mut body = Vec::new();
        renderer.render(snapshot, choice, &mut body);
        body
    });
    let (content_type, content_encoding) = (choice.content_type(), choice.content_encoding());
    Page { content_type, content_encoding, body }
}

/// Drains and copies everything the app counts, for `show` to make a page of; counts as a scrape.
/// Exponential buckets are read if the page has them.
pub(crate) fn with_snapshot<R>(
    with_natives: bool,
    show: impl FnOnce(&Snapshot, &mut Renderer) -> R,
) -> R {
    let started = os::monotonic_ns();
    if client::config().series_ttl > 0 && role_is_free(client::segment()) {
        client::expire_idle(); // else the aggregator does it in its rounds
    }
    let mut copy = client::copy_all();
    let segment = client::segment();
    let mut scraper = scraper().lock().unwrap_or_else(PoisonError::into_inner);
    let fits = |scraper: &Scraper| std::ptr::eq(scraper.segment, segment);
    if scraper.as_ref().is_some_and(|scraper| !fits(scraper)) {
        *scraper = None;
    }
    let scraper = scraper.get_or_insert_with(|| Scraper::new(segment));
    let label = client::config().gauge_label;
    let snapshot = (0..3).rev().find_map(|tries_left| {
        let (copied, own, peeked) = &copy;
        let snapshot = scraper.reader.snapshot(copied, *own, label, *peeked, with_natives);
        if copied.is_current(segment) || tries_left == 0 {
            return Some(snapshot);
        }
        copy = client::copy_all(); // a dead worker's gauges have moved into totals in between
        None
    });
    let shown = show(&snapshot.expect("the last try is taken"), &mut scraper.renderer);
    let counters = &segment.header().counters;
    counters.scrapes.fetch_add(1, Ordering::Relaxed); // a count, no order
    counters.scrape_ns.fetch_add(os::monotonic_ns() - started, Ordering::Relaxed); // a count, no order
    shown
}

// ---------------------------------------------------------------------------------------------
// The role

/// What [`start`] did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Start {
    /// A child process holds the role, or stands by for it.
    Started {
        /// Its pid.
        pid: u32,
    },
    /// This process had started one already.
    AlreadyStarted {
        /// Its pid.
        pid: u32,
    },
    /// There is nothing to start: listening is off, or the segment is this process's alone.
    Off,
}

/// Whose life the aggregator's depends on; forked workers inherit it.
struct Master {
    pid: u32,
    start_time: u64,
    child: u32,
}

impl Master {
    fn is_me(&self) -> bool {
        self.pid == os::pid()
    }

    fn lives(&self) -> bool {
        os::start_time(self.pid) == Some(self.start_time)
    }
}

static MASTER: AtomicRef<Master> = AtomicRef::new();
/// When this process last looked after the aggregator.
static LOOKED_NS: AtomicU64 = AtomicU64::new(0);

/// Starts the aggregator as a child of this process, the server's master. It holds the role, or
/// stands by while another process does, and ends when this process ends.
///
/// # Errors
/// [`Error::Listen`] when no process could be made.
pub fn start() -> Result<Start, Error> {
    let address = match &client::config().listen {
        Listen::Off => return Ok(Start::Off),
        Listen::Tcp(address) => address.clone(),
    };
    if let Some(master) = MASTER.get().filter(|master| master.is_me()) {
        if !os::reap_child(master.child) {
            return Ok(Start::AlreadyStarted { pid: master.child });
        }
    }
    let segment = client::segment();
    if *segment.carrier() == Carrier::Private {
        return Ok(Start::Off); // `attach` has said that nobody else can see this memory
    }
    let pid = os::pid();
    let start_time = os::start_time(pid).unwrap_or(0);
    // A master that has executed itself anew (Puma's hot restart) is the same process: its aggregator goes on.
    if let Some(child) = segment.role_holder().filter(|holder| os::parent(*holder) == Some(pid)) {
        MASTER.set(Box::leak(Box::new(Master { pid, start_time, child })));
        return Ok(Start::AlreadyStarted { pid: child });
    }
    match os::fork() {
        Err(error) => Err(Error::Listen { address, cause: format!("no process for it: {error}") }),
        Ok(Forked::Child) => live_as_aggregator(&address, &Master { pid, start_time, child: 0 }),
        Ok(Forked::Parent(child)) => {
            MASTER.set(Box::leak(Box::new(Master { pid, start_time, child })));
            Ok(Start::Started { pid: child })
        }
    }
}

/// Ends the aggregator that this process has started.
pub fn stop() {
    if let Some(master) = MASTER.get().filter(|master| master.is_me()) {
        MASTER.clear();
        os::kill(master.child, libc::SIGTERM);
        os::wait_child(master.child);
    }
}

/// Called once per request: looks after the aggregator, and reports what this process takes from the
/// machine. Costs two readings of the clock.
pub fn tick() {
    look_after();
    process::report();
}

/// A worker's part: when the aggregator has been silent and nobody holds its role, start another.
pub(crate) fn look_after() {
    let Some(master) = MASTER.get() else { return };
    let now = os::monotonic_ns();
    if now.wrapping_sub(LOOKED_NS.load(Ordering::Relaxed)) < LOOK.as_nanos() as u64 {
        return; // a pace, no order
    }
    LOOKED_NS.store(now, Ordering::Relaxed);
    let segment = client::segment();
    let beat = &segment.header().aggregator_beat_ns;
    let last = beat.load(Ordering::Relaxed); // a time, nothing else to order
    let wall = os::unix_ns();
    let silent = wall.abs_diff(last) > SILENCE.as_nanos() as u64;
    // The exchange elects one of several workers that notice at once.
    if silent
        && role_is_free(segment)
        && beat.compare_exchange(last, wall, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    {
        start_detached(master);
    }
}

fn role_is_free(segment: &Segment) -> bool {
    segment.locks().is_some_and(|locks| matches!(locks.holder(LOCK_ROLE), Ok(None)))
}

/// Forked twice, so that the worker has no child it does not know of.
fn start_detached(master: &Master) {
    let Listen::Tcp(address) = &client::config().listen else { return };
    match os::fork() {
        Ok(Forked::Parent(middle)) => os::wait_child(middle),
        Ok(Forked::Child) => match os::fork() {
            Ok(Forked::Child) => live_as_aggregator(address, master),
            _ => os::exit_now(0),
        },
        Err(_) => {} // no process to be had now: the next look tries again
    }
}

/// The life of the aggregator's process, from the fork to its end.
fn live_as_aggregator(address: &str, master: &Master) -> ! {
    MASTER.clear();
    client::log_to_stderr();
    os::become_background_process();
    os::close_all_but(&client::segment().descriptors());
    os::set_process_name("promring");
    // A panic must not unwind into the interpreter that this process was copied from.
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        hold_role(address, &|| master.lives())
    }));
    os::exit_now(0)
}

/// Waits for the role, then drains and listens until `needed` says no or SIGTERM comes.
fn hold_role(address: &str, needed: &dyn Fn() -> bool) {
    let segment = client::segment();
    segment.share_attachment();
    let Some(locks) = segment.locks() else { return };
    while !locks.try_lock(LOCK_ROLE).unwrap_or(false) {
        if !needed() {
            return;
        }
        std::thread::sleep(STANDBY);
    }
    let Some(listener) = bind_patiently(address, needed) else { return };
    let round = || {
        if !needed() {
            return ControlFlow::Break(());
        }
        make_round();
        ControlFlow::Continue(())
    };
    if let Err(error) = http::serve(listener, Limits::default(), page_cache(), ROUND, round) {
        client::log(&format!("the aggregator's listener ended: {error}"));
    }
}

/// A taken port is said once and tried again; meanwhile the rounds go on, and so do the endpoints in
/// the app.
fn bind_patiently(address: &str, needed: &dyn Fn() -> bool) -> Option<Listener> {
    let mut said = false;
    loop {
        match Listener::bind(address) {
            Ok(listener) => return Some(listener),
            Err(error) if !said => {
                client::log(&format!(
                    "{error}; retrying, and the app's own endpoint goes on answering"
                ));
                said = true;
            }
            Err(_) => {}
        }
        let again = os::monotonic_ns() + BIND_EVERY.as_nanos() as u64;
        while os::monotonic_ns() < again {
            if !needed() {
                return None;
            }
            make_round();
            std::thread::sleep(ROUND);
        }
    }
}

/// One round of the aggregator: totals stay fresh without a scraper, the dead are taken care of.
fn make_round() {
    let segment = client::segment();
    segment.header().aggregator_beat_ns.store(os::unix_ns(), Ordering::Relaxed); // a time, nothing else to order
    client::drain_and_reap();
    client::expire_idle();
    static SAID: Mutex<Option<String>> = Mutex::new(None);
    let damage = segment.damage();
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(line) = damage.filter(|line| said.as_ref() != Some(line)) {
        client::log(&line);
        *said = Some(line);
    }
}

/// Several scrapers at once cost one render for each format they ask for.
fn page_cache() -> impl Fn(&Asked) -> Answer {
    let cached: RefCell<Vec<(Choice, u64, Answer)>> = RefCell::default();
    move |asked| {
        let choice = Choice::negotiate(&asked.accept, &asked.accept_encoding);
        let mut cached = cached.borrow_mut();
        let now = os::monotonic_ns();
        cached.retain(|(_, made, _)| now - made < PAGE_LIFE.as_nanos() as u64);
        if let Some((_, _, answer)) = cached.iter().find(|(known, _, _)| *known == choice) {
            return answer.clone();
        }
        let Page { content_type, content_encoding, body } = scrape_as(choice);
        let answer = Answer { content_type, content_encoding, body: body.into() };
        cached.push((choice, os::monotonic_ns(), answer.clone()));
        answer
    }
}

/// Holds the role in the foreground (`promring serve`): beside an app, or for one that has no server.
/// Returns at SIGTERM or SIGINT.
///
/// # Errors
/// [`Error::Listen`] when the role is held by another process or the address is taken.
pub fn serve(address: &str) -> Result<(), Error> {
    let segment = client::segment();
    let refuse = |cause: String| Error::Listen { address: address.to_string(), cause };
    let locks =
        segment.locks().ok_or_else(|| refuse("the segment is this process's alone".into()))?;
    if !locks.try_lock(LOCK_ROLE).map_err(|error| refuse(error.to_string()))? {
        let holder = segment.role_holder().unwrap_or(0);
        return Err(refuse(format!(
            "this app's aggregator runs already (pid {holder}): scrape that one, or start the app with PROMRING_LISTEN=off"
        )));
    }
    let listener = Listener::bind(address)?;
    os::default_signal(libc::SIGINT); // the interpreter we may run in would only note it
    client::log(&format!("serving http://{}/metrics", listener.local_addr()));
    let round = || {
        make_round();
        ControlFlow::Continue(())
    };
    http::serve(listener, Limits::default(), page_cache(), ROUND, round)
        .map_err(|error| refuse(error.to_string()))
}
