//! Random numbers by key: a stream hangs on what it is for, never on what was drawn before it.
//!
//! **Invariant:** the same (seed, epoch, sample, name) gives the same numbers on every machine, for any number of
//! threads, before and after a restart: integers, IEEE's basic operations and `libm` in software, nothing of the platform's.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::view::Draw;

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub seed: u64,
    pub epoch: u64,
    pub sample: u64,
}

impl Key {
    /// The stream of `name`, from its start.
    pub fn stream(&self, name: &str) -> Stream {
        let mut hasher = blake3::Hasher::new_derive_key("cmae 2026 random stream (seed, epoch, sample, name)");
        for number in [self.seed, self.epoch, self.sample] {
            hasher.update(&number.to_le_bytes());
        }
        // The name comes last: nothing that follows could be taken for its end.
        hasher.update(name.as_bytes());
        Stream(ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()))
    }
}

/// Random numbers of one key.
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// Mean 0, deviation 1.
    /// Source: Box and Muller 1958.
    pub fn normal(&mut self) -> f64 {
        // 1 − u lies in (0, 1]: its logarithm is finite.
        let radius = (-2.0 * libm::log(1.0 - self.uniform())).sqrt();
        radius * libm::cos(std::f64::consts::TAU * self.uniform())
    }
}

impl Draw for Stream {
    fn uniform(&mut self) -> f64 {
        // The 53 bits of a double's significand: every multiple of 2⁻⁵³ in [0, 1) is as likely.
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, n: u64) -> u64 {
        // Values of the last, incomplete multiple of n are drawn anew, so that none is more likely.
        let limit = u64::MAX - u64::MAX % n;
        loop {
            let value = self.0.next_u64();
            if value < limit {
                return value % n;
            }
        }
    }
}
