//! What the segment hands out, by numbers: entries, places, cells, texts; allocation and growth, lock-free; its retirement.
//!
//! All of it stands on four things of `segment`'s: the header, slices of a region within its bounds, pages that are
//! reserved, byte locks. So the model checker runs it on other memory than a mapping.

use crate::layout::*;
use crate::os::LockFile;
use crate::sync::{fence, AtomicU32, AtomicU64, Ordering};

use super::{Full, Segment, LOCK_ATTACHED};

/// Words of which texts are made.
const WORD: u64 = size_of::<AtomicU64>() as u64;

impl Segment {
    /// Bytes of a region that may be used.
    #[inline]
    pub(crate) fn committed(&self, region: Region) -> u64 {
        let header = &self.header().regions[region as usize];
        // partner: the release in `commit`; clamped, as anyone may scribble here
        header.committed.load(Ordering::Acquire).min(self.max_bytes(region))
    }

    /// Bytes of a region that have been handed out.
    pub(crate) fn used(&self, region: Region) -> u64 {
        let next = self.header().regions[region as usize].next.load(Ordering::Acquire); // partner: `alloc`
        next.min(self.committed(region))
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
        let size = size_of::<AtomicU32>() as u64;
        let n = self.max_bytes(Region::Chains) / size;
        self.at(Region::Chains, (hash % n) * size)
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
        let first =
            self.alloc(Region::Cells, n * size_of::<Cell>() as u64)? / size_of::<Cell>() as u64;
        self.commit(Region::Direct, (first + n) * size_of::<DirectCell>() as u64)?;
        u32::try_from(first).ok().filter(|_| first <= ID_MASK).ok_or(Full)
    }

    /// Makes the first `end` bytes of a region usable: pages first, then the word that says so.
    fn commit(&self, region: Region, end: u64) -> Result<(), Full> {
        let most = self.max_bytes(region);
        if end > most {
            return Err(Full);
        }
        let committed = self.committed(region);
        if end <= committed {
            return Ok(());
        }
        let target = end.div_ceil(GROW_STEP).saturating_mul(GROW_STEP).min(most);
        self.reserve(region, committed, target)?;
        // Two processes may grow at once: reserving twice is harmless, the larger bound stays.
        let header = &self.header().regions[region as usize];
        header.committed.fetch_max(target, Ordering::AcqRel); // partner: `committed`
        Ok(())
    }

    /// Writes a record of bytes once; its word offset is published by whoever links it.
    pub(crate) fn write_text(&self, hash: u64, bytes: &[u8]) -> Result<u32, Full> {
        let words = bytes.len().div_ceil(8);
        let offset = self.alloc(Region::Text, WORD * (1 + words as u64))?;
        let record: &[AtomicU64] = self.slice(Region::Text, offset, 1 + words).ok_or(Full)?;
        record[0].store(text_head(hash, bytes.len()), Ordering::Relaxed); // published by the link
        for (word, chunk) in record[1..].iter().zip(bytes.chunks(8)) {
            word.store(word_of(chunk), Ordering::Relaxed); // published by the link
        }
        u32::try_from(offset / WORD).map_err(|_| Full)
    }

    /// Is the record at that word offset these bytes?
    pub(crate) fn text_is(&self, at: u32, hash: u64, bytes: &[u8]) -> bool {
        let words = bytes.len().div_ceil(8);
        let Some(record) = self.slice::<AtomicU64>(Region::Text, u64::from(at) * WORD, 1 + words)
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
        let head = self.at::<AtomicU64>(Region::Text, u64::from(at) * WORD)?;
        Some((head.load(Ordering::Relaxed) & u64::from(u32::MAX)) as usize) // ordered by the link's acquire
    }

    /// A copy of the record at that word offset; None when it lies outside or is longer than `most`.
    pub(crate) fn read_text(&self, at: u32, most: usize) -> Option<Vec<u8>> {
        let bytes = self.text_bytes(at).filter(|bytes| *bytes <= most)?;
        let record =
            self.slice::<AtomicU64>(Region::Text, (u64::from(at) + 1) * WORD, bytes.div_ceil(8))?;
        let mut copy = Vec::with_capacity(record.len() * 8);
        for word in record {
            copy.extend_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
            // as above
        }
        copy.truncate(bytes);
        Some(copy)
    }

    /// Says that a successor will stand under the name, if nobody is attached. A forked child of an app
    /// that has ended may claim a place at this very moment: it first attaches and then looks at
    /// `state`, here it is the other way round, so one of the two sees the other.
    pub(crate) fn retire(&self, locks: &LockFile) -> std::io::Result<bool> {
        if locks.holder(LOCK_ATTACHED)?.is_some() {
            return Ok(false);
        }
        self.header().state.store(SEGMENT_RETIRED, Ordering::Release); // partner: `is_retired`
        fence(Ordering::SeqCst); // partner: the fence in `share_attachment`
        Ok(locks.holder(LOCK_ATTACHED)?.is_none())
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
}

fn text_head(hash: u64, bytes: usize) -> u64 {
    (hash & 0xffff_ffff_0000_0000) | bytes as u64
}

fn word_of(chunk: &[u8]) -> u64 {
    let mut word = [0u8; 8];
    word[..chunk.len()].copy_from_slice(chunk);
    u64::from_le_bytes(word)
}
