//! A population.

use super::SeedUser;

/// `n` users.
pub fn users(n: usize, seed: u64) -> Vec<SeedUser> {
    (0..n).map(|i| SeedUser::with_email(format!("person{i}.{seed}@example.com"))).collect()
}
