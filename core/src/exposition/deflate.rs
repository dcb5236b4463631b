//! gzip of a page whose constant text was compressed before: what a scrape adds are distances and digits.
//!
//! Consecutive lines of a page repeat each other but for a label value and the number, so deflate's
//! matches fall on the same places in every scrape; only their distances move, by the widths of the
//! numbers in between. Hence, once for a shape of the page:
//!
//! ```text
//! constant text --LZ77--> tokens --Huffman--> program: literals as ready bits,
//!                                             copies as ready length bits + how far back in constant text
//! ```
//!
//! and for each scrape, with `shift(i)` the bytes of all numbers before the constant text `i`:
//!
//! ```text
//! distance of a copy in text i from text j  =  distance in constant text  +  shift(i) - shift(j)
//! ```
//!
//! A copy never reaches across a number, and never so far that the widest numbers could push its source
//! out of deflate's window. One dynamic block holds all; its code has a symbol for everything that a number
//! can consist of and for every distance. Formats: RFC 1951, RFC 1952.

use super::number::NUMBER_BYTES;

const WINDOW: usize = 32 * 1024;
const SHORTEST: usize = 4;
const LONGEST: usize = 258;
/// Constant texts that a copy may reach back; a power of two.
const TEXTS_BACK: usize = 2048;
/// What numbers consist of, and the line feed behind them.
const IN_NUMBERS: &[u8] = b"0123456789.e+-NaInf\n";
const END_OF_BLOCK: usize = 256;

/// The compressed constant text of a page.
pub(super) struct Deflater {
    /// The gzip header and the block's, to the bit.
    head: BitWriter,
    program: Vec<Op>,
    /// The program of text `i` ends at `ends[i]`; one more than there are numbers.
    ends: Vec<u32>,
    literals: [Code; 256],
    end_of_block: Code,
    distances: [Code; 30],
}

impl Deflater {
    /// For pages with this constant text before their numbers; `page` is one of them, whose numbers
    /// tell how often which digit is to be expected.
    pub(super) fn new(text: &[u8], ends: &[usize], page: &[u8]) -> Deflater {
        let ends: Vec<usize> = ends.iter().copied().chain([text.len()]).collect();
        let tokens = Parser::new(text, &ends).parse();
        let mut counts = Counts::default();
        tokens.iter().flatten().for_each(|token| counts.add(*token));
        counts.add_numbers(&ends, page);
        let (literals, distances) = (codes(&counts.literals), codes(&counts.distances));
        let mut head = BitWriter::default();
        // Magic, deflate, no flags, no time, fastest, Unix.
        [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 3].iter().for_each(|byte| head.push(*byte, 8));
        write_block_head(&literals, &distances, &mut head);
        let mut program = Program { literals: &literals, ops: Vec::new(), pending: (0, 0) };
        let mut op_ends = Vec::with_capacity(ends.len());
        for tokens in &tokens {
            tokens.iter().for_each(|token| program.add(*token));
            program.flush();
            op_ends.push(program.ops.len() as u32);
        }
        Deflater {
            head,
            program: program.ops,
            ends: op_ends,
            end_of_block: literals[END_OF_BLOCK],
            literals: std::array::from_fn(|byte| literals[byte]),
            distances: std::array::from_fn(|symbol| distances[symbol]),
        }
    }

    /// Begins a page, over these bytes.
    pub(super) fn begin(&self, over: Vec<u8>) -> Member<'_> {
        Member {
            deflater: self,
            bits: self.head.over(over),
            checksum: crc32fast::Hasher::new(),
            n_bytes: 0,
            i: 0,
            shift: 0,
            shifts: [0; TEXTS_BACK],
        }
    }

    fn ops(&self, i: usize) -> &[Op] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.program[start as usize..self.ends[i] as usize]
    }

    #[inline]
    fn distance_bits(&self, distance: usize) -> (u64, u32) {
        let (symbol, n_extra, extra) = distance_symbol(distance);
        let code = self.distances[symbol];
        (u64::from(code.bits) | (extra as u64) << code.n, u32::from(code.n) + n_extra)
    }
}

/// A page on its way; it comes in pieces that fit the processor's cache.
pub(super) struct Member<'a> {
    deflater: &'a Deflater,
    bits: BitWriter,
    checksum: crc32fast::Hasher,
    n_bytes: u32,
    /// The next constant text.
    i: usize,
    /// Bytes of all numbers so far.
    shift: u32,
    /// What it was at the last texts.
    shifts: [u32; TEXTS_BACK],
}

impl Member<'_> {
    /// Takes whole lines: constant texts, from `start` to each of `ends`, and their numbers. None if
    /// they are not of this page.
    pub(super) fn add(&mut self, piece: &[u8], start: usize, ends: &[usize]) -> Option<()> {
        let start = start + self.shift as usize;
        for end in ends {
            self.add_text();
            self.shift += self.add_number(piece, end + self.shift as usize - start)?;
        }
        self.sum(piece);
        Some(())
    }

    /// Takes the constant text behind the last number, and ends the page.
    pub(super) fn done(mut self, tail: &[u8]) -> Vec<u8> {
        self.add_text();
        self.sum(tail);
        let code = self.deflater.end_of_block;
        self.bits.push(code.bits.into(), code.n.into());
        self.bits.done(self.checksum.finalize(), self.n_bytes)
    }

    fn sum(&mut self, piece: &[u8]) {
        self.checksum.update(piece);
        self.n_bytes = self.n_bytes.wrapping_add(piece.len() as u32);
    }

    #[inline]
    fn add_text(&mut self) {
        let Member { deflater, bits, i, shift, shifts, .. } = self;
        shifts[*i % TEXTS_BACK] = *shift;
        for op in deflater.ops(*i) {
            let Some((distance, back)) = op.source() else {
                bits.push(op.bits(), op.n_bits());
                continue;
            };
            let moved = *shift - shifts[i.wrapping_sub(back) % TEXTS_BACK];
            let (more, n_more) = deflater.distance_bits(distance + moved as usize);
            bits.push(op.bits() | more << op.n_bits(), op.n_bits() + n_more);
        }
        *i += 1;
    }

    /// A number with its line feed, and how long it is; None if it holds what no number does.
    #[inline]
    fn add_number(&mut self, piece: &[u8], at: usize) -> Option<u32> {
        let (mut held, mut n) = (0, 0);
        for (i, byte) in piece.get(at..)?.iter().enumerate() {
            let code = self.deflater.literals[usize::from(*byte)];
            held |= u64::from(code.bits) << n;
            n += u32::from(code.n);
            if *byte == b'\n' {
                self.bits.push(held, n);
                return Some(i as u32 + 1);
            }
            if code.n == 0 || i == NUMBER_BYTES {
                return None;
            }
            if n > 56 - 15 {
                self.bits.push(held, n);
                (held, n) = (0, 0);
            }
        }
        None
    }
}

// ---------------------------------------------------------------------------------------------
// The program

/// Ready bits, and for a copy, whose length they are, where it copies from. Packed: bits 0-55 and
/// their number in 56-61 for literals; a copy has bit 63 set, its length's bits in 0-19, their number in
/// 20-24, its distance in constant text less one in 25-39, and how many texts it reaches back in 40-50.
#[derive(Clone, Copy)]
struct Op(u64);

impl Op {
    fn literals(bits: u64, n: u32) -> Op {
        debug_assert!(n <= 56);
        Op(bits | u64::from(n) << 56)
    }

    fn copy(length_bits: u64, n: u32, distance: usize, back: usize) -> Op {
        debug_assert!(n <= 20 && distance <= WINDOW && back < TEXTS_BACK);
        let source = (distance as u64 - 1) << 25 | (back as u64) << 40;
        Op(1 << 63 | length_bits | u64::from(n) << 20 | source)
    }

    #[inline]
    fn is_copy(self) -> bool {
        self.0 >> 63 == 1
    }

    #[inline]
    fn bits(self) -> u64 {
        self.0 & if self.is_copy() { (1 << 20) - 1 } else { (1 << 56) - 1 }
    }

    #[inline]
    fn n_bits(self) -> u32 {
        (if self.is_copy() { self.0 >> 20 & 31 } else { self.0 >> 56 & 63 }) as u32
    }

    #[inline]
    fn source(self) -> Option<(usize, usize)> {
        let distance = (self.0 >> 25 & 0x7fff) as usize + 1;
        self.is_copy().then_some((distance, (self.0 >> 40 & 0x7ff) as usize))
    }
}

struct Program<'a> {
    literals: &'a [Code],
    ops: Vec<Op>,
    /// Literals' bits not yet in an op.
    pending: (u64, u32),
}

impl Program<'_> {
    fn add(&mut self, token: Token) {
        match token {
            Token::Literal(byte) => {
                let code = self.literals[usize::from(byte)];
                if self.pending.1 + u32::from(code.n) > 56 {
                    self.flush();
                }
                self.pending.0 |= u64::from(code.bits) << self.pending.1;
                self.pending.1 += u32::from(code.n);
            }
            Token::Copy { length, distance, back } => {
                self.flush();
                let (symbol, n_extra, extra) = length_symbol(length);
                let code = self.literals[symbol];
                let bits = u64::from(code.bits) | (extra as u64) << code.n;
                self.ops.push(Op::copy(bits, u32::from(code.n) + n_extra, distance, back));
            }
        }
    }

    fn flush(&mut self) {
        let (bits, n) = std::mem::take(&mut self.pending);
        if n > 0 {
            self.ops.push(Op::literals(bits, n));
        }
    }
}

// ---------------------------------------------------------------------------------------------
// LZ77 over the constant text

#[derive(Clone, Copy, Debug)]
enum Token {
    Literal(u8),
    /// Both counted in constant text: bytes, and texts.
    Copy {
        length: usize,
        distance: usize,
        back: usize,
    },
}

/// How many earlier places with the same four bytes are looked at.
const TRIES: usize = 24;
const HASH_BITS: u32 = 15;
/// Of a copy, so many positions at each end can be found again: later lines differ at the same places.
const FOUND_AGAIN: usize = 4;

struct Parser<'a> {
    text: &'a [u8],
    ends: &'a [usize],
    /// Position and number of its text, plus one, of the last place with that hash.
    heads: Vec<(u32, u32)>,
    /// The place before it, by position in the window.
    chain: Vec<(u32, u32)>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a [u8], ends: &'a [usize]) -> Parser<'a> {
        let (heads, chain) = (vec![(0, 0); 1 << HASH_BITS], vec![(0, 0); WINDOW]);
        Parser { text, ends, heads, chain }
    }

    /// The tokens of each text.
    fn parse(mut self) -> Vec<Vec<Token>> {
        let ends = self.ends;
        let mut start = 0;
        let parse_text = |(i, end): (usize, &usize)| {
            let tokens = self.parse_text(i, start, *end);
            start = *end;
            tokens
        };
        ends.iter().enumerate().map(parse_text).collect()
    }

    fn parse_text(&mut self, i: usize, start: usize, end: usize) -> Vec<Token> {
        let mut tokens = Vec::new();
        let mut at = start;
        while at < end {
            match self.best_copy(i, at, end) {
                Some(Token::Copy { length, distance, back }) => {
                    tokens.push(Token::Copy { length, distance, back });
                    let edges =
                        (0..FOUND_AGAIN).chain(length.max(2 * FOUND_AGAIN) - FOUND_AGAIN..length);
                    edges.filter(|k| *k < length).for_each(|k| self.insert(i, at + k));
                    at += length;
                }
                _ => {
                    tokens.push(Token::Literal(self.text[at]));
                    self.insert(i, at);
                    at += 1;
                }
            }
        }
        tokens
    }

    fn hash(&self, at: usize) -> Option<usize> {
        let bytes = self.text.get(at..at + SHORTEST)?.try_into().ok()?;
        Some((u32::from_le_bytes(bytes).wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize)
    }

    fn insert(&mut self, i: usize, at: usize) {
        if let Some(hash) = self.hash(at) {
            self.chain[at % WINDOW] = self.heads[hash];
            self.heads[hash] = (at as u32, i as u32 + 1);
        }
    }

    /// The copy that saves most; near ones have cheaper distances.
    fn best_copy(&self, i: usize, at: usize, end: usize) -> Option<Token> {
        let mut candidate = self.heads[self.hash(at)?];
        let mut best = None;
        let mut most = 0;
        for _ in 0..TRIES {
            let (source, j) = (candidate.0 as usize, candidate.1 as usize);
            let Some(j) = j.checked_sub(1) else { break };
            let (distance, back) = (at - source, i - j);
            if distance + back * NUMBER_BYTES > WINDOW || back >= TEXTS_BACK {
                break; // the widest numbers would push it out of the window
            }
            let longest = LONGEST.min(end - at).min(self.ends[j] - source);
            let length = common(&self.text[at..at + longest], &self.text[source..]);
            let (_, n_extra, _) = distance_symbol(distance + back * 4);
            let saved = (length * 6).saturating_sub(10 + n_extra as usize);
            if length >= SHORTEST && saved > most {
                (best, most) = (Some(Token::Copy { length, distance, back }), saved);
            }
            let next = self.chain[source % WINDOW];
            if next.0 as usize >= source && next.1 != 0 {
                break; // the window has come round
            }
            candidate = next;
        }
        best
    }
}

/// How many bytes are the same.
fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

// ---------------------------------------------------------------------------------------------
// Symbols and their codes

/// A symbol's bits, first bit lowest, and their number; none if the symbol does not occur.
#[derive(Clone, Copy, Default, Debug)]
struct Code {
    bits: u16,
    n: u8,
}

/// How often each symbol is to be expected.
struct Counts {
    literals: [u32; 286],
    distances: [u32; 30],
}

impl Default for Counts {
    /// What may turn up though it has not: all of numbers, all distances.
    fn default() -> Counts {
        let mut literals = [0; 286];
        literals[END_OF_BLOCK] = 1;
        IN_NUMBERS.iter().for_each(|byte| literals[usize::from(*byte)] = 1);
        Counts { literals, distances: [1; 30] }
    }
}

impl Counts {
    fn add(&mut self, token: Token) {
        match token {
            Token::Literal(byte) => self.literals[usize::from(byte)] += 1,
            Token::Copy { length, distance, back } => {
                self.literals[length_symbol(length).0] += 1;
                self.distances[distance_symbol(distance + back * 4).0] += 1;
            }
        }
    }

    fn add_numbers(&mut self, ends: &[usize], page: &[u8]) {
        let mut shift = 0;
        for end in &ends[..ends.len() - 1] {
            let number = page.get(end + shift..).unwrap_or(&[]);
            for byte in number.iter().take(NUMBER_BYTES) {
                shift += 1;
                self.literals[usize::from(*byte)] += 1;
                if *byte == b'\n' {
                    break;
                }
            }
        }
    }
}

/// Symbol of a length from 3 to 258, number of its extra bits, their value.
fn length_symbol(length: usize) -> (usize, u32, usize) {
    let past = length - 3;
    match past {
        0..8 => (257 + past, 0, 0),
        255 => (285, 0, 0),
        _ => {
            let n_extra = past.ilog2() - 2;
            let group = 4 * n_extra as usize + (past >> n_extra);
            (257 + group, n_extra, past & ((1 << n_extra) - 1))
        }
    }
}

/// Symbol of a distance from 1 to 32768, number of its extra bits, their value.
#[inline]
fn distance_symbol(distance: usize) -> (usize, u32, usize) {
    let past = distance - 1;
    if past < 4 {
        return (past, 0, 0);
    }
    let n_extra = past.ilog2() - 1;
    let group = 2 * n_extra as usize + (past >> n_extra);
    (group, n_extra, past & ((1 << n_extra) - 1))
}

/// A canonical Huffman code.
fn codes(counts: &[u32]) -> Vec<Code> {
    codes_of(&code_lengths(counts, 15))
}

fn codes_of(lengths: &[u8]) -> Vec<Code> {
    let mut next = 0u16;
    let mut all = vec![Code::default(); lengths.len()];
    for n in 1..=15 {
        next <<= 1;
        for (code, _) in all.iter_mut().zip(lengths).filter(|(_, length)| **length == n) {
            *code = Code { bits: next.reverse_bits() >> (16 - n), n };
            next += 1;
        }
    }
    all
}

/// Huffman's lengths. Where one is longer than allowed, rare symbols are taken for less rare.
fn code_lengths(counts: &[u32], longest: u8) -> Vec<u8> {
    let mut counts = counts.to_vec();
    loop {
        let lengths = huffman(&counts);
        if lengths.iter().all(|length| *length <= longest) {
            return lengths;
        }
        counts.iter_mut().filter(|count| **count > 0).for_each(|count| *count = *count / 2 + 1);
    }
}

fn huffman(counts: &[u32]) -> Vec<u8> {
    use std::cmp::Reverse;
    let mut parents: Vec<usize> = vec![usize::MAX; counts.len()];
    let occurs = |(_, count): &(usize, &u32)| **count > 0;
    let mut heap: std::collections::BinaryHeap<_> = counts
        .iter()
        .enumerate()
        .filter(occurs)
        .map(|(symbol, count)| Reverse((u64::from(*count), symbol)))
        .collect();
    if heap.len() == 1 {
        return counts.iter().map(|count| u8::from(*count > 0)).collect();
    }
    while let (Some(Reverse(a)), Some(Reverse(b))) = (heap.pop(), heap.pop()) {
        let node = parents.len();
        parents.push(usize::MAX);
        (parents[a.1], parents[b.1]) = (node, node);
        if !heap.is_empty() {
            heap.push(Reverse((a.0 + b.0, node)));
        }
    }
    let depth = |mut node: usize| {
        let mut depth = 0;
        while parents[node] != usize::MAX {
            (node, depth) = (parents[node], depth + 1);
        }
        depth
    };
    (0..counts.len()).map(depth).collect()
}

/// The order in which lengths of the code for lengths are sent.
const LENGTHS_ORDER: [usize; 19] =
    [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// The head of the last block, of the dynamic kind.
fn write_block_head(literals: &[Code], distances: &[Code], out: &mut BitWriter) {
    let lengths: Vec<u8> = literals.iter().chain(distances).map(|code| code.n).collect();
    let runs = runs(&lengths);
    let mut counts = [0; 19];
    runs.iter().for_each(|(symbol, _, _)| counts[*symbol] += 1);
    let meta = codes_of(&code_lengths(&counts, 7));
    let sent = LENGTHS_ORDER.iter().rposition(|symbol| meta[*symbol].n > 0).map_or(4, |i| i + 1);
    let sent = sent.max(4);
    out.push(0b101, 3);
    out.push(literals.len() as u64 - 257, 5);
    out.push(distances.len() as u64 - 1, 5);
    out.push(sent as u64 - 4, 4);
    LENGTHS_ORDER[..sent].iter().for_each(|symbol| out.push(meta[*symbol].n.into(), 3));
    for (symbol, n_extra, extra) in runs {
        out.push(meta[symbol].bits.into(), meta[symbol].n.into());
        out.push(extra, n_extra);
    }
}

/// Lengths as symbols of the code for lengths, with their extra bits: runs of zeros are short.
fn runs(lengths: &[u8]) -> Vec<(usize, u32, u64)> {
    let mut runs = Vec::new();
    let mut rest = lengths;
    while let Some(first) = rest.first() {
        let n = rest.iter().take_while(|length| *length == first).count().min(138);
        let n = match (*first, n) {
            (0, 11..) => {
                runs.push((18, 7, n as u64 - 11));
                n
            }
            (0, 3..) => {
                runs.push((17, 3, n as u64 - 3));
                n
            }
            (length, _) => {
                runs.push((usize::from(length), 0, 0));
                1
            }
        };
        rest = &rest[n..];
    }
    runs
}

// ---------------------------------------------------------------------------------------------
// Bits

/// Bits, lowest first, into bytes that are written over.
#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    at: usize,
    held: u64,
    n_held: u32,
}

impl BitWriter {
    /// A copy of what was written, over these bytes.
    fn over(&self, mut bytes: Vec<u8>) -> BitWriter {
        bytes.resize(bytes.len().max(self.at + 8), 0);
        bytes[..self.at].copy_from_slice(&self.bytes[..self.at]);
        BitWriter { bytes, at: self.at, held: self.held, n_held: self.n_held }
    }

    /// At most 56 bits.
    #[inline(always)]
    fn push(&mut self, bits: u64, n: u32) {
        debug_assert!(n <= 56 && bits >> n == 0);
        self.held |= bits << self.n_held;
        self.n_held += n;
        match self.bytes.get_mut(self.at..self.at + 8) {
            Some(room) => room.copy_from_slice(&self.held.to_le_bytes()),
            None => self.grow(),
        }
        let whole = self.n_held / 8;
        self.at += whole as usize;
        self.held >>= whole * 8;
        self.n_held %= 8;
    }

    #[cold]
    fn grow(&mut self) {
        self.bytes.resize(self.at + self.at / 16 + 4096, 0);
        self.bytes[self.at..self.at + 8].copy_from_slice(&self.held.to_le_bytes());
    }

    /// The gzip member, with its trailer.
    fn done(mut self, checksum: u32, size: u32) -> Vec<u8> {
        self.push(0, (8 - self.n_held) % 8);
        self.push(u64::from(checksum), 32);
        self.push(u64::from(size), 32);
        self.bytes.truncate(self.at);
        self.bytes
    }
}
