//! Numbers as text, and the buffer that lines are written to: where a scrape spends its time.

/// Room for the longest number and its line feed.
pub(super) const NUMBER_BYTES: usize = 32;

/// Writes over the bytes of the page before instead of appending to an emptied one: what is there needs
/// no filling with zeros, and a copy into it needs no look at the capacity.
pub(super) struct Writer {
    bytes: Vec<u8>,
    at: usize,
}

impl Writer {
    /// Over these bytes; about `n` will be needed.
    pub(super) fn over(mut bytes: Vec<u8>, n: usize) -> Writer {
        if bytes.capacity() < n {
            bytes = vec![0; n]; // fresh memory is zero already
        }
        Writer { bytes, at: 0 }
    }

    pub(super) fn done(mut self) -> Vec<u8> {
        self.bytes.truncate(self.at);
        self.bytes
    }

    #[inline]
    fn room(&mut self, n: usize) {
        if self.bytes.len() < self.at + n {
            self.grow(n);
        }
    }

    #[cold]
    fn grow(&mut self, n: usize) {
        let size = self.at + n + self.at / 64 + 4096;
        self.bytes.resize(size, 0);
    }

    #[inline]
    pub(super) fn put(&mut self, text: &[u8]) {
        self.room(text.len());
        self.bytes[self.at..self.at + text.len()].copy_from_slice(text);
        self.at += text.len();
    }

    /// Takes the last byte, a line feed, back: the line goes on.
    pub(super) fn back_over_line_end(&mut self) {
        self.at = self.at.saturating_sub(1);
    }

    /// A number and a line feed.
    #[inline]
    pub(super) fn put_line_end(&mut self, number: f64) {
        self.room(NUMBER_BYTES);
        // In place: a copy would have to wait for the bytes just stored.
        let room = &mut self.bytes[self.at..self.at + NUMBER_BYTES];
        let n = room.try_into().map_or(0, |text| format_number(number, text));
        self.bytes[self.at + n] = b'\n';
        self.at += n + 1;
    }
}

/// Whole numbers without a point; the rest as the shortest text that reads back the same. Returns its
/// length; what stands beyond it is of no meaning.
#[inline]
pub(super) fn format_number(value: f64, text: &mut [u8; NUMBER_BYTES]) -> usize {
    let whole = value as i64; // signed: the processor converts it in one instruction
                              // By bits: zero has two of them.
    if (whole as f64).to_bits() == value.to_bits() && (0..100_000_000).contains(&whole) {
        return format_small(whole as u32, text);
    }
    format_any(value, text)
}

/// Eight digits at once, then shifted so that the first is no zero.
#[inline]
fn format_small(value: u32, text: &mut [u8; NUMBER_BYTES]) -> usize {
    // Two halves of four digits, each split into pairs, each pair into digits: lanes of one word.
    let halves = u64::from(value / 10_000) | u64::from(value % 10_000) << 32;
    let hundreds = ((halves * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let pairs = hundreds | (halves - hundreds * 100) << 16;
    let tens = ((pairs * 103) >> 10) & 0x000f_000f_000f_000f;
    let digits = tens | (pairs - tens * 10) << 8;
    let zeros = (digits.trailing_zeros() / 8).min(7);
    let ascii = (digits | 0x3030_3030_3030_3030) >> (zeros * 8);
    text[..8].copy_from_slice(&ascii.to_le_bytes());
    8 - zeros as usize
}

#[inline(never)]
fn format_any(value: f64, text: &mut [u8; NUMBER_BYTES]) -> usize {
    let whole = value as i64;
    let (mut digits, mut fraction) = (itoa::Buffer::new(), ryu::Buffer::new());
    let written = if (whole as f64).to_bits() == value.to_bits() && whole.unsigned_abs() < 1 << 53 {
        digits.format(whole)
    } else if value.is_finite() {
        fraction.format_finite(value)
    } else if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "+Inf"
    } else {
        "-Inf"
    };
    text[..written.len()].copy_from_slice(written.as_bytes());
    written.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(value: f64) -> String {
        let mut text = [b'x'; NUMBER_BYTES];
        let n = format_number(value, &mut text);
        String::from_utf8(text[..n].to_vec()).unwrap()
    }

    #[test]
    fn whole_numbers_of_every_width() {
        for value in (0..200_000).chain((0..1_000_000_000).step_by(997)) {
            assert_eq!(text_of(f64::from(value)), value.to_string());
        }
        for power in 0..16 {
            for value in [10i64.pow(power) - 1, 10i64.pow(power), 10i64.pow(power) + 1] {
                assert_eq!(text_of(value as f64), value.to_string());
                assert_eq!(
                    text_of(-value as f64),
                    if value == 0 { "0".into() } else { (-value).to_string() }
                );
            }
        }
    }

    #[test]
    fn the_others_read_back_the_same() {
        let mut bits = 1u64;
        for _ in 0..200_000 {
            bits = bits.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            let value = f64::from_bits(bits);
            if value.is_finite() {
                assert_eq!(text_of(value).parse::<f64>().unwrap().to_bits(), value.to_bits());
            }
        }
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e22, "1e22"),
            (9007199254740993.0, "9007199254740992.0"),
            (5e-324, "5e-324"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(text_of(value), text);
        }
    }
}
