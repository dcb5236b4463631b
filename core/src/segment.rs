//! The shared mapping of one app: found by name, created, attached, validated, grown; offsets in, typed references out.
//!
//! A named segment is two files: `<name>.v1` with the data and `<name>.v1.lock` whose bytes are
//! locks (see `os::LockFile`). The data file is as long as it can ever get but mostly a hole: each
//! region reserves its pages in steps before use, so a full tmpfs is an error here and never a
//! SIGBUS in somebody's request, and nothing is ever mapped anew.
//!
//! Everything handed out is an atomic or a slice of atomics, checked against the reserved bounds:
//! whatever another process scribbles, this one neither crashes nor reads outside.
#![allow(unsafe_code)]

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::time::Duration;

use crate::error::Error;
use crate::layout::*;
use crate::os::{self, open_nofollow, KeptFile, LockFile};
use crate::sync::{fence, AtomicU32, AtomicU64, Ordering};

/// Lock byte: held while the file is looked at, created or replaced.
const LOCK_START: u64 = 0;
/// Lock byte: the aggregator's role.
pub(crate) const LOCK_ROLE: u64 = 1;
/// Lock byte: shared by every process that is attached.
pub(crate) const LOCK_ATTACHED: u64 = 2;
/// Lock byte of place 0; place i has `LOCK_PLACES + i`.
pub(crate) const LOCK_PLACES: u64 = 16;

/// How long a starting process waits for another one that is starting (this is not the hot path).
const START_PATIENCE: Duration = Duration::from_secs(2);

/// What carries the segment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Carrier {
    /// A file: every process of the app finds it.
    Named(PathBuf),
    /// Memory without a name: only forks of this process share it.
    Inherited,
    /// This process alone.
    Private,
}

impl Carrier {
    /// The data file, if it has a name.
    fn path(&self) -> Option<&Path> {
        match self {
            Carrier::Named(path) => Some(path),
            Carrier::Inherited | Carrier::Private => None,
        }
    }
}

/// How large a new segment is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caps {
    /// Series per app.
    pub max_series: u32,
    /// Series per family.
    pub max_series_per_family: u32,
}

/// A region's bounds as validated at attach: later scribbling cannot move them.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    base: u64,
    max_bytes: u64,
}

/// A mapped segment.
#[derive(Debug)]
pub(crate) struct Segment {
    memory: NonNull<u8>,
    bytes: u64,
    file: Option<KeptFile>,
    locks: Option<LockFile>,
    carrier: Carrier,
    bounds: [Bounds; N_REGIONS],
    max_series: u64,
}

// SAFETY: the memory is shared between processes anyway; every access goes through atomics.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

/// Types that may be laid over shared bytes.
///
/// # Safety
/// `repr(C)`, every field an atomic (or an array of them), so that any bytes are a valid value and
/// concurrent writers in other processes are no data race.
pub(crate) unsafe trait Shared {}
// SAFETY: an atomic.
unsafe impl Shared for AtomicU32 {}
// SAFETY: an atomic.
unsafe impl Shared for AtomicU64 {}
// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for Header {}
// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for FamilyEntry {}
// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for SeriesEntry {}
// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for Cell {}
// SAFETY: `repr(C)`, one atomic.
unsafe impl Shared for DirectCell {}
// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for GaugeCell {}
// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for PlaceHeader {}
// SAFETY: an array of `repr(C)` structs of atomics.
unsafe impl Shared for [Slot; RING_SLOTS] {}
// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for ExemplarSlot {}

/// A region is full, or its file system is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Full;

impl Segment {
    /// Attaches to the segment of that name, creating it when there is none and starting it afresh
    /// when nobody is attached to it any more (unless it was used in the last `adopt_seconds`).
    pub(crate) fn open(base: &Path, caps: Caps, adopt_seconds: u64) -> Result<Segment, Error> {
        let data = Self::data_path(base);
        let refuse = |cause: String, remedy: &str| Error::Segment {
            path: data.display().to_string(),
            cause,
            remedy: remedy.to_string(),
        };
        let from_io = |error: io::Error| refuse(error.to_string(), remedy_of(&error));
        prepare_directory(&data).map_err(from_io)?;
        let lock_path = with_suffix(&data, ".lock");
        let lock_file = open_nofollow(&lock_path, true).map_err(from_io)?;
        check_owner(&lock_file, &lock_path)?;
        let locks = LockFile::new(lock_file, Some(&lock_path)).map_err(from_io)?;
        wait_for(&locks, LOCK_START).map_err(from_io)?;
        let opened = Self::open_started(&data, &locks, caps, adopt_seconds);
        let attached = opened.and_then(|segment| {
            locks.try_share(LOCK_ATTACHED).map_err(from_io)?;
            Ok(segment)
        });
        locks.unlock(LOCK_START);
        let mut segment = attached?;
        segment.locks = Some(locks);
        Ok(segment)
    }

    /// The part of `open` under the start lock.
    fn open_started(
        data: &Path,
        locks: &LockFile,
        caps: Caps,
        adopt: u64,
    ) -> Result<Segment, Error> {
        let from_io = |error: io::Error| Error::Segment {
            path: data.display().to_string(),
            cause: error.to_string(),
            remedy: remedy_of(&error).to_string(),
        };
        match open_nofollow(data, false) {
            Ok(file) => {
                check_owner(&file, data)?;
                let old = Self::attach(file, Carrier::Named(data.to_path_buf()))?;
                if old.idle_seconds() >= adopt && old.retire(locks).map_err(from_io)? {
                    std::fs::remove_file(data).map_err(from_io)?;
                    return Self::create_named(data, caps).map_err(from_io);
                }
                old.header().state.store(SEGMENT_READY, Ordering::Release); // somebody may have died while he retired it
                Ok(old)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::create_named(data, caps).map_err(from_io)
            }
            Err(error) => Err(from_io(error)),
        }
    }

    /// Says that a successor will stand under the name, if nobody is attached. A forked child of an app
    /// that has ended may claim a place at this very moment: it first attaches and then looks at
    /// `state`, here it is the other way round, so one of the two sees the other.
    fn retire(&self, locks: &LockFile) -> io::Result<bool> {
        if locks.holder(LOCK_ATTACHED)?.is_some() {
            return Ok(false);
        }
        self.header().state.store(SEGMENT_RETIRED, Ordering::Release); // partner: `is_retired`
        fence(Ordering::SeqCst); // partner: the fence in `share_attachment`
        Ok(locks.holder(LOCK_ATTACHED)?.is_none())
    }

    /// Attaches read-write to an existing named segment, never creating or replacing it: for `dump`
    /// and `ls`. `data` is the data file itself.
    pub(crate) fn open_existing(data: &Path) -> Result<Segment, Error> {
        let from_io = |error: io::Error| Error::Segment {
            path: data.display().to_string(),
            cause: error.to_string(),
            remedy: remedy_of(&error).to_string(),
        };
        let file = open_nofollow(data, false).map_err(from_io)?;
        check_owner(&file, data)?;
        let mut segment = Self::attach(file, Carrier::Named(data.to_path_buf()))?;
        let lock_path = with_suffix(data, ".lock");
        let lock_file = open_nofollow(&lock_path, true).map_err(from_io)?;
        check_owner(&lock_file, &lock_path)?;
        segment.locks = Some(LockFile::new(lock_file, Some(&lock_path)).map_err(from_io)?);
        Ok(segment)
    }

    /// The data file of the segment with that base name.
    pub(crate) fn data_path(base: &Path) -> PathBuf {
        with_suffix(base, &format!(".v{LAYOUT_VERSION}"))
    }

    /// Could this file be a segment's data file, of any layout version?
    pub(crate) fn is_data_path(path: &Path) -> bool {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        let version = extension.strip_prefix('v').unwrap_or("");
        !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit()) && path.is_file()
    }

    /// Written under another name and renamed: under its own name a file is always complete.
    fn create_named(data: &Path, caps: Caps) -> io::Result<Segment> {
        let fresh = with_suffix(data, ".new");
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&fresh)?;
        let made = Self::create(file, caps, Carrier::Named(data.to_path_buf()))
            .and_then(|segment| std::fs::rename(&fresh, data).map(|()| segment));
        if made.is_err() {
            let _ = std::fs::remove_file(&fresh);
        }
        made
    }

    /// Memory without a name, shared with the forks of this process.
    pub(crate) fn inherited(caps: Caps) -> io::Result<Segment> {
        let mut segment = Self::create(os::memory_file("promring")?, caps, Carrier::Inherited)?;
        segment.locks = Some(LockFile::new(os::memory_file("promring.lock")?, None)?);
        Ok(segment)
    }

    /// Memory of this process alone: when nothing else can be had.
    pub(crate) fn private(caps: Caps) -> io::Result<Segment> {
        let plan = plan_regions(caps);
        let bytes = file_bytes(&plan);
        let memory = map(bytes, None)?;
        let segment = Self::assemble(memory, bytes, None, plan, caps, Carrier::Private);
        segment.initialise(&plan, caps)?;
        Ok(segment)
    }

    fn create(file: File, caps: Caps, carrier: Carrier) -> io::Result<Segment> {
        let plan = plan_regions(caps);
        let bytes = file_bytes(&plan);
        file.set_len(bytes)?;
        os::reserve(file.as_raw_fd(), 0, PAGE)?;
        let memory = map(bytes, Some(&file))?;
        let file = KeptFile::new(file, carrier.path())?;
        let segment = Self::assemble(memory, bytes, Some(file), plan, caps, carrier);
        segment.initialise(&plan, caps)?;
        Ok(segment)
    }

    fn assemble(
        memory: NonNull<u8>,
        bytes: u64,
        file: Option<KeptFile>,
        bounds: [Bounds; N_REGIONS],
        caps: Caps,
        carrier: Carrier,
    ) -> Segment {
        let max_series = u64::from(caps.max_series);
        Segment { memory, bytes, file, locks: None, carrier, bounds, max_series }
    }

    /// Fills a zeroed file; `magic` comes last.
    fn initialise(&self, plan: &[Bounds; N_REGIONS], caps: Caps) -> io::Result<()> {
        let header = self.header();
        let set = |word: &AtomicU64, value: u64| word.store(value, Ordering::Relaxed);
        set(&header.layout_version, LAYOUT_VERSION);
        set(&header.layout_hash, layout_hash());
        set(&header.file_bytes, self.bytes);
        set(&header.created_ns, os::unix_ns());
        set(&header.instance, os::unix_ns() ^ (u64::from(os::pid()) << 40));
        set(&header.max_series, u64::from(caps.max_series));
        set(&header.max_series_per_family, u64::from(caps.max_series_per_family));
        for (region, bounds) in header.regions.iter().zip(plan) {
            set(&region.base, bounds.base);
            set(&region.max_bytes, bounds.max_bytes);
        }
        // Index 0 means "none" in these.
        let full = |_: Full| io::Error::from_raw_os_error(libc::ENOSPC);
        self.alloc(Region::Chains, plan[Region::Chains as usize].max_bytes).map_err(full)?;
        self.alloc(Region::Families, size_of::<FamilyEntry>() as u64).map_err(full)?;
        self.alloc(Region::Series, size_of::<SeriesEntry>() as u64).map_err(full)?;
        self.alloc(Region::Text, 8).map_err(full)?;
        self.alloc(Region::Cells, size_of::<Cell>() as u64).map_err(full)?;
        self.alloc(Region::Direct, size_of::<DirectCell>() as u64).map_err(full)?;
        header.state.store(SEGMENT_READY, Ordering::Release);
        header.magic.store(MAGIC, Ordering::Release); // a process that finds the file finds it whole: rename comes later
        Ok(())
    }

    /// Maps an existing file after checking that it is one of ours.
    fn attach(file: File, carrier: Carrier) -> Result<Segment, Error> {
        let path = carrier.path().map_or("(memory)".into(), |path| path.display().to_string());
        let refuse = |cause: String| {
            Error::Segment {
            path: path.clone(),
            cause,
            remedy: "it was left untouched: move it away or delete it, or set PROMRING_SEGMENT to another path".into(),
        }
        };
        let facts = os::facts(file.as_raw_fd()).map_err(|e| refuse(e.to_string()))?;
        if facts.bytes < PAGE {
            return Err(refuse(format!(
                "has {} bytes, too short for a promring segment",
                facts.bytes
            )));
        }
        let memory = map(facts.bytes, Some(&file)).map_err(|e| refuse(e.to_string()))?;
        let none = [Bounds { base: 0, max_bytes: 0 }; N_REGIONS];
        let caps = Caps { max_series: 0, max_series_per_family: 0 };
        let file = KeptFile::new(file, carrier.path()).map_err(|e| refuse(e.to_string()))?;
        let mut segment = Self::assemble(memory, facts.bytes, Some(file), none, caps, carrier);
        segment.validate().map_err(refuse)?;
        Ok(segment)
    }

    /// Checks the header and takes the bounds out of it, once.
    fn validate(&mut self) -> Result<(), String> {
        let header = self.header();
        let get = |word: &AtomicU64| word.load(Ordering::Relaxed);
        if header.magic.load(Ordering::Acquire) != MAGIC {
            return Err("is not a promring segment (wrong magic)".into());
        }
        if get(&header.layout_version) != LAYOUT_VERSION
            || get(&header.layout_hash) != layout_hash()
        {
            return Err(format!(
                "has layout version {} (hash {:016x}), this promring writes {} ({:016x})",
                get(&header.layout_version),
                get(&header.layout_hash),
                LAYOUT_VERSION,
                layout_hash()
            ));
        }
        if get(&header.file_bytes) != self.bytes {
            return Err(format!(
                "has {} bytes but says {}: truncated or still growing",
                self.bytes,
                get(&header.file_bytes)
            ));
        }
        let max_series = get(&header.max_series);
        let mut bounds = self.bounds;
        let mut end = PAGE;
        for (mine, theirs) in bounds.iter_mut().zip(&header.regions) {
            *mine = Bounds { base: get(&theirs.base), max_bytes: get(&theirs.max_bytes) };
            let fits = mine.base == end && mine.max_bytes.is_multiple_of(PAGE);
            end = mine.base.saturating_add(mine.max_bytes);
            if !fits || end > self.bytes {
                return Err("has regions outside of its bounds: damaged".into());
            }
        }
        let places = bounds[Region::Places as usize].max_bytes;
        if max_series > u64::from(u32::MAX >> 1)
            || place_stride(max_series) * MAX_PLACES as u64 != places
        {
            return Err("has a worker area of the wrong size: damaged".into());
        }
        self.bounds = bounds;
        self.max_series = max_series;
        Ok(())
    }

    /// What carries it.
    pub(crate) fn carrier(&self) -> &Carrier {
        &self.carrier
    }

    /// The lock file; None in a private segment.
    pub(crate) fn locks(&self) -> Option<&LockFile> {
        self.locks.as_ref()
    }

    /// Descriptors that a process needs to go on using it.
    pub(crate) fn descriptors(&self) -> Vec<RawFd> {
        let data = self.file.iter().map(KeptFile::descriptor);
        data.chain(self.locks.iter().map(LockFile::descriptor)).flatten().collect()
    }

    /// Says "I am attached" for this process; each forked child says it anew.
    #[inline]
    pub(crate) fn share_attachment(&self) {
        if let Some(locks) = &self.locks {
            let _ = locks.try_share(LOCK_ATTACHED); // without it the segment may count as abandoned
        }
        fence(Ordering::SeqCst); // `is_retired` is asked after it; partner: the fence in `retire`
    }

    /// A successor stands under our name.
    pub(crate) fn is_retired(&self) -> bool {
        // partner: the release store in `retire`
        self.header().state.load(Ordering::Acquire) == SEGMENT_RETIRED
    }

    /// Is the file still there, whole, under its name? None when it has no name.
    pub(crate) fn damage(&self) -> Option<String> {
        let (Carrier::Named(path), Some(file)) = (&self.carrier, &self.file) else { return None };
        let facts = file.descriptor().and_then(os::facts);
        match (facts, std::fs::symlink_metadata(path)) {
            (Ok(facts), _) if facts.bytes < self.bytes => {
                Some(format!("segment {} was truncated to {} bytes", path.display(), facts.bytes))
            }
            (Ok(facts), Ok(named)) if facts.inode == (named.dev(), named.ino()) => None,
            _ => Some(format!(
                "segment {} was removed or replaced; processes started from now on count elsewhere until all restart",
                path.display()
            )),
        }
    }

    /// Seconds since anybody was seen to use it.
    fn idle_seconds(&self) -> u64 {
        let header = self.header();
        let signs = [&header.aggregator_beat_ns, &header.drained_ns, &header.created_ns];
        let last = signs.map(|word| word.load(Ordering::Relaxed)).into_iter().max().unwrap_or(0); // times, no order
        os::unix_ns().saturating_sub(last) / 1_000_000_000
    }

    /// The first page.
    #[inline]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: `memory` is page aligned, mapped for at least PAGE >= size_of::<Header>() bytes
        // (checked in `attach`, made so in `create`) for the life of `self`; Header is Shared.
        unsafe { self.memory.cast::<Header>().as_ref() }
    }

    /// The process that holds the aggregator's role; 0 when it has no pid in our namespace.
    pub(crate) fn role_holder(&self) -> Option<u32> {
        self.locks.as_ref()?.holder(LOCK_ROLE).ok().flatten()
    }

    /// Cap on series per app.
    pub(crate) fn max_series(&self) -> u64 {
        self.max_series
    }

    /// Bytes of a region that may be used.
    #[inline]
    pub(crate) fn committed(&self, region: Region) -> u64 {
        let header = &self.header().regions[region as usize];
        // partner: the release in `commit`; clamped, as anyone may scribble here
        header.committed.load(Ordering::Acquire).min(self.bounds[region as usize].max_bytes)
    }

    /// Bytes of a region that have been handed out.
    pub(crate) fn used(&self, region: Region) -> u64 {
        let next = self.header().regions[region as usize].next.load(Ordering::Acquire); // partner: `alloc`
        next.min(self.committed(region))
    }

    /// Memory that the segment really takes: reserved pages.
    pub(crate) fn reserved_bytes(&self) -> u64 {
        PAGE + Region::ALL.iter().map(|&region| self.committed(region)).sum::<u64>()
    }

    /// The `T` at `offset` of a region.
    #[inline]
    pub(crate) fn at<T: Shared>(&self, region: Region, offset: u64) -> Option<&T> {
        self.slice::<T>(region, offset, 1)?.first()
    }

    /// `n` consecutive `T`s from `offset` of a region.
    #[inline]
    pub(crate) fn slice<T: Shared>(&self, region: Region, offset: u64, n: usize) -> Option<&[T]> {
        let bytes = (n as u64).checked_mul(size_of::<T>() as u64)?;
        let end = offset.checked_add(bytes)?;
        if end > self.committed(region) || !offset.is_multiple_of(align_of::<T>() as u64) {
            return None;
        }
        let start = self.bounds[region as usize].base + offset;
        // SAFETY: the region's bounds lie inside the mapping (validated), `offset + bytes` inside the
        // region's reserved part; region bases are page aligned and `offset` is aligned to T; T is
        // Shared, so any bytes and any concurrent writer are fine. Unmapped at drop only.
        Some(unsafe {
            std::slice::from_raw_parts(self.memory.as_ptr().add(start as usize).cast::<T>(), n)
        })
    }

    /// The entry of a family.
    #[inline]
    pub(crate) fn family(&self, id: u32) -> Option<&FamilyEntry> {
        self.at(Region::Families, u64::from(id) * size_of::<FamilyEntry>() as u64)
    }

    /// The entry of a series.
    #[inline]
    pub(crate) fn series(&self, id: u32) -> Option<&SeriesEntry> {
        self.at(Region::Series, u64::from(id) * size_of::<SeriesEntry>() as u64)
    }

    /// The head of the hash chain that `hash` belongs to.
    pub(crate) fn series_chain(&self, hash: u64) -> Option<&AtomicU32> {
        let n = self.bounds[Region::Chains as usize].max_bytes / 4;
        self.at(Region::Chains, (hash % n) * 4)
    }

    /// Byte offset of a place in its region.
    fn place_offset(&self, place: usize) -> u64 {
        place as u64 * place_stride(self.max_series)
    }

    /// The head of a place.
    #[inline]
    pub(crate) fn place(&self, place: usize) -> Option<&PlaceHeader> {
        self.at(Region::Places, self.place_offset(place))
    }

    /// The ring of a place.
    #[inline]
    pub(crate) fn ring(&self, place: usize) -> Option<&[Slot; RING_SLOTS]> {
        self.at(Region::Places, self.place_offset(place + 1).checked_sub(RING_BYTES)?)
    }

    /// Which chunks hold the gauge cells of a place: chunk number + 1 each.
    pub(crate) fn gauge_directory(&self, place: usize) -> Option<&[AtomicU32]> {
        let offset = self.place_offset(place) + size_of::<PlaceHeader>() as u64;
        self.slice(Region::Places, offset, gauge_chunks(self.max_series) as usize)
    }

    /// A chunk of gauge cells by its number.
    pub(crate) fn gauge_chunk(&self, chunk: u32) -> Option<&[GaugeCell]> {
        let bytes = (GAUGE_CHUNK * size_of::<GaugeCell>()) as u64;
        self.slice(Region::Gauges, u64::from(chunk) * bytes, GAUGE_CHUNK)
    }

    /// The slot of an exemplar by its number.
    pub(crate) fn exemplar(&self, number: u32) -> Option<&ExemplarSlot> {
        self.at(Region::Exemplars, u64::from(number) * size_of::<ExemplarSlot>() as u64)
    }

    /// Reserves a new place and returns its number.
    pub(crate) fn add_place(&self) -> Result<usize, Full> {
        let stride = place_stride(self.max_series);
        let place = (self.alloc(Region::Places, stride)? / stride) as usize;
        self.header().n_places.fetch_max(place as u64 + 1, Ordering::AcqRel); // partner: `n_places`
        Ok(place)
    }

    /// Places handed out so far.
    pub(crate) fn n_places(&self) -> usize {
        let n = self.header().n_places.load(Ordering::Acquire); // partner: `add_place`
        (n as usize).min(MAX_PLACES)
    }

    /// Hands out `bytes` of a region and returns their offset in it. Lock-free; what a process
    /// killed here had been given is lost to the segment, nothing else.
    pub(crate) fn alloc(&self, region: Region, bytes: u64) -> Result<u64, Full> {
        let header = &self.header().regions[region as usize];
        let mut next = header.next.load(Ordering::Acquire);
        loop {
            let end = next.checked_add(bytes).ok_or(Full)?;
            self.commit(region, end)?;
            // Acquire/Release: `used` sees no more than what was reserved.
            match header.next.compare_exchange(next, end, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(next),
                Err(now) => next = now,
            }
        }
    }

    /// Hands out `n` cells and, under the same indices, as many direct cells; returns the first index.
    pub(crate) fn alloc_cells(&self, n: u64) -> Result<u32, Full> {
        let bytes = n * size_of::<Cell>() as u64;
        let offset = self.alloc(Region::Cells, bytes)?;
        self.commit(Region::Direct, offset + bytes)?;
        u32::try_from(offset / size_of::<Cell>() as u64).map_err(|_| Full)
    }

    /// Makes the first `end` bytes of a region usable: pages first, then the word that says so.
    fn commit(&self, region: Region, end: u64) -> Result<(), Full> {
        let bounds = self.bounds[region as usize];
        if end > bounds.max_bytes {
            return Err(Full);
        }
        let committed = self.committed(region);
        if end <= committed {
            return Ok(());
        }
        let target = end.div_ceil(GROW_STEP).saturating_mul(GROW_STEP).min(bounds.max_bytes);
        if let Some(file) = &self.file {
            let reserved = file
                .descriptor()
                .and_then(|fd| os::reserve(fd, bounds.base + committed, target - committed));
            reserved.map_err(|_| Full)?;
        }
        // Two processes may grow at once: reserving twice is harmless, the larger bound stays.
        let header = &self.header().regions[region as usize];
        header.committed.fetch_max(target, Ordering::AcqRel); // partner: `committed`
        Ok(())
    }

    /// Writes a record of bytes once; its word offset is published by whoever links it.
    pub(crate) fn write_text(&self, hash: u64, bytes: &[u8]) -> Result<u32, Full> {
        let words = bytes.len().div_ceil(8);
        let offset = self.alloc(Region::Text, 8 * (1 + words as u64))?;
        let record: &[AtomicU64] = self.slice(Region::Text, offset, 1 + words).ok_or(Full)?;
        record[0].store(text_head(hash, bytes.len()), Ordering::Relaxed); // published by the link
        for (word, chunk) in record[1..].iter().zip(bytes.chunks(8)) {
            word.store(word_of(chunk), Ordering::Relaxed); // published by the link
        }
        u32::try_from(offset / 8).map_err(|_| Full)
    }

    /// Is the record at that word offset these bytes?
    pub(crate) fn text_is(&self, at: u32, hash: u64, bytes: &[u8]) -> bool {
        let words = bytes.len().div_ceil(8);
        let Some(record) = self.slice::<AtomicU64>(Region::Text, u64::from(at) * 8, 1 + words)
        else {
            return false;
        };
        record[0].load(Ordering::Relaxed) == text_head(hash, bytes.len()) // ordered by the link's acquire
            && record[1..].iter().zip(bytes.chunks(8)).all(|(word, chunk)| {
                word.load(Ordering::Relaxed) == word_of(chunk) // ordered by the link's acquire
            })
    }

    /// How long the record at that word offset says it is.
    pub(crate) fn text_bytes(&self, at: u32) -> Option<usize> {
        let head = self.at::<AtomicU64>(Region::Text, u64::from(at) * 8)?;
        Some((head.load(Ordering::Relaxed) & u64::from(u32::MAX)) as usize) // ordered by the link's acquire
    }

    /// A copy of the record at that word offset; None when it lies outside or is longer than `most`.
    pub(crate) fn read_text(&self, at: u32, most: usize) -> Option<Vec<u8>> {
        let bytes = self.text_bytes(at).filter(|bytes| *bytes <= most)?;
        let record =
            self.slice::<AtomicU64>(Region::Text, u64::from(at) * 8 + 8, bytes.div_ceil(8))?;
        let mut copy = Vec::with_capacity(record.len() * 8);
        for word in record {
            copy.extend_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
            // as above
        }
        copy.truncate(bytes);
        Some(copy)
    }
}

/// Images for the proofs: a segment holds no pointers, so a copy of its bytes is what a crash leaves.
#[cfg(feature = "proof")]
impl Segment {
    /// The words of the first page.
    fn page_words(&self) -> &[AtomicU64] {
        // SAFETY: as in `header`: page aligned, PAGE bytes mapped for the life of `self`, atomics.
        unsafe { std::slice::from_raw_parts(self.memory.cast().as_ptr(), PAGE as usize / 8) }
    }

    /// Everything handed out so far, header first.
    pub(crate) fn used_words(&self) -> Vec<&[AtomicU64]> {
        let words = |region: &Region| {
            // Direct cells have the indices of the cells, and no allocations of their own.
            let handed_out = if *region == Region::Direct { Region::Cells } else { *region };
            self.slice(*region, 0, self.used(handed_out).div_ceil(8) as usize).unwrap_or(&[])
        };
        std::iter::once(self.page_words()).chain(Region::ALL.iter().map(words)).collect()
    }

    /// Maps the same memory once more, checking it as any process does that attaches.
    pub(crate) fn attach_again(&self) -> Result<Segment, String> {
        let fd = self.file.as_ref().ok_or("no file")?.descriptor().map_err(|e| e.to_string())?;
        let path = PathBuf::from(format!("/proc/self/fd/{fd}"));
        let file = File::options().read(true).write(true).open(path).map_err(|e| e.to_string())?;
        Self::attach(file, Carrier::Inherited).map_err(|error| error.to_string())
    }

    /// Takes over the image of another segment of the same size.
    pub(crate) fn copy_from(&self, other: &Segment) {
        assert_eq!(self.bytes, other.bytes);
        for region in self.used_words() {
            region.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
        // The header comes first: the regions' bounds are in it.
        for (word, theirs) in self.page_words().iter().zip(other.page_words()) {
            word.store(theirs.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        for (mine, theirs) in self.used_words().iter().zip(other.used_words()) {
            for (word, theirs) in mine.iter().zip(theirs) {
                word.store(theirs.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
    }

    /// Are the two images the same?
    pub(crate) fn same_as(&self, other: &Segment) -> bool {
        let same = |mine: &[AtomicU64], theirs: &[AtomicU64]| {
            mine.len() == theirs.len()
                && mine
                    .iter()
                    .zip(theirs)
                    .all(|(a, b)| a.load(Ordering::Relaxed) == b.load(Ordering::Relaxed))
        };
        self.used_words().iter().zip(other.used_words()).all(|(mine, theirs)| same(mine, theirs))
    }

    /// Leaves a region room for `bytes` more before it has to grow.
    pub(crate) fn leave_room(&self, region: Region, bytes: u64) {
        let committed = self.committed(region);
        self.header().regions[region as usize].next.store(committed - bytes, Ordering::Relaxed);
    }
}

fn text_head(hash: u64, bytes: usize) -> u64 {
    (hash & 0xffff_ffff_0000_0000) | bytes as u64
}

fn word_of(chunk: &[u8]) -> u64 {
    let mut word = [0u8; 8];
    word[..chunk.len()].copy_from_slice(chunk);
    u64::from_le_bytes(word)
}

impl Drop for Segment {
    /// One that could not be used, or was replaced; those in use are never dropped.
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length; whatever was handed out borrows `self`.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.bytes as usize) };
    }
}

/// Where each region lies when the app may have that many series.
fn plan_regions(caps: Caps) -> [Bounds; N_REGIONS] {
    let series = u64::from(caps.max_series).max(1024);
    let sizes = [
        (series / 4).next_power_of_two() * 4,
        MAX_FAMILIES as u64 * size_of::<FamilyEntry>() as u64,
        series_ids(series) * size_of::<SeriesEntry>() as u64,
        (64 << 20) + series * 256,
        (series * 32 + 64 * 1024) * size_of::<Cell>() as u64,
        (series * 32 + 64 * 1024) * size_of::<DirectCell>() as u64,
        MAX_PLACES as u64 * place_stride(u64::from(caps.max_series)),
        64 << 20,
        (MAX_EXEMPLARS * size_of::<ExemplarSlot>()) as u64,
    ];
    let mut base = PAGE;
    sizes.map(|size| {
        let bounds = Bounds { base, max_bytes: size.div_ceil(PAGE) * PAGE };
        base += bounds.max_bytes;
        bounds
    })
}

fn file_bytes(plan: &[Bounds; N_REGIONS]) -> u64 {
    plan.last().map_or(PAGE, |last| last.base + last.max_bytes)
}

/// Maps the whole file, or private memory of that size, for the rest of the process's life.
fn map(bytes: u64, file: Option<&File>) -> io::Result<NonNull<u8>> {
    let length = usize::try_from(bytes).map_err(io::Error::other)?;
    let (flags, fd) = match file {
        Some(file) => (libc::MAP_SHARED, file.as_raw_fd()),
        None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1),
    };
    // SAFETY: no address is asked for, so no existing mapping is touched; the descriptor is open.
    let memory = unsafe {
        libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0)
    };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the range was just mapped. Labels do not belong in core dumps; failing is harmless.
    unsafe { libc::madvise(memory, length, libc::MADV_DONTDUMP) };
    NonNull::new(memory.cast()).ok_or_else(|| io::Error::other("mapped at address zero"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes the directory (0700) when it is missing, and refuses one of ours that others may write to.
fn prepare_directory(data: &Path) -> io::Result<()> {
    let Some(directory) = data.parent().filter(|d| !d.as_os_str().is_empty()) else {
        return Ok(());
    };
    if !directory.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let ours = directory.file_name().is_some_and(|n| n.to_string_lossy().starts_with("promring-"));
    let facts = std::fs::symlink_metadata(directory)?;
    if ours
        && (facts.file_type().is_symlink() || facts.uid() != os::uid() || facts.mode() & 0o022 != 0)
    {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "directory {} is a link, not ours, or open to other writers",
                directory.display()
            ),
        ));
    }
    Ok(())
}

fn check_owner(file: &File, path: &Path) -> Result<(), Error> {
    let refuse = |cause: String, remedy: &str| Error::Segment {
        path: path.display().to_string(),
        cause,
        remedy: remedy.to_string(),
    };
    let facts = os::facts(file.as_raw_fd()).map_err(|e| refuse(e.to_string(), remedy_of(&e)))?;
    if !facts.regular {
        return Err(refuse(
            "is not a regular file".into(),
            "set PROMRING_SEGMENT to the path of a file",
        ));
    }
    if facts.uid != os::uid() {
        let (owner, mine) = (facts.uid, os::uid());
        return Err(refuse(
            format!("belongs to uid {owner}, this process runs as uid {mine}"),
            "run both under one user, or set PROMRING_SEGMENT to a path of your own",
        ));
    }
    Ok(())
}

/// What a person can do about an operating system's refusal.
fn remedy_of(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => {
            "the file system is full: enlarge it (docker run --shm-size) or set PROMRING_SEGMENT to another tmpfs"
        }
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => {
            "give this user write permission there, or set PROMRING_SEGMENT to a writable tmpfs path"
        }
        Some(libc::ELOOP) => "it is a symbolic link, which is never followed: name the real file",
        Some(libc::EISDIR) => "it is a directory: set PROMRING_SEGMENT to the path of a file",
        Some(libc::ENOTDIR | libc::ENOENT) => "create its directory, or set PROMRING_SEGMENT to another path",
        _ => "set PROMRING_SEGMENT to a writable path on a tmpfs",
    }
}

/// Start-up only: waits a bounded time for a process that is starting too.
fn wait_for(locks: &LockFile, byte: u64) -> io::Result<()> {
    let end = os::monotonic_ns() + START_PATIENCE.as_nanos() as u64;
    while !locks.try_lock(byte)? {
        if os::monotonic_ns() > end {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "another process has been starting on it for 2 seconds (stopped?)",
            ));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
