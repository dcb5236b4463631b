//! A segment file that cannot be used: the app counts on, one line says file, cause and remedy, the file stays as it was.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;

use std::fs;
use std::os::unix::fs::{symlink, FileExt, PermissionsExt};
use std::path::Path;
use std::sync::Mutex;

use forks::{fork, Scratch};
use metrics::{counter, page, sample};
use promring::client;
use promring::config::{Config, Listen};

static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn note(line: &str) {
    LOGGED.lock().unwrap().push(line.to_string());
}

/// Counts in a process that finds the file at `path` in the way.
fn counts_all_the_same(scratch: &Scratch, cause: &str, remedy: &str) {
    client::set_log(note);
    scratch.configure();
    let series = counter("visits_total", "").series(&[]).unwrap();
    let before = sample(&page(), "visits_total").unwrap_or(0.0);
    (0..5_000).for_each(|_| assert!(series.inc(1.0)));
    assert_eq!(sample(&page(), "visits_total"), Some(before + 5_000.0));
    let logged = LOGGED.lock().unwrap();
    assert_eq!(logged.len(), 1, "{logged:?}");
    let file = scratch.path().join("segment.v1");
    for word in [file.to_str().unwrap(), cause, remedy] {
        assert!(logged[0].contains(word), "{word:?} is not in: {}", logged[0]);
    }
}

/// A whole segment with something counted in it, at rest.
fn good_segment(scratch: &Scratch) -> Vec<u8> {
    assert!(fork(|| {
        scratch.configure();
        counter("visits_total", "").series(&[]).unwrap().inc(1.0);
    })
    .join());
    // Only the head is read: the file is a hole of hundreds of megabytes.
    let mut head = vec![0; 1 << 20];
    let file = fs::File::open(scratch.path().join("segment.v1")).unwrap();
    file.read_exact_at(&mut head, 0).unwrap();
    head
}

/// `damage` is done to the path where the data file should be; `cause` and `remedy` are to be logged.
fn case(name: &str, damage: impl Fn(&Path), cause: &str, remedy: &str) {
    let scratch = Scratch::new(&format!("bad-{name}"));
    let file = scratch.path().join("segment.v1");
    damage(&file);
    let before = fs::read(&file).ok();
    assert!(fork(|| counts_all_the_same(&scratch, cause, remedy)).join(), "{name}");
    assert_eq!(fs::read(&file).ok(), before, "{name}: the file was changed");
}

const LEFT: &str = "it was left untouched: move it away or delete it";

#[test]
fn a_file_that_is_no_segment() {
    let noise = |n: usize| (0..n).map(|i| (i * i * 37 + i / 7) as u8).collect::<Vec<u8>>();
    case("noise", |file| fs::write(file, noise(100_000)).unwrap(), "wrong magic", LEFT);
    case("short", |file| fs::write(file, b"promring").unwrap(), "too short", LEFT);
    case("empty", |file| fs::write(file, b"").unwrap(), "too short", LEFT);
}

#[test]
fn a_segment_of_another_layout_or_cut_short() {
    let good = Scratch::new("good");
    let image = good_segment(&good);
    let other_version = |file: &Path| {
        let mut image = image.clone();
        image[8] += 1;
        fs::write(file, image).unwrap();
    };
    case("version", other_version, "has layout version 2", LEFT);
    case("cut", |file| fs::write(file, &image).unwrap(), "truncated", LEFT);
    let moved_region = |file: &Path| {
        let mut image = image.clone();
        let length = u64::from_ne_bytes(image[24..32].try_into().unwrap());
        image[256 + 9] += 1; // the length of the first region
        fs::write(file, image).unwrap();
        fs::File::options().write(true).open(file).unwrap().set_len(length).unwrap();
    };
    let scratch = Scratch::new("bad-regions");
    let file = scratch.path().join("segment.v1");
    moved_region(&file);
    assert!(fork(|| counts_all_the_same(&scratch, "damaged", LEFT)).join());
}

#[test]
fn a_path_that_is_no_file() {
    case("directory", |file| fs::create_dir(file).unwrap(), "Is a directory", "it is a directory");
    let link = |file: &Path| {
        let target = file.with_file_name("target");
        fs::write(&target, b"somebody else's").unwrap();
        symlink(target, file).unwrap();
    };
    case("link", link, "symbolic", "symbolic link, which is never followed");
}

#[test]
fn a_file_of_another_owner() {
    // SAFETY: integers only. The test needs root to give a file away; without it, the file of root's is refused.
    let root = unsafe { libc::geteuid() } == 0;
    assert!(root, "run the tests as root: only root can give a file away");
    let give_away = |file: &Path| {
        fs::write(file, b"somebody else's").unwrap();
        std::os::unix::fs::chown(file, Some(65_534), None).unwrap();
    };
    case("owner", give_away, "belongs to uid 65534", "run both under one user");
}

#[test]
fn a_directory_that_cannot_be_written() {
    let scratch = Scratch::new("bad-directory");
    let directory = scratch.path().join("read-only");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o555)).unwrap();
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let outcome = fork(|| {
        // SAFETY: integers only: root may write anywhere, nobody may not.
        unsafe { libc::seteuid(65_534) };
        client::set_log(note);
        client::detach_for_tests();
        let segment = Some(directory.join("segment"));
        client::configure(Config { segment, listen: Listen::Off, ..Config::default() });
        let series = counter("visits_total", "").series(&[]).unwrap();
        assert!(series.inc(1.0));
        assert_eq!(sample(&page(), "visits_total"), Some(1.0));
        let logged = LOGGED.lock().unwrap();
        assert_eq!(logged.len(), 1, "{logged:?}");
        assert!(logged[0].contains("read-only/segment.v1: Permission denied"), "{logged:?}");
        assert!(logged[0].contains("give this user write permission there"), "{logged:?}");
    });
    assert!(outcome.join());
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
}
