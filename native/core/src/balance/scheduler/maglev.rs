//! mh: Maglev's consistent hashing (Eisenbud et al., NSDI 2016, section 3.4) with IPVS's table size, keys and
//! treatment of weights.

use std::sync::Arc;

use super::{Schedule, gcd};
use crate::balance::destination::Destination;
use crate::balance::flow::{Flow, fold};
use crate::balance::service::HashOptions;

/// Entries of the look-up table: the prime for the kernel's default `CONFIG_IP_VS_MH_TAB_INDEX` = 12.
const SIZE: u32 = 4093;
/// Weights are shifted until the greatest has at most this many bits (half of the table index).
const TURN_BITS: u32 = 6;
/// The kernel's two constant keys.
const POSITION_KEY: [u64; 2] = [2_654_435_761; 2];
const STRIDE_KEY: [u64; 2] = [2_654_446_892; 2];

const EMPTY: u16 = u16::MAX;

/// SipHash-1-3 of four bytes, cut to 32 bits: Linux's `hsiphash` on 64-bit machines.
fn hsiphash(value: u32, key: [u64; 2]) -> u32 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    let block = 4u64 << 56 | u64::from(value);
    v[3] ^= block;
    round(&mut v);
    v[0] ^= block;
    v[2] ^= 0xff;
    for _ in 0..3 {
        round(&mut v);
    }
    (v[0] ^ v[1] ^ v[2] ^ v[3]) as u32
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

/// A destination's walk over the table while it is filled.
struct Walk {
    position: u16,
    turns: u32,
    next: u32,
    stride: u32,
}

fn walks(destinations: &[Arc<Destination>]) -> Vec<Walk> {
    let weights = || destinations.iter().map(|destination| destination.last_weight());
    let divisor = weights().fold(0, gcd).max(1);
    let heaviest = weights().max().unwrap_or(0) / divisor;
    let shift = (u32::BITS - heaviest.leading_zeros()).saturating_sub(TURN_BITS);
    let walk = |(position, destination): (usize, &Arc<Destination>)| {
        let weight = destination.last_weight();
        let address = destination.address();
        let value = fold(address.ip()).wrapping_add(u32::from(address.port()));
        Walk {
            position: position as u16,
            turns: ((weight / divisor) >> shift).max(u32::from(weight != 0)),
            next: hsiphash(value, POSITION_KEY) % SIZE,
            stride: hsiphash(value, STRIDE_KEY) % (SIZE - 1) + 1,
        }
    };
    destinations.iter().take(SIZE as usize).enumerate().map(walk).filter(|walk| walk.turns > 0).collect()
}

fn populate(destinations: &[Arc<Destination>]) -> Box<[u16]> {
    let mut walks = walks(destinations);
    if walks.is_empty() {
        return Box::default();
    }
    let mut table = vec![EMPTY; SIZE as usize];
    let mut free = table.len();
    'filled: loop {
        for walk in &mut walks {
            for _ in 0..walk.turns {
                // The stride and the prime size have no common divisor: the walk meets every entry.
                while table[walk.next as usize] != EMPTY {
                    walk.next = (walk.next + walk.stride) % SIZE;
                }
                table[walk.next as usize] = walk.position;
                free -= 1;
                if free == 0 {
                    break 'filled;
                }
            }
        }
    }
    table.into()
}

pub(super) struct Maglev {
    options: HashOptions,
    table: Box<[u16]>,
}

impl Maglev {
    pub(super) fn new(options: HashOptions) -> Self {
        Self { options, table: Box::default() }
    }
}

impl Schedule for Maglev {
    fn pick(&self, destinations: &[Arc<Destination>], flow: &Flow) -> Option<usize> {
        let port = if self.options.port { u32::from(flow.source.port()) } else { 0 };
        let value = fold(flow.source.ip()).wrapping_add(port);
        let entry = |offset: u32| {
            let hash = hsiphash(value.wrapping_add(offset), POSITION_KEY) % SIZE;
            (self.table.get(hash as usize).map(|&position| position as usize), hash)
        };
        let (first, start) = entry(0);
        let first = first?;
        if destinations[first].available() {
            return Some(first);
        }
        if !self.options.fallback {
            return None;
        }
        (0..SIZE)
            .filter_map(|step| entry((step + start) % SIZE).0)
            .find(|&position| destinations[position].available())
    }

    fn successor(&self, _old: &[Arc<Destination>], new: &[Arc<Destination>]) -> Box<dyn Schedule> {
        Box::new(Self { options: self.options, table: populate(new) })
    }
}

#[cfg(test)]
mod tests {
    use super::hsiphash;

    /// The vector for four bytes in Linux's lib/tests/siphash_kunit.c.
    #[test]
    fn hsiphash_agrees_with_the_kernel() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        assert_eq!(hsiphash(0x0302_0100, key), 0x88d3_8328);
    }
}
