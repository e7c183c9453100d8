//! Operands in pairs of bf16, as instructions on bf16 take them: a float's bits hold the numbers of k and k + 1, the lower in the lower half.
//!
//! A left operand is packed row after row, a right one in panels whose rows are pairs of its own. An odd last number stands beside 0, and
//! so does what a kernel reads beyond.
#![allow(unsafe_code, reason = "vector instructions take pointers, and are there on some machines only")]

use super::super::stored::{bf16, nearest, widened};

/// Rows and columns that are turned at once.
const SQUARE: usize = 16;

/// Part of a matrix whose element (i, j) is `data[i · row + j · column]`.
#[derive(Clone, Copy)]
pub(super) struct Part<'a, T> {
    pub data: &'a [T],
    pub row: usize,
    pub column: usize,
}

/// How lines of numbers become pairs.
pub(super) trait Number: Copy + Sync {
    /// The bits of the number of bf16 that is nearest.
    fn bits(self) -> u32;
    /// Pairs of the numbers of a line, each [`SQUARE`] of them `step` floats behind those before.
    fn narrow(out: &mut [f32], step: usize, line: &[Self]);
    /// Pairs of the numbers of two lines; without a second one, beside 0.
    fn join(out: &mut [f32], first: &[Self], second: Option<&[Self]>);
}

/// Packs a panel of `columns` columns of `b` and `depth` rows as `slots` rows of pairs.
pub(super) fn panel<T: Number>(out: &mut [f32], b: Part<T>, (depth, columns): (usize, usize), slots: usize) {
    let width = out.len() / slots;
    let lines = Lines { data: b.data, between: b.row, count: depth };
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

/// Packs `rows` rows of `a` and `depth` columns as rows of `slots` pairs.
pub(super) fn rows<T: Number>(out: &mut [f32], a: Part<T>, (rows, depth): (usize, usize), slots: usize) {
    let lines = Lines { data: a.data, between: a.row, count: rows };
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

/// Packs `rows` rows of `a` and `depth` columns, [`SQUARE`] pairs of all rows behind one another: what lies beyond the last column is 0.
pub(super) fn rows_of_tiles<T: Number>(out: &mut [f32], a: Part<T>, (rows, depth): (usize, usize), tile: usize) {
    for i in 0..rows {
        T::narrow(&mut out[i * SQUARE..], tile, &a.data[i * a.row..][..depth]);
    }
}

/// Lines of numbers, the first of each `between` numbers behind that of the last.
#[derive(Clone, Copy)]
struct Lines<'a, T> {
    data: &'a [T],
    between: usize,
    count: usize,
}

impl<'a, T> Lines<'a, T> {
    fn line(self, i: usize, length: usize) -> &'a [T]
    where
        T: Copy,
    {
        &self.data[i * self.between..][..length]
    }
}

/// The nearest number of bf16, as a float.
#[inline(always)]
pub(super) fn rounded(x: f32) -> f32 {
    widened(nearest(x))
}

/// Two numbers in a float's bits.
#[inline(always)]
fn pair<T: Number>(low: T, high: Option<T>) -> f32 {
    f32::from_bits(high.map_or(0, T::bits) << 16 | low.bits())
}

fn narrow_each<T: Number>(out: &mut [f32], step: usize, line: &[T]) {
    for (out, numbers) in out.chunks_mut(step).zip(line.chunks(2 * SQUARE)) {
        let some = SQUARE.min(out.len());
        out[..some].fill(0.0);
        for (out, numbers) in out.iter_mut().zip(numbers.chunks(2)) {
            *out = pair(numbers[0], numbers.get(1).copied());
        }
    }
}

fn join_each<T: Number>(out: &mut [f32], first: &[T], second: Option<&[T]>) {
    for (j, (out, low)) in out.iter_mut().zip(first).enumerate() {
        *out = pair(*low, second.map(|second| second[j]));
    }
}

impl Number for f32 {
    #[inline(always)]
    fn bits(self) -> u32 {
        nearest(self).bits()
    }

    fn narrow(out: &mut [f32], step: usize, line: &[f32]) {
        #[cfg(target_arch = "x86_64")]
        if wide::is_there() {
            // SAFETY: the machine has the instructions.
            return unsafe { wide::narrow(out, step, line) };
        }
        narrow_each(out, step, line);
    }

    fn join(out: &mut [f32], first: &[f32], second: Option<&[f32]>) {
        #[cfg(target_arch = "x86_64")]
        if wide::is_there() {
            // SAFETY: the machine has the instructions.
            return unsafe { wide::join(out, first, second) };
        }
        join_each(out, first, second);
    }
}

impl Number for bf16 {
    #[inline(always)]
    fn bits(self) -> u32 {
        u32::from(self.to_bits())
    }

    fn narrow(out: &mut [f32], step: usize, line: &[bf16]) {
        #[cfg(target_arch = "x86_64")]
        if wide::is_there() {
            // SAFETY: the machine has the instructions.
            return unsafe { wide::narrow_halves(out, step, line) };
        }
        narrow_each(out, step, line);
    }

    fn join(out: &mut [f32], first: &[bf16], second: Option<&[bf16]>) {
        #[cfg(target_arch = "x86_64")]
        if wide::is_there() {
            // SAFETY: the machine has the instructions.
            return unsafe { wide::join_halves(out, first, second) };
        }
        join_each(out, first, second);
    }
}

/// Pairs of each line, one behind the other, from `line · to_line` on.
fn narrowed<T: Number>(out: &mut [f32], to_line: usize, lines: Lines<T>, length: usize) {
    for i in 0..lines.count {
        T::narrow(&mut out[i * to_line..][..length.div_ceil(2)], SQUARE, lines.line(i, length));
    }
}

/// Pairs of numbers that lie in two lines, one line of pairs for two of numbers.
fn joined<T: Number>(out: &mut [f32], to_line: usize, lines: Lines<T>, length: usize) {
    for i in 0..lines.count.div_ceil(2) {
        let out = &mut out[i * to_line..][..length];
        let first = lines.line(2 * i, length);
        let second = (2 * i + 1 < lines.count).then(|| lines.line(2 * i + 1, length));
        T::join(out, first, second);
    }
}

/// Pairs of each line, those of a line `to_line` apart: lines become columns.
fn turned<T: Number>(out: &mut [f32], to_line: usize, lines: Lines<T>, length: usize) {
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
fn turned_joined<T: Number>(out: &mut [f32], to_line: usize, lines: Lines<T>, length: usize) {
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
fn scattered<T: Number>(out: &mut [f32], to: (usize, usize), lines: Lines<T>, (step, length): (usize, usize)) {
    for i in 0..lines.count {
        let at = |k: usize| lines.data[i * lines.between + k * step];
        for k in 0..length.div_ceil(2) {
            out[i * to.0 + k * to.1] = pair(at(2 * k), (2 * k + 1 < length).then(|| at(2 * k + 1)));
        }
    }
}

/// With the instructions that round vectors to bf16. They take what is too small for a normal number for zero, as the products do.
#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::*;
    use std::sync::OnceLock;

    use super::{SQUARE, bf16};
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

    /// Pairs of the numbers of a line, sixteen of them `step` floats behind those before.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub fn narrow(out: &mut [f32], step: usize, line: &[f32]) {
        for (i, at) in (0..line.len()).step_by(32).enumerate() {
            store(out, i * step, both(load(line, at), load(line, at + 16)));
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

    /// The same of numbers that are rounded: they are as they shall be.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub fn narrow_halves(out: &mut [f32], step: usize, line: &[bf16]) {
        for (i, at) in (0..line.len()).step_by(32).enumerate() {
            let left = line.len() - at;
            let some = if left < 32 { (1 << left) - 1 } else { !0 };
            // SAFETY: lanes beyond the line are not read.
            let pairs = unsafe { _mm512_maskz_loadu_epi16(some, line.as_ptr().wrapping_add(at).cast()) };
            store(out, i * step, pairs);
        }
    }

    /// The same of numbers that are rounded.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub fn join_halves(out: &mut [f32], first: &[bf16], second: Option<&[bf16]>) {
        let mut places = [0_u16; 32];
        for (i, place) in places.iter_mut().enumerate() {
            *place = (i / 2 + 16 * (i % 2)) as u16;
        }
        // SAFETY: 64 bytes.
        let places = unsafe { _mm512_loadu_si512(places.as_ptr().cast()) };
        let load = |line: &[bf16], at: usize| {
            let left = line.len().saturating_sub(at);
            // SAFETY: lanes beyond the line are not read.
            unsafe { _mm256_maskz_loadu_epi16(lanes(left), line.as_ptr().wrapping_add(at).cast()) }
        };
        for at in (0..first.len()).step_by(16) {
            let high = second.map_or(_mm256_setzero_si256(), |second| load(second, at));
            let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(load(first, at)), high);
            let pairs = _mm512_permutexvar_epi16(places, both);
            // SAFETY: lanes beyond the slice are not written.
            unsafe {
                let to = out.as_mut_ptr().wrapping_add(at);
                _mm512_mask_storeu_ps(to, lanes(out.len().saturating_sub(at)), _mm512_castsi512_ps(pairs));
            }
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
