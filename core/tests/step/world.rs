//! The segment that is stepped on, its images, and what must be true of each of them.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use promring::client::{FamilySpec, GaugeMode, MetricType, Native};
use promring::proof::{Arena, Eyes, Peer};

use crate::tracer::Ledger;

/// What is counted in the ledger: calls begun, and calls that have returned.
#[derive(Clone, Copy, PartialEq)]
pub enum Call {
    /// `hits_total` + 1.
    Hit,
    /// 3 observed in `sizes`.
    Size,
    /// `late_total{tag="x"}` + 1, a family that is registered late.
    Late,
    /// The child's part of the gauge `level_sum`, set to 8.
    Level,
}
pub const CALLS: [Call; 4] = [Call::Hit, Call::Size, Call::Late, Call::Level];

/// Traces of exemplars: what was there, the stepped process's (as long, so that a mixture could be read),
/// what others keep meanwhile and afterwards.
pub const BEFORE: &str = "what was there before it started";
pub const OWN: &str = "kept by the process it is all on";
pub const MEANWHILE: &str = "meanwhile";
const AFTERWARDS: &str = "afterwards, in whatever is left";

pub const LATE: &str = "late_total{tag=\"x\"}";

/// Segments: the one that is stepped on, and copies of it.
pub struct World {
    /// The child's; this process is worker `peer` in it, too.
    pub stage: Arena,
    /// As the operation finds it.
    pub base: Arena,
    /// As the first stepped instruction finds it.
    pub first: Arena,
    /// As the last step left it.
    pub last: Arena,
    /// Where a copy is judged.
    pub scratch: Arena,
    /// Where a recovery is stepped, and where its images are judged.
    pub nested: Arena,
    pub nested_last: Arena,
    pub nested_scratch: Arena,
    pub ledger: Ledger,
    /// The ledger as the operation finds it.
    base_ledger: Vec<u64>,
    /// A living worker with a ring and gauges.
    pub peer: Peer,
    /// Does it hold the drain lock all the time?
    pub peer_holds_lock: bool,
    /// What `late_total` showed before the operation removes it.
    pub late_before: Option<f64>,
    /// Does it keep exemplars of `hits_total`?
    pub traces: bool,
    /// A summary whose sub-window is noted, and what it had counted before.
    pub noted: Option<(u32, f64)>,
    /// A set, and how many values it shows, whoever stands still or has died.
    pub in_set: Option<(u32, RangeInclusive<f64>)>,
    /// Gauge values that the dead and the living have set, as they must be shown.
    gauges: HashMap<String, f64>,
}

pub fn spec(name: &str, metric_type: MetricType, gauge_mode: GaugeMode) -> FamilySpec {
    let histogram = metric_type == MetricType::Histogram;
    FamilySpec {
        name: name.into(),
        help: "Help.".into(),
        unit: String::new(),
        metric_type,
        gauge_mode,
        label_names: if name.starts_with("late") { vec!["tag".into()] } else { Vec::new() },
        buckets: if histogram { vec![1.0, 2.0, 4.0] } else { Vec::new() },
        native: None,
    }
}

pub fn hits() -> FamilySpec {
    spec("hits_total", MetricType::Counter, GaugeMode::All)
}
pub fn sizes() -> FamilySpec {
    spec("sizes", MetricType::Histogram, GaugeMode::All)
}
/// A summary with quantiles, of few cells.
pub fn spans() -> FamilySpec {
    let native = Some(Native::new(-4).within(1.0, 16.0));
    let spec = spec("spans", MetricType::Summary, GaugeMode::All);
    FamilySpec { buckets: vec![0.5], native, ..spec }
}
/// A set.
pub fn users() -> FamilySpec {
    spec("users", MetricType::Gauge, GaugeMode::Unique)
}
pub fn late() -> FamilySpec {
    spec("late_total", MetricType::Counter, GaugeMode::All)
}
pub fn level(mode: GaugeMode) -> FamilySpec {
    spec(&format!("level_{}", mode.as_str()), MetricType::Gauge, mode)
}

impl World {
    pub fn new() -> World {
        let arena = || Arena::new(4096);
        let stage = arena();
        let peer = Peer::claim(stage).expect("a place");
        let world = World {
            stage,
            base: arena(),
            first: arena(),
            last: arena(),
            scratch: arena(),
            nested: arena(),
            nested_last: arena(),
            nested_scratch: arena(),
            ledger: Ledger::new(2 * CALLS.len()),
            base_ledger: Vec::new(),
            peer,
            peer_holds_lock: false,
            late_before: None,
            traces: false,
            noted: None,
            in_set: None,
            gauges: HashMap::new(),
        };
        for family in [hits(), sizes()] {
            stage.register(&family, &[]).expect("a series");
        }
        let sum = stage.register(&level(GaugeMode::Sum), &[]).expect("a series");
        let max = stage.register(&level(GaugeMode::Max), &[]).expect("a series");
        world.peer.set_gauge(sum, 2.0);
        world.peer.set_gauge(max, 3.0);
        world
    }

    /// What a call of that kind counts in, looked up by this process.
    pub fn id(&self, call: Call) -> u32 {
        let (family, labels): (FamilySpec, &[&str]) = match call {
            Call::Hit => (hits(), &[]),
            Call::Size => (sizes(), &[]),
            Call::Late => (late(), &["x"]),
            Call::Level => (level(GaugeMode::Sum), &[]),
        };
        self.stage.register(&family, labels).expect("a series")
    }

    /// Counts `n` calls made by this process.
    pub fn count(&self, call: Call, n: u64) {
        self.ledger.add(2 * call as usize, n);
        self.ledger.add(2 * call as usize + 1, n);
    }

    /// `n` events of the living worker.
    pub fn peer_pushes(&self, call: Call, n: u64) {
        let id = self.id(call);
        for _ in 0..n {
            let pushed = match call {
                Call::Size => self.peer.push(id, 3.0),
                _ => self.peer.count(id, 1),
            };
            assert!(pushed);
        }
        self.count(call, n);
    }

    /// Somebody begins and counts.
    pub fn newcomer(&self) -> Peer {
        let newcomer = Peer::claim(self.stage).expect("a place");
        assert!(newcomer.count(self.id(Call::Hit), 1));
        self.count(Call::Hit, 1);
        newcomer
    }

    /// It counts once more and dies.
    pub fn counts_and_dies(&self, newcomer: Peer) {
        assert!(newcomer.count(self.id(Call::Hit), 1));
        self.count(Call::Hit, 1);
        newcomer.die();
    }

    /// A worker that counts, sets gauges, and dies.
    pub fn someone_dies(&self, events: u64) {
        let dead = Peer::claim(self.stage).expect("a place");
        for _ in 0..events {
            assert!(dead.count(self.id(Call::Hit), 1));
        }
        self.count(Call::Hit, events);
        for (mode, value) in [(GaugeMode::Sum, 5.0), (GaugeMode::Max, 9.0)] {
            let id = self.stage.register(&level(mode), &[]).expect("a series");
            dead.set_gauge(id, value);
        }
        dead.die();
    }

    /// What stands in the segment now is what an operation finds.
    pub fn set_base(&mut self) {
        self.base.copy_from(self.stage);
        self.base_ledger = self.ledger.values();
        self.scratch.copy_from(self.stage);
        self.scratch.forget_pids();
        let page = settled_page(self.scratch, &mut Eyes::new(self.scratch)).expect("a page");
        self.gauges = page.into_iter().filter(|(name, _)| name.starts_with("level_")).collect();
    }

    /// Back to what the operation finds.
    pub fn reset(&mut self) {
        self.stage.copy_from(self.base);
        self.ledger.clear();
        for (at, value) in self.base_ledger.iter().enumerate() {
            self.ledger.add(at, *value);
        }
        let place = self.peer.place();
        let old = std::mem::replace(&mut self.peer, Peer::at(self.stage, place));
        drop(old);
    }

    /// Every process has died and left these bytes: what is wrong with them? They are looked at in
    /// `image`, by somebody who had looked before the operation began, too.
    pub fn judge(&self, left: Arena, image: Arena) -> Vec<String> {
        image.copy_from(self.first);
        let mut eyes = Eyes::new(image);
        let mut wrong = Vec::new();
        if Peer::at(image, self.peer.place()).page(&mut eyes).is_none() {
            wrong.push("no page before the operation".into());
        }
        image.copy_from(left);
        image.forget_pids();
        if let Some((id, wanted)) = &self.in_set {
            let found = image.in_set(*id); // as it was left
            if !wanted.contains(&found) {
                wrong.push(format!("{found} in a set of {wanted:?}"));
            }
        }
        let first = match settled_page(image, &mut eyes) {
            Ok(page) => page,
            Err(error) => return vec![error],
        };
        self.compare(&first, 0, 0, &mut wrong);
        if self.traces {
            self.judge_exemplar(image, &mut wrong);
        }
        if let Some((id, counted)) = self.noted.filter(|(id, n)| image.noted(*id) != Some(*n)) {
            wrong.push(format!("{:?} noted of {counted}", image.noted(id)));
        }
        let median = first.get("spans{quantile=\"0.5\"}").copied().unwrap_or(f64::NAN);
        if self.noted.is_some() && !(1.0..65536.0).contains(&median) {
            wrong.push(format!("the median is {median}"));
        }
        let shown = first.get("users").copied().unwrap_or(f64::NAN);
        if self.in_set.as_ref().is_some_and(|(_, wanted)| !wanted.contains(&shown)) {
            wrong.push(format!("{shown} in a set"));
        }
        if !image.is_at_rest() {
            wrong.push("the lock or the redo record was left behind".into());
        }
        // Life goes on in the places of the dead, with names that somebody may have begun to register.
        let mut heirs = Vec::new();
        for _ in 0..3 {
            let Some(heir) = Peer::claim(image) else { return vec!["no place".into()] };
            (0..3).for_each(|_| assert!(heir.count(self.id(Call::Hit), 1)));
            heirs.push(heir);
        }
        match image.register(&late(), &["x"]) {
            Some(id) if heirs[0].revive(id) => assert!(heirs[0].count(id, 1)),
            Some(_) => wrong.push("late_total cannot be brought back".into()),
            None => wrong.push("late_total cannot be registered".into()),
        }
        let page = heirs[2].settle().then(|| heirs[2].page(&mut eyes)).flatten();
        match page.map(|text| parse(&text)) {
            Some(Ok(page)) => {
                self.compare(&page, 9, 1, &mut wrong);
                if !first.contains_key(LATE) && page.get(LATE).is_some_and(|late| *late > 2.0) {
                    wrong.push("a removed series came back with what it had counted".into());
                }
            }
            Some(Err(error)) => wrong.push(error),
            None => wrong.push("the drain lock is not to be had by an heir".into()),
        }
        wrong
    }

    /// An exemplar is shown whole, or the one before it; the dead block nobody who keeps another.
    fn judge_exemplar(&self, image: Arena, wrong: &mut Vec<String>) {
        let hit = self.id(Call::Hit);
        let had = self.base.exemplar(hit).is_some();
        let shown = image.exemplar(hit);
        let known = [BEFORE, OWN, MEANWHILE];
        match &shown {
            Some(trace) if known.contains(&trace.as_str()) => {}
            None if !had && self.ledger.get(2 * Call::Hit as usize + 1) < 2 => {}
            other => wrong.push(format!("the exemplar is {other:?}")),
        }
        if !image.keep_exemplar(hit, AFTERWARDS)
            || image.exemplar(hit).as_deref() != Some(AFTERWARDS)
        {
            wrong.push(format!("another exemplar cannot be kept: {:?}", image.exemplar(hit)));
        }
    }

    /// Is each number between what was acknowledged and what was begun?
    pub fn compare(&self, page: &Page, hits: u64, late: u64, wrong: &mut Vec<String>) {
        let mut expect = |name: &str, call: Call, more: u64, unit: f64| {
            let value = page.get(name).copied().unwrap_or(0.0) / unit;
            let begun = (self.ledger.get(2 * call as usize) + more) as f64;
            let acknowledged = (self.ledger.get(2 * call as usize + 1) + more) as f64;
            if value < acknowledged {
                wrong.push(format!("{name}: {value} shown, {acknowledged} acknowledged"));
            } else if value > begun {
                wrong.push(format!("{name}: {value} shown, {begun} begun"));
            }
            value
        };
        expect("hits_total", Call::Hit, hits, 1.0);
        let not_removed_yet = self.late_before.map(|before| before + late as f64);
        if not_removed_yet.is_none() || page.get(LATE).copied() != not_removed_yet {
            expect(LATE, Call::Late, late, 1.0);
        }
        let count = expect("sizes_count", Call::Size, 0, 1.0);
        let sum = expect("sizes_sum", Call::Size, 0, 3.0);
        let bucket = expect("sizes_bucket{le=\"+Inf\"}", Call::Size, 0, 1.0);
        if sum != count || bucket != count {
            wrong.push(format!("torn observation: count {count}, sum {sum} x 3, bucket {bucket}"));
        }
        for (name, base) in &self.gauges {
            let more = if name == "level_sum" { 8.0 } else { 0.0 };
            let least = base + more * self.ledger.get(2 * Call::Level as usize + 1) as f64;
            let most = base + more * self.ledger.get(2 * Call::Level as usize) as f64;
            let value = page.get(name).copied().unwrap_or(f64::NAN);
            if !(value == least || value == most) {
                wrong.push(format!("{name}: {value} shown, {least} to {most} set"));
            }
        }
        for name in page.keys().filter(|name| name.starts_with("late_total")) {
            if name != LATE {
                wrong.push(format!("{name} is shown: nobody asked for it"));
            }
        }
    }
}

/// Recovers, drains and reaps as the only living process, and shows the page.
fn settled_page(image: Arena, eyes: &mut Eyes) -> Result<Page, String> {
    let mut successor = Peer::claim(image).ok_or("no place")?;
    if !successor.settle() {
        return Err("the drain lock is not to be had".into());
    }
    let page = successor.page(eyes).ok_or("no page")?;
    // Its place is free again for the heirs.
    successor.die();
    parse(&page)
}

pub type Page = HashMap<String, f64>;

/// A strict reader of text 0.0.4: samples by name and labels.
pub fn parse(text: &str) -> Result<Page, String> {
    let mut page = Page::new();
    let mut families = HashSet::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap_or("").to_string();
            if !families.insert(family.clone()) {
                return Err(format!("two families {family}"));
            }
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').ok_or(format!("no value: {line}"))?;
            let value: f64 = value.parse().map_err(|_| format!("no number: {line}"))?;
            if !name.starts_with(&family) || family.is_empty() {
                return Err(format!("outside of its family: {line}"));
            }
            if !value.is_finite() || value < 0.0 {
                return Err(format!("not a count: {line}"));
            }
            if page.insert(name.to_string(), value).is_some() {
                return Err(format!("twice: {line}"));
            }
        }
    }
    Ok(page)
}
