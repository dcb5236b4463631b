//! A child that is traced (ptrace), by instructions or by system calls, and memory it shares with its tracer.
#![allow(dead_code)] // the stepper and the one who fails system calls each use a part

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// A forked child that stands before its first traced instruction. It obeys the thread that made it.
pub struct Tracee {
    pid: libc::pid_t,
    alive: bool,
    running: bool,
}

/// Where a traced child stands after it was let go on.
#[derive(PartialEq)]
enum Stop {
    /// It stands as asked.
    Trap,
    /// It has left; true: with status 0.
    Left(bool),
}

/// Forks; the child runs `prepare` at full speed, then stops, and what `prepare` returned is traced.
pub fn traced<F: FnOnce()>(prepare: impl FnOnce() -> F) -> Tracee {
    // SAFETY: the child runs `prepare` and its result and leaves by _exit; other threads do not exist there.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            // SAFETY: integers only: the child does not outlive the stepper.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let operation = prepare();
                // SAFETY: asks to be traced by the parent, then stops until it goes on.
                unsafe {
                    libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
                    libc::raise(libc::SIGSTOP);
                }
                operation();
            }));
            // SAFETY: does not return.
            unsafe { libc::_exit(i32::from(done.is_err())) }
        }
        pid => {
            let tracee = Tracee { pid, alive: true, running: false };
            assert!(libc::WIFSTOPPED(tracee.wait()), "the child failed while it prepared");
            tracee
        }
    }
}

impl Tracee {
    fn wait(&self) -> i32 {
        let mut status = 0;
        // SAFETY: `status` is valid for writing; the pid is our child's.
        let got = unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
        assert_eq!(got, self.pid, "waitpid: {}", std::io::Error::last_os_error());
        status
    }

    fn resume(&mut self, request: libc::c_uint) -> Stop {
        // SAFETY: the child is stopped under our trace; neither address nor data is used.
        let failed = unsafe { libc::ptrace(request, self.pid, 0, 0) };
        assert_eq!(failed, 0, "ptrace: {}", std::io::Error::last_os_error());
        let status = self.wait();
        self.alive = libc::WIFSTOPPED(status);
        if self.alive {
            assert_eq!(libc::WSTOPSIG(status), libc::SIGTRAP, "the child got a signal");
            return Stop::Trap;
        }
        Stop::Left(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0)
    }

    /// As `resume`; a child that fails fails the test. False when it has left.
    fn goes_on(&mut self, request: libc::c_uint) -> bool {
        let stop = self.resume(request);
        assert!(stop != Stop::Left(false), "the child failed");
        stop == Stop::Trap
    }

    /// One instruction; false when the child has left.
    pub fn step(&mut self) -> bool {
        self.goes_on(libc::PTRACE_SINGLESTEP)
    }

    /// So many instructions; false when the child left before.
    pub fn steps(&mut self, n: usize) -> bool {
        (0..n).all(|_| self.step())
    }

    /// Runs to its end.
    pub fn finish(mut self) {
        if self.running {
            let status = self.wait();
            self.alive = false;
            assert!(
                libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
                "it failed: {status:#x}"
            );
            return;
        }
        while self.goes_on(libc::PTRACE_CONT) {}
    }

    /// Lets it run beside the stepper, until [`Tracee::finish`] waits for its end.
    pub fn run_on(&mut self) {
        // SAFETY: the child is stopped under our trace; neither address nor data is used.
        assert_eq!(unsafe { libc::ptrace(libc::PTRACE_CONT, self.pid, 0, 0) }, 0);
        self.running = true;
    }

    /// Runs to its end, each system call shown to `fails` before it is made; one for which that is an error number is
    /// not made, and gives that error. True when the child left with status 0.
    #[cfg(target_arch = "x86_64")]
    pub fn fail_calls(mut self, mut fails: impl FnMut(i64) -> Option<i32>) -> bool {
        loop {
            if let Stop::Left(good) = self.resume(libc::PTRACE_SYSCALL) {
                return good;
            }
            let mut entry = self.registers();
            let error = fails(entry.orig_rax as i64);
            if error.is_some() {
                entry.orig_rax = u64::MAX; // there is no such call
                self.set_registers(&entry);
            }
            if let Stop::Left(good) = self.resume(libc::PTRACE_SYSCALL) {
                return good;
            }
            if let Some(error) = error {
                let mut exit = self.registers();
                exit.rax = i64::from(-error) as u64;
                self.set_registers(&exit);
            }
        }
    }

    fn registers(&self) -> libc::user_regs_struct {
        // SAFETY: a plain C struct for which zero bytes are a valid value, then valid for writing; the child is stopped.
        unsafe {
            let mut registers: libc::user_regs_struct = std::mem::zeroed();
            libc::ptrace(libc::PTRACE_GETREGS, self.pid, 0, &raw mut registers);
            registers
        }
    }

    fn set_registers(&self, registers: &libc::user_regs_struct) {
        // SAFETY: the struct is valid for reading, the child stopped.
        unsafe { libc::ptrace(libc::PTRACE_SETREGS, self.pid, 0, std::ptr::from_ref(registers)) };
    }

    /// SIGKILL where it stands.
    pub fn kill(self) {}
}

impl Drop for Tracee {
    fn drop(&mut self) {
        if self.alive {
            // SAFETY: our child, not waited for yet.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
            while libc::WIFSTOPPED(self.wait()) {}
        }
    }
}

/// Words shared by stepper and child: how far the child's calls have come.
#[derive(Clone, Copy)]
pub struct Ledger(&'static [AtomicU64]);

impl Ledger {
    pub fn new(n: usize) -> Ledger {
        // SAFETY: an anonymous shared mapping has no preconditions.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                n * 8,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert!(memory != libc::MAP_FAILED);
        // SAFETY: mapped for good, aligned, zeroed; atomics may be shared.
        Ledger(unsafe { std::slice::from_raw_parts(memory.cast(), n) })
    }

    pub fn get(&self, at: usize) -> u64 {
        self.0[at].load(SeqCst)
    }

    /// Returns what stood there before.
    pub fn add(&self, at: usize, n: u64) -> u64 {
        self.0[at].fetch_add(n, SeqCst)
    }

    pub fn clear(&self) {
        self.0.iter().for_each(|word| word.store(0, SeqCst));
    }

    pub fn values(&self) -> Vec<u64> {
        self.0.iter().map(|word| word.load(SeqCst)).collect()
    }
}
