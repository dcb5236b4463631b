//! Stands for the mapping in a model: the same regions in vectors, for loom's atomics are no bytes of a file.
//!
//! What is found, handed out and retired in it is the shipped `segment/regions.rs`; offsets are in units of the types'
//! sizes there, whatever these are here.

use std::any::Any;

use crate::layout::*;
use crate::os::LockFile;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

#[path = "../segment/regions.rs"]
mod regions;

pub(crate) const LOCK_ATTACHED: u64 = 0;
pub(crate) const LOCK_PLACES: u64 = 1;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Full;

/// Entries of each kind: as many as the largest model needs.
const MANY: usize = 4;
const TEXT_WORDS: usize = 40;

#[derive(Default)]
struct Place {
    header: PlaceHeader,
    directory: Vec<AtomicU32>,
    ring: [Slot; RING_SLOTS],
}

pub(crate) struct Segment {
    header: Header,
    chains: Vec<AtomicU32>,
    families: Vec<FamilyEntry>,
    series: Vec<SeriesEntry>,
    text: Vec<AtomicU64>,
    cells: Vec<Cell>,
    direct: Vec<DirectCell>,
    places: Vec<Place>,
    gauges: Vec<GaugeCell>,
    locks: Option<LockFile>,
    max_series: u64,
}

fn some<T: Default>(n: usize) -> Vec<T> {
    (0..n).map(|_| T::default()).collect()
}

impl Segment {
    pub(crate) fn new(places: usize) -> Segment {
        let segment = Segment {
            header: Header::default(),
            chains: some(1),
            families: some(MANY),
            series: some(2 * MANY),
            text: some(TEXT_WORDS),
            cells: some(2 * MANY),
            direct: some(2 * MANY),
            places: some(places),
            gauges: some(2 * GAUGE_CHUNK),
            locks: Some(LockFile::new(LOCK_PLACES + places as u64)),
            max_series: MANY as u64,
        };
        segment.initialise();
        segment
    }

    /// As the shipped one does it: index 0 means "none" in these.
    fn initialise(&self) {
        self.header.max_series_per_family.store(MANY as u64, Ordering::Relaxed);
        let sizes = [
            (Region::Chains, size_of::<AtomicU32>()),
            (Region::Families, size_of::<FamilyEntry>()),
            (Region::Series, size_of::<SeriesEntry>()),
            (Region::Text, size_of::<AtomicU64>()),
            (Region::Cells, size_of::<Cell>()),
        ];
        for (region, size) in sizes {
            self.alloc(region, size as u64).unwrap();
        }
        self.header.state.store(SEGMENT_READY, Ordering::Release);
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    pub(crate) fn locks(&self) -> Option<&LockFile> {
        self.locks.as_ref()
    }

    pub(crate) fn max_series(&self) -> u64 {
        self.max_series
    }

    fn max_bytes(&self, region: Region) -> u64 {
        match region {
            Region::Chains => size_of_val(&*self.chains) as u64,
            Region::Families => size_of_val(&*self.families) as u64,
            Region::Series => size_of_val(&*self.series) as u64,
            Region::Text => size_of_val(&*self.text) as u64,
            Region::Cells => size_of_val(&*self.cells) as u64,
            Region::Direct => size_of_val(&*self.direct) as u64,
            Region::Places => self.places.len() as u64 * place_stride(self.max_series),
            Region::Gauges => size_of_val(&*self.gauges) as u64,
            Region::Exemplars => 0,
        }
    }

    /// Memory is there from the start.
    fn reserve(&self, _: Region, _: u64, _: u64) -> Result<(), Full> {
        Ok(())
    }

    pub(crate) fn at<T: Any>(&self, region: Region, offset: u64) -> Option<&T> {
        self.slice::<T>(region, offset, 1)?.first()
    }

    pub(crate) fn slice<T: Any>(&self, region: Region, offset: u64, n: usize) -> Option<&[T]> {
        if offset + (n * size_of::<T>()) as u64 > self.committed(region) {
            return None;
        }
        match region {
            Region::Chains => part(&self.chains, offset, n),
            Region::Families => part(&self.families, offset, n),
            Region::Series => part(&self.series, offset, n),
            Region::Text => part(&self.text, offset, n),
            Region::Cells => part(&self.cells, offset, n),
            Region::Direct => part(&self.direct, offset, n),
            Region::Gauges => part(&self.gauges, offset, n),
            Region::Places => self.part_of_place((offset / place_stride(self.max_series)) as usize),
            Region::Exemplars => None,
        }
    }

    /// Header, directory or ring: a type says which.
    fn part_of_place<T: Any>(&self, place: usize) -> Option<&[T]> {
        let place = self.places.get(place)?;
        fn one<T: Any>(part: &dyn Any) -> Option<&[T]> {
            part.downcast_ref::<T>().map(std::slice::from_ref)
        }
        let directory = (&place.directory as &dyn Any).downcast_ref::<Vec<T>>().map(Vec::as_slice);
        one(&place.header).or_else(|| one(&place.ring)).or(directory)
    }
}

fn part<S: Any, T: Any>(all: &Vec<S>, offset: u64, n: usize) -> Option<&[T]> {
    let first = offset as usize / size_of::<T>();
    (all as &dyn Any).downcast_ref::<Vec<T>>()?.get(first..first + n)
}
