//! Operands in pairs of bf16, as instructions on bf16 take them: a float's bits hold the numbers of k and k + 1, the lower in the lower half.
//!
//! A left operand is packed row after row, a right one in panels whose rows are pairs of its own. An odd last number stands beside 0, and
//! so does what a kernel reads beyond.
#![allow(unsafe_code, reason = "vector instructions take pointers, and are there on some machines only")]

use super::Matrix;

/// Rows and columns that are turned at once.
const SQUARE: usize = 16;

/// Packs the panel of `b` that begins at `column` and has `columns` columns, rows `first..first + depth`, as `slots` rows of pairs.
pub(super) fn panel(
    out: &mut [f32],
    b: Matrix<f32>,
    (first, depth): (usize, usize),
    (column, columns): (usize, usize),
    slots: usize,
) {
    let width = out.len() / slots;
    let lines = Lines { data: &b.data[first * b.row + column * b.column..], between: b.row, count: depth };
    let across = Lines { between: b.column, count: columns, ..lines };
    if columns < width || slots > depth.div_ceil(2) {
        out.fill(0.0);
    }
    match (b.row, b.column) {
        (_, 1) => joined(out, width, lines, columns),
        (1, _) => turned(out, width, across, depth),
        _ => scattered(out, (1, width), across, (b.row, depth)),
    }
}

/// Packs rows `row..row + rows` of `a`, columns `first..first + depth`, as rows of `slots` pairs.
pub(super) fn rows(
    out: &mut [f32],
    a: Matrix<f32>,
    (row, rows): (usize, usize),
    (first, depth): (usize, usize),
    slots: usize,
) {
    let lines = Lines { data: &a.data[row * a.row + first * a.column..], between: a.row, count: rows };
    let across = Lines { between: a.column, count: depth, ..lines };
    if slots > depth.div_ceil(2) {
        out.fill(0.0);
    }
    match (a.row, a.column) {
        (_, 1) => narrowed(out, slots, lines, depth),
        (1, _) => turned_joined(out, slots, across, rows),
        _ => scattered(out, (slots, 1), lines, (a.column, depth)),
    }
}

/// The number of bf16 that is nearest, of two as near the one whose last bit is 0; what is not a number stays so.
#[inline(always)]
pub(super) fn rounded(x: f32) -> f32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
    // An error's bits could wrap around to a number's.
    f32::from_bits(if x.is_nan() { bits & 0xffff_0000 | 0x0040_0000 } else { nearest })
}

/// Lines of numbers, the first of each `between` floats behind that of the last.
#[derive(Clone, Copy)]
struct Lines<'a> {
    data: &'a [f32],
    between: usize,
    count: usize,
}

impl<'a> Lines<'a> {
    fn line(self, i: usize, length: usize) -> &'a [f32] {
        &self.data[i * self.between..][..length]
    }
}

/// Two numbers in a float's bits.
#[inline(always)]
fn pair(low: f32, high: f32) -> f32 {
    f32::from_bits(rounded(high).to_bits() | rounded(low).to_bits() >> 16)
}

/// Pairs of each line, one behind the other, from `line · to_line` on.
fn narrowed(out: &mut [f32], to_line: usize, lines: Lines, length: usize) {
    for i in 0..lines.count {
        let (out, line) = (&mut out[i * to_line..][..length.div_ceil(2)], lines.line(i, length));
        #[cfg(target_arch = "x86_64")]
        if wide::is_there() {
            // SAFETY: the machine has the instructions.
            unsafe { wide::narrow(out, line) };
            continue;
        }
        for (out, numbers) in out.iter_mut().zip(line.chunks(2)) {
            *out = pair(numbers[0], numbers.get(1).copied().unwrap_or(0.0));
        }
    }
}

/// Pairs of numbers that lie in two lines, one line of pairs for two of numbers.
fn joined(out: &mut [f32], to_line: usize, lines: Lines, length: usize) {
    for i in 0..lines.count.div_ceil(2) {
        let out = &mut out[i * to_line..][..length];
        let first = lines.line(2 * i, length);
        let second = (2 * i + 1 < lines.count).then(|| lines.line(2 * i + 1, length));
        join(out, first, second);
    }
}

fn join(out: &mut [f32], first: &[f32], second: Option<&[f32]>) {
    #[cfg(target_arch = "x86_64")]
    if wide::is_there() {
        // SAFETY: the machine has the instructions.
        return unsafe { wide::join(out, first, second) };
    }
    for (j, (out, low)) in out.iter_mut().zip(first).enumerate() {
        *out = pair(*low, second.map_or(0.0, |second| second[j]));
    }
}

/// Pairs of each line, those of a line `to_line` apart: lines become columns.
fn turned(out: &mut [f32], to_line: usize, lines: Lines, length: usize) {
    let mut square = [0.0; SQUARE * SQUARE];
    for first in (0..lines.count).step_by(SQUARE) {
        let some = SQUARE.min(lines.count - first);
        for at in (0..length).step_by(2 * SQUARE) {
            let long = (2 * SQUARE).min(length - at);
            let part = Lines { data: &lines.data[first * lines.between + at..], count: some, ..lines };
            narrowed(&mut square, SQUARE, part, long);
            turn(&square, &mut out[at / 2 * to_line + first..], to_line, (some, long.div_ceil(2)));
        }
    }
}

/// Pairs of numbers that lie in two lines, turned: a column of the lines becomes a row of pairs.
fn turned_joined(out: &mut [f32], to_line: usize, lines: Lines, length: usize) {
    let mut square = [0.0; SQUARE * SQUARE];
    for at in (0..length).step_by(SQUARE) {
        let long = SQUARE.min(length - at);
        for first in (0..lines.count).step_by(2 * SQUARE) {
            let some = (2 * SQUARE).min(lines.count - first);
            let part = Lines { data: &lines.data[first * lines.between + at..], count: some, ..lines };
            joined(&mut square, SQUARE, part, long);
            turn(&square, &mut out[at * to_line + first / 2..], to_line, (some.div_ceil(2), long));
        }
    }
}

/// Writes the first `rows` rows of `square`, of which the first `columns` count, as columns of `out`.
fn turn(square: &[f32; SQUARE * SQUARE], out: &mut [f32], to_line: usize, (rows, columns): (usize, usize)) {
    #[cfg(target_arch = "x86_64")]
    if rows == SQUARE && columns == SQUARE && wide::is_there() {
        // SAFETY: the machine has the instructions.
        return unsafe { wide::turn(square, out, to_line) };
    }
    for (i, row) in square.chunks_exact(SQUARE).enumerate().take(rows) {
        for (j, value) in row.iter().enumerate().take(columns) {
            out[j * to_line + i] = *value;
        }
    }
}

/// The same of lines whose numbers do not lie together either, `step` apart: pair `k` of line `i` to `i · to.0 + k · to.1`.
fn scattered(out: &mut [f32], to: (usize, usize), lines: Lines, (step, length): (usize, usize)) {
    for i in 0..lines.count {
        let at = |k: usize| if k < length { lines.data[i * lines.between + k * step] } else { 0.0 };
        for k in 0..length.div_ceil(2) {
            out[i * to.0 + k * to.1] = pair(at(2 * k), at(2 * k + 1));
        }
    }
}

/// With the instructions that round vectors to bf16. They take what is too small for a normal number for zero, as the products do.
#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::*;
    use std::sync::OnceLock;

    use super::SQUARE;
    use crate::wide::Level;

    /// Whether the machine has AVX-512 with bf16; asked for each row.
    pub fn is_there() -> bool {
        static THERE: OnceLock<bool> = OnceLock::new();
        *THERE.get_or_init(|| Level::of_the_machine() == Level::Avx512 && is_x86_feature_detected!("avx512bf16"))
    }

    /// The first `count` of sixteen lanes.
    fn lanes(count: usize) -> __mmask16 {
        if count < 16 { (1 << count) - 1 } else { !0 }
    }

    /// Numbers from `at` on, as many as there are of a vector's, and else 0.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn load(line: &[f32], at: usize) -> __m512 {
        let left = line.len().saturating_sub(at);
        // SAFETY: lanes beyond the line are not read.
        unsafe { _mm512_maskz_loadu_ps(lanes(left), line.as_ptr().wrapping_add(at)) }
    }

    /// Both vectors rounded, the first in the lower half.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn both(low: __m512, high: __m512) -> __m512i {
        // SAFETY: vectors of the same bits, under another name.
        unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
    }

    /// Writes a vector from `at` on, as far as there is room.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn store(out: &mut [f32], at: usize, pairs: __m512i) {
        let left = out.len().saturating_sub(at);
        // SAFETY: lanes beyond the slice are not written.
        unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr().wrapping_add(at), lanes(left), _mm512_castsi512_ps(pairs)) }
    }

    /// Pairs of the numbers of a line.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub fn narrow(out: &mut [f32], line: &[f32]) {
        for at in (0..line.len()).step_by(32) {
            store(out, at / 2, both(load(line, at), load(line, at + 16)));
        }
    }

    /// Pairs of the numbers of two lines; without a second one, beside 0.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub fn join(out: &mut [f32], first: &[f32], second: Option<&[f32]>) {
        let mut places = [0_u16; 32];
        for (i, place) in places.iter_mut().enumerate() {
            *place = (i / 2 + 16 * (i % 2)) as u16;
        }
        // SAFETY: 64 bytes.
        let places = unsafe { _mm512_loadu_si512(places.as_ptr().cast()) };
        for at in (0..first.len()).step_by(16) {
            let high = second.map_or(_mm512_setzero_ps(), |second| load(second, at));
            store(out, at, _mm512_permutexvar_epi16(places, both(load(first, at), high)));
        }
    }

    /// Rows become columns, whose beginnings lie one behind the other.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub fn turn(square: &[f32; SQUARE * SQUARE], out: &mut [f32], to_line: usize) {
        assert!(out.len() >= (SQUARE - 1) * to_line + SQUARE, "the square does not fit");
        let mut r = [_mm512_setzero_si512(); SQUARE];
        for (i, row) in r.iter_mut().enumerate() {
            // SAFETY: 16 floats of the square.
            *row = unsafe { _mm512_loadu_si512(square.as_ptr().wrapping_add(i * SQUARE).cast()) };
        }
        // Pairs of rows, then of pairs, then of quarters: each round doubles how many rows a quarter of a vector holds.
        let mut t = r;
        for i in (0..SQUARE).step_by(2) {
            t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
            t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
        }
        for i in (0..SQUARE).step_by(4) {
            r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
            r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
            r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
            r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
        }
        // r[4·g + c] holds, in its quarter q, column 4·q + c of rows 4·g to 4·g + 3.
        for c in 0..4 {
            let low = _mm512_shuffle_i32x4::<0x88>(r[c], r[4 + c]);
            let high = _mm512_shuffle_i32x4::<0xdd>(r[c], r[4 + c]);
            let low_next = _mm512_shuffle_i32x4::<0x88>(r[8 + c], r[12 + c]);
            let high_next = _mm512_shuffle_i32x4::<0xdd>(r[8 + c], r[12 + c]);
            let columns = [
                (c, _mm512_shuffle_i32x4::<0x88>(low, low_next)),
                (4 + c, _mm512_shuffle_i32x4::<0x88>(high, high_next)),
                (8 + c, _mm512_shuffle_i32x4::<0xdd>(low, low_next)),
                (12 + c, _mm512_shuffle_i32x4::<0xdd>(high, high_next)),
            ];
            for (column, values) in columns {
                // SAFETY: 16 floats of `out`, as was found above.
                unsafe { _mm512_storeu_si512(out.as_mut_ptr().wrapping_add(column * to_line).cast(), values) };
            }
        }
    }
}
