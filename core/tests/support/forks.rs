//! Real forked processes for tests: run a closure in a child, kill it, wait for it; nothing is left behind.

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A child process of the test.
pub struct Child(libc::pid_t);

/// Runs `work` in a forked child, which then leaves without the test harness's exit handlers.
#[allow(dead_code)] // not every test file uses every helper
pub fn fork(work: impl FnOnce()) -> Child {
    // SAFETY: the child runs only `work` and leaves by _exit; the harness's threads do not exist there.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            // SAFETY: prctl with integers only: a child of a test that dies does not outlive it.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            // SAFETY: does not return.
            unsafe { libc::_exit(i32::from(done.is_err())) }
        }
        pid => Child(pid),
    }
}

#[allow(dead_code)] // as above
impl Child {
    /// A child that was started otherwise; whoever started it must not wait for it.
    pub fn of_pid(pid: u32) -> Child {
        Child(pid as libc::pid_t)
    }

    /// Its pid.
    pub fn pid(&self) -> libc::pid_t {
        self.0
    }

    /// Sends a signal.
    pub fn signal(&self, number: i32) {
        // SAFETY: no memory is touched; the pid is our child's, which was not waited for yet.
        unsafe { libc::kill(self.0, number) };
    }

    /// Waits for its end; true when it left with status 0.
    pub fn join(self) -> bool {
        let mut status = 0;
        // SAFETY: `status` is valid for writing.
        while unsafe { libc::waitpid(self.0, &raw mut status, 0) } == -1 {}
        std::mem::forget(self);
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
    }

    /// SIGKILL, then waits.
    pub fn kill(self) {
        self.signal(libc::SIGKILL);
        self.join();
    }
}

impl Drop for Child {
    /// A failing test leaves no process behind.
    fn drop(&mut self) {
        self.signal(libc::SIGKILL);
        let mut status = 0;
        // SAFETY: as in `join`.
        unsafe { libc::waitpid(self.0, &raw mut status, 0) };
    }
}

/// Eight workers that have begun and stay: with so many, one that finds no place free looks after the dead.
#[allow(dead_code)] // as above
pub fn crowd(begin: impl Fn()) -> Vec<Child> {
    let begun = Ledger::new(8);
    let stay = |seat| {
        begin();
        begun.at(seat).store(1, std::sync::atomic::Ordering::SeqCst);
        std::thread::park(); // killed here
    };
    let crowd = (0..8).map(|seat| fork(|| stay(seat))).collect();
    eventually("a crowd", || (begun.sum(0, 8) == 8).then_some(()));
    crowd
}

/// A watchdog, not a measurement: the conditions that tests wait for come true in milliseconds.
#[allow(dead_code)] // as above
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        assert!(Instant::now() < end, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A directory on tmpfs that goes when the test ends; `segment()` names a segment in it.
pub struct Scratch(PathBuf);

#[allow(dead_code)] // as above
impl Scratch {
    /// A new one.
    pub fn new(name: &str) -> Scratch {
        let path = PathBuf::from(format!("/dev/shm/promring-test-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a directory on /dev/shm");
        Scratch(path)
    }

    /// The directory.
    pub fn path(&self) -> &std::path::Path {
        &self.0
    }

    /// Configures this process for a segment in it.
    pub fn configure(&self) {
        self.configure_with(&[]);
    }

    /// The same with settings, by their names.
    pub fn configure_with(&self, settings: &[(&str, &str)]) {
        promring::client::detach_for_tests();
        let mut config = promring::config::Config::default();
        config.segment = Some(self.0.join("segment"));
        config.listen = promring::config::Listen::Off;
        for (name, value) in settings {
            config.set(name, value).expect("a setting");
        }
        assert!(promring::client::configure(config));
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Counters in memory shared between the test and its children: what each child has acknowledged.
pub struct Ledger {
    words: *mut std::sync::atomic::AtomicU64,
    n: usize,
}

#[allow(dead_code)] // as above
impl Ledger {
    /// `n` zeroed words.
    pub fn new(n: usize) -> Ledger {
        Self::map(n, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)
    }

    /// The same in a file, for workers that are no forks of the test.
    pub fn in_file(path: &std::path::Path, n: usize) -> Ledger {
        let mut options = std::fs::File::options();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.open(path).expect("a file for the ledger");
        file.set_len(n as u64 * 8).expect("room for the ledger");
        Self::map(n, libc::MAP_SHARED, std::os::fd::AsRawFd::as_raw_fd(&file))
    }

    fn map(n: usize, flags: i32, fd: i32) -> Ledger {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a mapping without an address wish touches nothing; the descriptor is open or unused.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), n * 8, access, flags, fd, 0) };
        assert!(memory != libc::MAP_FAILED);
        Ledger { words: memory.cast(), n }
    }

    /// One word.
    pub fn at(&self, i: usize) -> &std::sync::atomic::AtomicU64 {
        assert!(i < self.n);
        // SAFETY: in bounds, aligned, zeroed, mapped until the process ends; atomics may be shared.
        unsafe { &*self.words.add(i) }
    }

    /// Sum of words `from..to`.
    pub fn sum(&self, from: usize, to: usize) -> u64 {
        (from..to).map(|i| self.at(i).load(std::sync::atomic::Ordering::SeqCst)).sum()
    }
}
