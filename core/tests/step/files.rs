//! Creation, replacement and joining of a named segment, killed and suspended at every instruction.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use promring::client;
use promring::config::{Config, Listen};
use promring::{aggregator, proof};

use crate::modes::Tally;
use crate::tracer::{traced, Ledger, Tracee};
use crate::world::{hits, late, parse};

/// Removes the directories of this process: for an end without unwinding.
pub fn remove_all() {
    for name in ["stage", "copy"] {
        let _ = fs::remove_dir_all(Folder::path(name));
    }
}

/// A directory of segments on tmpfs that goes when the stepper ends.
pub struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = Folder(Folder::path(name));
        folder.empty();
        folder
    }

    fn path(name: &str) -> PathBuf {
        PathBuf::from(format!("/dev/shm/promring-step-{}-{name}", std::process::id()))
    }

    fn empty(&self) {
        let _ = fs::remove_dir_all(&self.0);
        fs::create_dir(&self.0).expect("a directory on /dev/shm");
    }

    /// What a killed process would leave: names, files, the bytes that are not holes.
    fn copy_from(&self, other: &Folder) {
        self.empty();
        for entry in fs::read_dir(&other.0).unwrap().map(Result::unwrap) {
            let (from, to) = (entry.path(), self.0.join(entry.file_name()));
            let (from, to) = (File::open(from).unwrap(), File::create_new(to).unwrap());
            to.set_len(from.metadata().unwrap().len()).unwrap();
            let mut page = vec![0; 4096];
            for at in data_pages(&from) {
                from.read_exact_at(&mut page, at).unwrap();
                to.write_all_at(&page, at).unwrap();
            }
        }
    }

    /// The file of the segment that stands there.
    fn inode(&self) -> Option<u64> {
        Some(fs::metadata(self.0.join("segment.v1")).ok()?.ino())
    }

    /// Does that segment still stand there, and nobody has begun to retire it?
    fn is_in_use(&self, inode: Option<u64>) -> bool {
        const STATE_AT: u64 = 64; // of the header, see `core/docs/segment.md`
        let mut state = [0; 8];
        let file = File::open(self.0.join("segment.v1"));
        file.is_ok_and(|file| file.read_exact_at(&mut state, STATE_AT).is_ok())
            && self.inode() == inode
            && u64::from_ne_bytes(state) == 1
    }

    /// Differs whenever something has changed that a successor could see: names, sizes, headers.
    fn signature(&self) -> Vec<(String, u64, u64, u64, Vec<u8>)> {
        let names = ["segment.v1", "segment.v1.lock", "segment.v1.new"];
        let look = |name: &&str| {
            let file = File::open(self.0.join(name)).ok()?;
            let facts = file.metadata().ok()?;
            let mut header = vec![0; 4096.min(facts.len() as usize)];
            file.read_exact_at(&mut header, 0).ok()?;
            Some((name.to_string(), facts.ino(), facts.len(), facts.blocks(), header))
        };
        names.iter().filter_map(look).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Offsets of the pages that are not holes.
fn data_pages(file: &File) -> Vec<u64> {
    use std::os::fd::AsRawFd;
    let seek = |from: u64, whence| {
        // SAFETY: no memory is touched.
        u64::try_from(unsafe { libc::lseek(file.as_raw_fd(), from as i64, whence) }).ok()
    };
    let mut pages = Vec::new();
    let mut at = 0;
    while let Some(from) = seek(at, libc::SEEK_DATA) {
        at = seek(from, libc::SEEK_HOLE).unwrap_or(from);
        pages.extend((from / 4096 * 4096..at).step_by(4096));
    }
    pages
}

/// An operation on files: what stands there before, and whether others can begin while it stands still.
pub struct FileOperation {
    pub name: &'static str,
    lay: fn(&Folder),
}

pub const ALL: &[FileOperation] = &[
    FileOperation { name: "create a segment", lay: |_| {} },
    FileOperation {
        name: "start afresh",
        lay: |folder| {
            assert_eq!(count_one_and_look(folder), (1.0, true));
        },
    },
];

fn configure(folder: &Path) {
    client::detach_for_tests();
    client::set_log(|_| {});
    let segment = Some(folder.join("segment"));
    let max_series = 64;
    client::configure(Config { segment, max_series, listen: Listen::Off, ..Config::default() });
}

/// Another process begins, counts one hit and looks: the value shown, exact in any case, and whether
/// it could use the file.
fn count_one_and_look(folder: &Folder) -> (f64, bool) {
    let answer = Ledger::new(2);
    let path = folder.0.clone();
    let child = traced_at_full_speed(move || {
        configure(&path);
        client::family(&hits()).unwrap().series(&[]).unwrap().inc(1.0);
        let page = String::from_utf8(aggregator::scrape("").body).unwrap();
        let value = parse(&page).unwrap()["hits_total"];
        answer.add(0, value as u64);
        answer.add(1, u64::from(client::segment_path().is_some()));
    });
    child.finish();
    (answer.get(0) as f64, answer.get(1) == 1)
}

/// A forked process whose end is waited for.
fn traced_at_full_speed(work: impl FnOnce()) -> Tracee {
    traced(|| work)
}

/// All modes of an operation on files.
pub fn run(operation: &FileOperation, size: usize) -> Tally {
    let (stage, copy) = (Folder::new("stage"), Folder::new("copy"));
    let mut tally = Tally::default();
    let begin = || {
        stage.empty();
        (operation.lay)(&stage);
        let path = stage.0.clone();
        traced(move || {
            configure(&path);
            client::attach
        })
    };
    let mut child = begin();
    let (mut last, mut changes) = (Vec::new(), Vec::new());
    loop {
        let now = stage.signature();
        if tally.instructions == 0 || now != last {
            last = now;
            copy.copy_from(&stage);
            let at = tally.instructions;
            judge(&mut tally, "killed", at, &copy);
            changes.push(tally.instructions);
        }
        if !child.step() {
            break;
        }
        tally.instructions += 1;
    }
    tally.states = changes.len();
    for at in &changes {
        let mut child = begin();
        if child.steps(*at) {
            child.kill();
            tally.kills += 1;
            judge(&mut tally, "SIGKILL", *at, &stage);
        }
    }
    // Each of these may wait for its patience of two seconds and then counts without the file.
    for at in changes.iter().step_by((changes.len() / (3 * size)).max(1)) {
        let mut child = begin();
        if child.steps(*at) {
            tally.suspensions += 1;
            let (shown, _) = count_one_and_look(&stage); // it gives up the file after its patience
            if shown != 1.0 {
                tally.add(&format!("suspended at {at}"), vec![format!("{shown} shown of 1")]);
            }
            child.finish();
        }
    }
    tally
}

/// After a death: the next process counts from zero, and no half written file stays.
fn judge(tally: &mut Tally, how: &str, at: usize, folder: &Folder) {
    let (shown, in_file) = count_one_and_look(folder);
    if shown != 1.0 || !in_file {
        let what = format!("{shown} shown of 1; in the file: {in_file}");
        tally.add(&format!("{how} at {at}"), vec![what]);
    }
    if folder.0.join("segment.v1.new").exists() {
        tally.add(&format!("{how} at {at}"), vec!["half a file is left behind".into()]);
    }
}

/// A child that was forked before the segment was abandoned counts for the first time, while another
/// process starts a new one: both are shown on one page.
pub fn claim_while_another_starts(size: usize) -> Tally {
    let stage = Folder::new("stage");
    let mut tally = Tally::default();
    for n in (0..).step_by((41 / size).max(1)) {
        stage.empty();
        let path = stage.0.clone();
        let mut child = traced(|| {
            configure(&path);
            let series = client::family(&hits()).unwrap().series(&[]).unwrap();
            proof::forget_attachment();
            move || assert!(series.inc(1.0))
        });
        if !child.steps(n) {
            tally.instructions = n;
            return tally;
        }
        tally.suspensions += 1;
        let flags = Ledger::new(2);
        let other = traced(|| {
            configure(&path);
            // In the new segment every id is another one.
            client::family(&late()).unwrap().series(&["x"]).unwrap().inc(1.0);
            client::family(&hits()).unwrap().series(&[]).unwrap().inc(1.0);
            move || {
                let page = String::from_utf8(aggregator::scrape("").body).unwrap();
                flags.add(0, parse(&page).unwrap()["hits_total"] as u64);
            }
        });
        child.finish();
        other.finish();
        if flags.get(0) != 2 {
            let shown = flags.get(0);
            tally.add(&format!("suspended at {n}"), vec![format!("{shown} shown of 2")]);
        }
    }
    tally
}

/// The other way round: the starting process is suspended, above all around the store that retires the
/// old segment, while one that was forked before counts for the first time.
pub fn start_while_another_claims(size: usize) -> Tally {
    let stage = Folder::new("stage");
    let mut tally = Tally::default();
    let (retired_at, end) = steps_until_retired(&stage);
    tally.instructions = end;
    let near = (retired_at.saturating_sub(250)..retired_at + 50).step_by(4);
    for n in near.chain((0..end).step_by((601 / size).max(1))) {
        let turns = Ledger::new(2);
        let mut other = forked_before(&stage, turns);
        let old = stage.inode();
        let mut child = starting(&stage, turns);
        child.steps(n);
        tally.suspensions += 1;
        other.run_on();
        // Before the old segment is retired nothing keeps it from counting; after that it has to wait.
        while turns.get(0) == 0 && stage.is_in_use(old) {
            std::thread::yield_now();
        }
        child.run_on();
        while turns.get(0) < 2 {
            std::thread::yield_now();
        }
        let shown = look(&stage.0);
        turns.add(1, 1);
        child.finish();
        other.finish();
        if shown != 2.0 {
            tally.add(&format!("suspended at {n}"), vec![format!("{shown} shown of 2")]);
        }
    }
    tally
}

/// A process of an app that has ended, about to count for the first time.
fn forked_before(stage: &Folder, turns: Ledger) -> Tracee {
    stage.empty();
    let path = stage.0.clone();
    traced(move || {
        configure(&path);
        let series = client::family(&hits()).unwrap().series(&[]).unwrap();
        proof::forget_attachment();
        move || {
            assert!(series.inc(1.0));
            counted_and_live_on(turns);
        }
    })
}

/// A process of the app's next life.
fn starting(stage: &Folder, turns: Ledger) -> Tracee {
    let path = stage.0.clone();
    traced(move || {
        configure(&path);
        let spec = hits();
        move || {
            client::family(&spec).unwrap().series(&[]).unwrap().inc(1.0);
            counted_and_live_on(turns);
        }
    })
}

/// Instructions of a starting process until the old segment's header changes, and until its count.
fn steps_until_retired(stage: &Folder) -> (usize, usize) {
    let turns = Ledger::new(2);
    let _other = forked_before(stage, turns);
    let mut child = starting(stage, turns);
    let before = stage.signature();
    let (mut n, mut retired_at) = (0, None);
    while turns.get(0) == 0 && child.step() {
        n += 1;
        if retired_at.is_none() && stage.signature() != before {
            retired_at = Some(n);
        }
    }
    (retired_at.expect("a segment that is retired"), n)
}

/// Its call has returned; it lives as long as somebody looks.
fn counted_and_live_on(turns: Ledger) {
    turns.add(0, 1);
    while turns.get(1) == 0 {
        std::thread::yield_now();
    }
}

/// What a further process shows.
fn look(path: &Path) -> f64 {
    let answer = Ledger::new(1);
    let looker = traced_at_full_speed(|| {
        configure(path);
        let page = String::from_utf8(aggregator::scrape("").body).unwrap();
        answer.add(0, parse(&page).unwrap().get("hits_total").copied().unwrap_or(0.0) as u64);
    });
    looker.finish();
    answer.get(0) as f64
}
