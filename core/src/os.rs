//! Every libc call but mmap: byte locks, process identity, fork detection, clocks, files, signals.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::sync::{AtomicI32, AtomicRef, AtomicU64, Ordering};

// ---------------------------------------------------------------------------------------------
// One value per process, gone in a forked child

/// What may lie in a page that the kernel zeroes under it.
///
/// # Safety
/// Zero bytes are a valid value, the empty one. All of it is atomics. It fits into a page.
pub(crate) unsafe trait EmptyWhenZero: Sync {}

// SAFETY: one pointer for which null is the empty value.
unsafe impl<T: Sync> EmptyWhenZero for AtomicRef<T> {}

/// An empty `T` in a page of its own, for the life of the process, which the kernel wipes in forked children
/// (`MADV_WIPEONFORK`, which also sees raw `clone`). Where that advice is unknown (gVisor) the owner's
/// `pthread_atfork` handler has to empty it.
pub(crate) fn wiped_on_fork<T: EmptyWhenZero>() -> &'static T {
    const { assert!(size_of::<T>() <= 4096 && align_of::<T>() <= 4096) }
    // SAFETY: an anonymous mapping with no address wish has no preconditions.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        // No memory for one page: fall back to the heap; the atfork handler still empties it.
        return on_heap();
    }
    // SAFETY: `page` is ours, 4096 bytes; failing is fine, the atfork handler covers it.
    unsafe { libc::madvise(page, 4096, libc::MADV_WIPEONFORK) };
    // At the end of the page: processors compare the low 12 bits of addresses first to see whether a load wants
    // what a store has just left, and the segment's busy words stand at the starts of its pages.
    let at = 4096 - size_of::<T>().next_multiple_of(align_of::<T>());
    // SAFETY: within the page, aligned as it is a page minus a multiple of the alignment; zeroed bytes, never
    // unmapped, nobody else has them; zero (now, and after a wipe) is a valid value, and all of it is atomics,
    // so the kernel's wipe races with nothing.
    unsafe { &*page.byte_add(at).cast::<T>() }
}

/// An empty `T` that forked children inherit as it is.
pub(crate) fn on_heap<T: EmptyWhenZero>() -> &'static T {
    // SAFETY: zero bytes are a valid value of such a type.
    Box::leak(Box::new(unsafe { std::mem::zeroed() }))
}

/// A pointer to a leaked `T` that a forked child finds empty. Reading costs two loads and no system call.
pub(crate) struct PerProcess<T: 'static> {
    page: AtomicRef<AtomicRef<T>>,
}

impl<T: Sync> PerProcess<T> {
    /// Empty until [`PerProcess::set`].
    pub(crate) const fn new() -> Self {
        PerProcess { page: AtomicRef::new() }
    }

    /// What this process has set.
    #[inline]
    pub(crate) fn get(&self) -> Option<&'static T> {
        self.page.get()?.get()
    }

    /// Sets it for this process.
    pub(crate) fn set(&self, value: &'static T) {
        self.prepare().set(value);
    }

    /// Its page; made before a fork, it is there in each child.
    pub(crate) fn prepare(&self) -> &'static AtomicRef<T> {
        self.page.get().unwrap_or_else(|| {
            let page = wiped_on_fork();
            self.page.set(page); // two threads at once: the later page stays, the other is idle memory
            page
        })
    }

    /// Empties it: the atfork child handler, and a worker that lost its place.
    pub(crate) fn clear(&self) {
        if let Some(page) = self.page.get() {
            page.clear(); // one plain store: safe in a fork handler
        }
    }
}

/// Runs `handler` in every child made by `fork` (Ruby's, Python's, uWSGI's: all go through libc).
pub(crate) fn on_fork_child(handler: extern "C" fn()) {
    // SAFETY: `handler` is a function of this library and only stores to atomics; glibc forgets it
    // when the library is unloaded. ENOMEM is the only error, and the wiped page covers it.
    unsafe { libc::pthread_atfork(None, None, Some(cast_handler(handler))) };
}

fn cast_handler(handler: extern "C" fn()) -> unsafe extern "C" fn() {
    handler
}

// ---------------------------------------------------------------------------------------------
// Files that stay open

/// A file that this process needs for the rest of its life.
///
/// An app may close all descriptors (daemonising) and put a file of its own under our number. So the
/// number is checked before each use, and the file opened anew if it has a name.
#[derive(Debug)]
pub(crate) struct KeptFile {
    fd: AtomicI32,
    inode: (u64, u64),
    name: Option<PathBuf>,
}

impl KeptFile {
    /// Keeps an open file; `name` is where it can be found again.
    pub(crate) fn new(file: File, name: Option<&Path>) -> io::Result<KeptFile> {
        let inode = inode_of(file.as_raw_fd())?;
        let fd = AtomicI32::new(file.as_raw_fd());
        std::mem::forget(file); // see above
        Ok(KeptFile { fd, inode, name: name.map(Path::to_path_buf) })
    }

    /// Its descriptor: certainly this file's.
    pub(crate) fn descriptor(&self) -> io::Result<RawFd> {
        let fd = self.fd.load(Ordering::Relaxed); // a number, nothing else to order
        if inode_of(fd).is_ok_and(|inode| inode == self.inode) {
            return Ok(fd);
        }
        let lost = || io::Error::other("the app closed our descriptor, and the file is gone");
        let name = self.name.as_ref().ok_or_else(lost)?;
        let again = open_nofollow(name, false)?;
        if inode_of(again.as_raw_fd())? != self.inode {
            return Err(lost()); // another file: closing it drops no lock of ours
        }
        let fd = again.as_raw_fd();
        std::mem::forget(again);
        self.fd.store(fd, Ordering::Relaxed); // as above
        Ok(fd)
    }
}

impl Drop for KeptFile {
    fn drop(&mut self) {
        let fd = self.fd.load(Ordering::Relaxed); // as in `descriptor`
        if inode_of(fd).is_ok_and(|inode| inode == self.inode) {
            // SAFETY: closing a number touches no memory, and it is still our file's.
            unsafe { libc::close(fd) };
        }
    }
}

/// Opens a file read-write, never through a symbolic link; `create` makes it (0600) if it is missing.
pub(crate) fn open_nofollow(path: &Path, create: bool) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open(path)
}

// ---------------------------------------------------------------------------------------------
// Byte locks

/// A file whose bytes are locks: the kernel's word on who lives.
///
/// `fcntl` record locks belong to a process, are freed at its death (zombies included), are not
/// inherited by children, and are right across pid namespaces. Closing *any* descriptor of the same
/// file drops all of a process's locks, so ours is never closed, not even with its segment.
#[derive(Debug)]
pub(crate) struct LockFile(ManuallyDrop<KeptFile>);

impl LockFile {
    /// Takes the file over for the rest of the process's life.
    pub(crate) fn new(file: File, name: Option<&Path>) -> io::Result<LockFile> {
        Ok(LockFile(ManuallyDrop::new(KeptFile::new(file, name)?)))
    }

    /// Its number, for whoever closes all others.
    pub(crate) fn descriptor(&self) -> io::Result<RawFd> {
        self.0.descriptor()
    }

    /// Takes byte `at` for this process; false when another one has it.
    pub(crate) fn try_lock(&self, at: u64) -> io::Result<bool> {
        self.set(at, libc::F_WRLCK)
    }

    /// Takes byte `at` together with others who share it.
    pub(crate) fn try_share(&self, at: u64) -> io::Result<bool> {
        self.set(at, libc::F_RDLCK)
    }

    /// Gives byte `at` back.
    pub(crate) fn unlock(&self, at: u64) {
        let _ = self.set(at, libc::F_UNLCK);
    }

    /// Does *another* process hold byte `at`? Its pid in our namespace, 0 when it has none there.
    pub(crate) fn holder(&self, at: u64) -> io::Result<Option<u32>> {
        let fd = self.descriptor()?;
        let mut lock = record(at, libc::F_WRLCK);
        // SAFETY: F_GETLK wants a pointer to a valid flock, which it fills.
        if unsafe { libc::fcntl(fd, libc::F_GETLK, &raw mut lock) } == -1 {
            return Err(io::Error::last_os_error());
        }
        let held = i32::from(lock.l_type) != libc::F_UNLCK;
        Ok(held.then_some(lock.l_pid.max(0) as u32))
    }

    fn set(&self, at: u64, kind: i32) -> io::Result<bool> {
        let fd = self.descriptor()?;
        let lock = record(at, kind);
        // SAFETY: F_SETLK wants a pointer to a valid flock and never waits.
        if unsafe { libc::fcntl(fd, libc::F_SETLK, &raw const lock) } != -1 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EACCES) => Ok(false),
            _ => Err(error),
        }
    }
}

fn record(at: u64, kind: i32) -> libc::flock {
    // SAFETY: flock is a plain C struct for which zero bytes are a valid value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = at as libc::off_t;
    lock.l_len = 1;
    lock
}

fn inode_of(fd: RawFd) -> io::Result<(u64, u64)> {
    let stat = stat_fd(fd)?;
    Ok((stat.st_dev as u64, stat.st_ino as u64))
}

fn stat_fd(fd: RawFd) -> io::Result<libc::stat> {
    // SAFETY: stat is a plain C struct for which zero bytes are a valid value.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is valid for writing; a bad descriptor is an error, not undefined.
    if unsafe { libc::fstat(fd, &raw mut stat) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(stat)
}

// ---------------------------------------------------------------------------------------------
// Files

/// What matters about an open file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileFacts {
    /// Its owner.
    pub uid: u32,
    /// Its length.
    pub bytes: u64,
    /// True for a regular file.
    pub regular: bool,
    /// Device and inode.
    pub inode: (u64, u64),
}

/// Looks at an open file.
pub(crate) fn facts(fd: RawFd) -> io::Result<FileFacts> {
    let stat = stat_fd(fd)?;
    Ok(FileFacts {
        uid: stat.st_uid,
        bytes: stat.st_size as u64,
        regular: stat.st_mode & libc::S_IFMT == libc::S_IFREG,
        inode: (stat.st_dev as u64, stat.st_ino as u64),
    })
}

/// Reserves the pages of `[from, from + bytes)`: afterwards writing there cannot meet a full file
/// system (SIGBUS). ENOSPC says that it is full.
pub(crate) fn reserve(fd: RawFd, from: u64, bytes: u64) -> io::Result<()> {
    loop {
        // SAFETY: no memory is touched; a bad descriptor or range is an error.
        let failed = unsafe { libc::posix_fallocate(fd, from as i64, bytes as i64) };
        match failed {
            0 => return Ok(()),
            libc::EINTR => {}
            code => return Err(io::Error::from_raw_os_error(code)),
        }
    }
}

/// An unnamed file in memory, inherited by forks; for when no named file can be had.
pub(crate) fn memory_file(name: &str) -> io::Result<File> {
    let name = CString::new(name).map_err(io::Error::other)?;
    // SAFETY: `name` is a NUL-terminated string that outlives the call.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if fd == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just made and is owned by nobody else.
    let file = unsafe { File::from_raw_fd(fd) };
    // SAFETY: fchmod touches no memory. A memfd is 0777 at birth.
    unsafe { libc::fchmod(fd, 0o600) };
    Ok(file)
}

/// Is the directory's file system one that lives in memory (tmpfs, ramfs)?
pub(crate) fn is_memory_backed(path: &Path) -> io::Result<bool> {
    const TMPFS: i64 = 0x0102_1994;
    const RAMFS: i64 = 0x8584_58f6;
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    // SAFETY: statfs is a plain C struct for which zero bytes are a valid value.
    let mut facts: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` is NUL-terminated, `facts` valid for writing.
    if unsafe { libc::statfs(path.as_ptr(), &raw mut facts) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(matches!(facts.f_type as i64, TMPFS | RAMFS))
}

// ---------------------------------------------------------------------------------------------
// Process identity and clocks

/// Effective user id.
pub(crate) fn uid() -> u32 {
    // SAFETY: cannot fail.
    unsafe { libc::geteuid() }
}

/// This process's pid in its own namespace. Never on the hot path: a system call.
pub(crate) fn pid() -> u32 {
    std::process::id()
}

/// Start time of a running process (clock ticks since boot); None when it is gone or a zombie.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    stat_field(pid, 22)?.parse().ok()
}

/// The parent of a running process.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    stat_field(pid, 4)?.parse().ok()
}

/// A field of a process's `stat` by its number in proc(5), 4 or above.
fn stat_field(pid: u32, number: usize) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name, in parentheses, may hold anything: fields are counted behind its end.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(number - 4).map(str::to_string)
}

/// Inode of this process's pid namespace, if it is known; forked children inherit it.
static NAMESPACE: AtomicU64 = AtomicU64::new(0);

/// Inode of this process's pid namespace; 0 when /proc does not tell. Asked once: it takes longer than all the
/// rest of a worker's claim.
pub(crate) fn pid_namespace() -> u64 {
    use std::os::unix::fs::MetadataExt;
    forget_namespace_if_new();
    let known = NAMESPACE.load(Ordering::Relaxed); // a number, nothing else to order
    if known != 0 {
        return known;
    }
    let inode = std::fs::metadata("/proc/self/ns/pid").map_or(0, |meta| meta.ino());
    NAMESPACE.store(inode, Ordering::Relaxed); // as above
    inode
}

/// A process stays in its namespace, and its children are in it, too – but for those forked after `unshare` or
/// `setns`, which see no parent. For a fork handler: one system call, one store.
pub(crate) fn forget_namespace_if_new() {
    // SAFETY: cannot fail.
    if unsafe { libc::getppid() } == 0 {
        NAMESPACE.store(0, Ordering::Relaxed); // as above
    }
}

/// Nanoseconds since boot; 0 when the clock does not tell.
pub(crate) fn boot_ns() -> u64 {
    clock(libc::CLOCK_BOOTTIME)
}

/// Nanoseconds since boot as [`start_time`] has them: in clock ticks.
pub(crate) fn boot_ticks(ns: u64) -> u64 {
    (u128::from(ns) * ticks_per_second() as u128 / 1_000_000_000) as u64
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn unix_ns() -> u64 {
    clock(libc::CLOCK_REALTIME)
}

/// Nanoseconds of a clock that never jumps; for waits and durations only.
pub(crate) fn monotonic_ns() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

fn clock(which: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writing; these clocks exist on every Linux.
    unsafe { libc::clock_gettime(which, &raw mut time) };
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// User and system processor time of this process.
pub(crate) fn cpu_ns() -> u64 {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// What this process takes from the machine; None where /proc does not tell.
#[derive(Debug, Default)]
pub(crate) struct ProcessFacts {
    pub virtual_bytes: Option<f64>,
    pub resident_bytes: Option<f64>,
    pub open_descriptors: Option<f64>,
    pub max_descriptors: Option<f64>,
    pub start_seconds: Option<f64>,
}

/// Looks at this process.
pub(crate) fn process_facts() -> ProcessFacts {
    let mut facts = ProcessFacts { max_descriptors: max_descriptors(), ..Default::default() };
    if let Ok(pages) = std::fs::read_to_string("/proc/self/statm") {
        let mut bytes =
            pages.split_whitespace().map(|n| Some(n.parse::<f64>().ok()? * page_bytes()));
        facts.virtual_bytes = bytes.next().flatten();
        facts.resident_bytes = bytes.next().flatten();
    }
    // The one that reads the directory is not counted.
    facts.open_descriptors =
        std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64 - 1.0);
    facts.start_seconds = start_time(pid()).and_then(|ticks| {
        let text = std::fs::read_to_string("/proc/stat").ok()?;
        let boot: f64 = text.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
        Some(boot + ticks as f64 / ticks_per_second())
    });
    facts
}

fn page_bytes() -> f64 {
    // SAFETY: touches no memory.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as f64 }
}

fn ticks_per_second() -> f64 {
    // SAFETY: touches no memory.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) as f64 }
}

fn max_descriptors() -> Option<f64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for writing.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    (failed == 0).then_some(limit.rlim_cur as f64)
}

// ---------------------------------------------------------------------------------------------
// The aggregator's process

/// Which side of a fork this is.
pub(crate) enum Forked {
    /// The caller, with the child's pid.
    Parent(u32),
    /// The child: the only thread of its process.
    Child,
}

/// Forks. The child must stay in this library and leave by [`exit_now`]: the interpreter that was
/// copied along with it must not run again.
pub(crate) fn fork() -> io::Result<Forked> {
    // SAFETY: the child runs only this library's code, on the forking thread; malloc and stdio are
    // made usable by libc's own fork handlers; no lock of ours can be held, the caller holds none.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(pid as u32)),
    }
}

/// Ends the process without running the interpreter's exit handlers.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: does not return and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Makes a forked child a stranger to the server: every signal back to its default (so a handler of
/// the interpreter never runs), terminal and job-control signals ignored, own session.
pub(crate) fn become_background_process() {
    // SAFETY: `signal` with SIG_DFL or SIG_IGN installs no code; sigset calls write to a local set;
    // setsid cannot harm a process that was just forked.
    unsafe {
        for number in 1..=31 {
            libc::signal(number, libc::SIG_DFL);
        }
        for number in [
            libc::SIGINT,
            libc::SIGHUP,
            libc::SIGQUIT,
            libc::SIGPIPE,
            libc::SIGUSR1,
            libc::SIGUSR2,
            libc::SIGTTIN,
            libc::SIGTTOU,
            libc::SIGTSTP,
            libc::SIGWINCH,
            libc::SIGALRM,
        ] {
            libc::signal(number, libc::SIG_IGN);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        libc::setsid();
    }
}

/// Lets a signal do what it does by default.
pub(crate) fn default_signal(number: i32) {
    // SAFETY: SIG_DFL installs no code.
    unsafe { libc::signal(number, libc::SIG_DFL) };
}

/// Names the process in `ps` (15 characters).
pub(crate) fn set_process_name(name: &str) {
    if let Ok(name) = CString::new(name) {
        // SAFETY: PR_SET_NAME reads a NUL-terminated string.
        unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    }
}

/// Closes every descriptor above stderr but `keep`: the child holds none of the server's sockets.
pub(crate) fn close_all_but(keep: &[RawFd]) {
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")
        .map(|dir| dir.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect())
        .unwrap_or_else(|_| (3..1024).collect());
    for fd in open {
        if fd > 2 && !keep.contains(&fd) {
            // SAFETY: closing a descriptor number touches no memory; nothing of the interpreter runs
            // in this process any more, so nobody misses it.
            unsafe { libc::close(fd) };
        }
    }
}

/// Sends a signal to a process that this one started.
pub(crate) fn kill(pid: u32, signal: i32) {
    // SAFETY: kill touches no memory.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// Waits for a child without blocking; true when it is gone.
pub(crate) fn reap_child(pid: u32) -> bool {
    let mut status = 0;
    // SAFETY: `status` is valid for writing.
    let got = unsafe { libc::waitpid(pid as libc::pid_t, &raw mut status, libc::WNOHANG) };
    got == pid as libc::pid_t || got == -1
}

/// Waits for a child that ends at once (the middle one of a double fork).
pub(crate) fn wait_child(pid: u32) {
    let mut status = 0;
    // SAFETY: `status` is valid for writing; EINTR is retried.
    while unsafe { libc::waitpid(pid as libc::pid_t, &raw mut status, 0) } == -1
        && io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
    {}
}

/// One line on stderr in one write, so lines of several processes do not mix.
pub(crate) fn write_stderr(line: &str) {
    let text = format!("promring: {line}\n");
    // SAFETY: the buffer is valid for its length. A closed stderr is nobody's problem.
    unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// The inode that /proc tells now.
    fn told() -> u64 {
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata("/proc/self/ns/pid").unwrap())
    }

    fn in_child(work: impl FnOnce() -> i32) -> i32 {
        let Forked::Parent(pid) = fork().unwrap() else { exit_now(work()) };
        let mut status = 0;
        // SAFETY: `status` is valid for writing.
        while unsafe { libc::waitpid(pid as libc::pid_t, &raw mut status, 0) } == -1 {}
        assert!(libc::WIFEXITED(status), "status {status}");
        libc::WEXITSTATUS(status)
    }

    #[test]
    fn a_child_in_another_pid_namespace_does_not_take_its_parents_for_its_own() {
        const REFUSED: i32 = 77;
        assert_eq!(pid_namespace(), told());
        let status = in_child(|| {
            // SAFETY: touches no memory; this process has one thread.
            if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWPID) } == -1 {
                return REFUSED;
            }
            let outside = pid_namespace();
            in_child(|| i32::from(pid_namespace() != told() || pid_namespace() == outside))
        });
        match status {
            REFUSED => eprintln!("not shown: the system refuses a namespace"),
            _ => assert_eq!(status, 0),
        }
    }
}
