//! Every limit that a settings file is held to, units last.

use crate::fraction::Fraction;
use consilium_protocol::graph::MODELS_MAX;
use std::ops::RangeInclusive;

/// Bytes of one settings file.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// Problems listed for one file; further ones are counted only.
pub const PROBLEMS_MAX: usize = 64;
/// Bytes of a path.
pub const PATH_BYTES_MAX: usize = 4096;
/// Bytes of the path of a Unix socket: what the kernel's address structure holds, without the final zero.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Bytes of a log filter.
pub const FILTER_BYTES_MAX: usize = 1024;

/// Characters of a member's, pair's or task's name.
pub const NAME_CHARS: RangeInclusive<usize> = 1..=63;
/// Characters of a peer id in base 58.
pub const PEER_CHARS: RangeInclusive<usize> = 40..=60;
/// Characters of a class, feature, title or organisation.
pub const LABEL_CHARS: RangeInclusive<usize> = 1..=128;
/// Bytes of one address.
pub const ADDRESS_BYTES_MAX: usize = 300;
/// Addresses of one member, or on which one node listens.
pub const ADDRESSES_MAX: usize = 16;

/// Members of a consortium.
pub const MEMBERS: RangeInclusive<usize> = 1..=2048;
/// Pairs of compute parties.
pub const PAIRS_MAX: usize = 256;
/// Further pairs of one task.
pub const STANDBY_MAX: usize = 3;
/// Slice of a budget that one pair may spend, and numerator and denominator of it.
pub const SLICE: RangeInclusive<Fraction> = fraction(1, 1000)..=fraction(999, 1000);
/// Largest denominator of a slice.
pub const SLICE_TERM_MAX: u64 = 1000;
/// Tasks of a consortium.
pub const TASKS_MAX: usize = 256;
/// Classes of a task.
pub const CLASSES: RangeInclusive<usize> = 2..=64;
/// Model owners of a task.
pub const OWNERS: RangeInclusive<usize> = 1..=1024;
/// Owners that must vote for an answer; never more than the task has.
pub const OWNERS_MIN: RangeInclusive<u32> = 1..=1024;
/// Models of each owner in a task.
pub const SHARDS: RangeInclusive<u32> = 1..=64;
/// Votes of a task, those of all owners together: what a plan takes.
pub const VOTES_MAX: usize = MODELS_MAX;
/// Clients of a task.
pub const CLIENTS: RangeInclusive<usize> = 1..=2048;
/// Members of a task of encodings.
pub const HOSPITALS: RangeInclusive<usize> = 2..=2048;
/// Inputs that one client may have answered in all by the owner of a homomorphic task.
pub const INPUTS_PER_CLIENT: RangeInclusive<u64> = 1..=1_000_000_000;
/// Values of one query's input.
pub const INPUT_VALUES: RangeInclusive<u32> = 1..=65_536;
/// Queries evaluated side by side.
pub const BATCH_QUERIES: RangeInclusive<u32> = 1..=64;
/// Prepared queries of one task.
pub const STOCK_QUERIES: RangeInclusive<u32> = 0..=65_536;
/// Bits after the binary point.
pub const FRACTION_BITS: RangeInclusive<u32> = 8..=20;
/// Bits before the binary point of any value on a wire.
pub const VALUE_BITS: RangeInclusive<u32> = 1..=24;
/// Bits before the binary point of a distance of a one-class task.
pub const DISTANCE_BITS: RangeInclusive<u32> = 1..=44;
/// Bits of a distance as a word: it has twice the task's bits after the point.
pub const DISTANCE_WORD_BITS_MAX: u32 = 60;
/// A product before truncation, with two bits of headroom, must stay below this many bits.
pub const PRODUCT_BITS_MAX: u32 = 62;
/// Magnitude of an offset or scale of a feature.
pub const FEATURE_MAGNITUDE_MAX: f64 = 1e12;

/// Deviation of Gaussian noise, in votes.
pub const SIGMA_VOTES: RangeInclusive<Fraction> = fraction(1, 10)..=fraction(1000, 1);
/// Votes that a top count must reach for an answer; one owner may have several models.
pub const THRESHOLD_VOTES: RangeInclusive<u32> = 1..=65_536;
/// Numerator and denominator of a deviation: their squares stay exact in the accounts.
pub const SIGMA_TERM_MAX: u64 = 1 << 20;
/// Privacy loss of one answer or of a whole budget.
pub const EPSILON: RangeInclusive<Fraction> = fraction(1, 1000)..=fraction(1000, 1);
/// Numerator and denominator of a privacy loss.
pub const EPSILON_TERM_MAX: u64 = 1 << 40;
/// Failure probability of a promise; above one in a hundred it promises nothing.
pub const DELTA: RangeInclusive<Fraction> = fraction(1, 1_000_000_000_000_000_000)..=fraction(1, 100);
/// Largest significand of a failure probability: six decimal digits.
pub const DELTA_SIGNIFICAND_MAX: u64 = 999_999;

/// Connections held to one peer.
pub const CONNECTIONS_PER_PEER: RangeInclusive<u32> = 1..=8;
/// Streams held with one peer.
pub const STREAMS_PER_PEER: RangeInclusive<u32> = 4..=512;
/// Bytes of one frame.
pub const FRAME_BYTES: RangeInclusive<u32> = 65_536..=268_435_456;
/// Milliseconds of any deadline on the network.
pub const DEADLINE_MS: RangeInclusive<u64> = 100..=3_600_000;
/// Bytes of prepared material on one node.
pub const POOL_BYTES: RangeInclusive<u64> = 1_048_576..=1_099_511_627_776;
/// Queries' worth of material made in one refill.
pub const REFILL_QUERIES: RangeInclusive<u32> = 1..=4096;
/// Prepared queries of one node over all tasks.
pub const PREPARED_QUERIES: RangeInclusive<u32> = 1..=1_048_576;
/// Bytes of the body of one request to the REST interface.
pub const HTTP_BODY_BYTES: RangeInclusive<u32> = 4096..=67_108_864;
/// The same where the node file says nothing.
pub const HTTP_BODY_BYTES_DEFAULT: u32 = 8_388_608;

const fn fraction(numerator: u64, denominator: u64) -> Fraction {
    match Fraction::new(numerator, denominator) {
        Some(fraction) => fraction,
        None => panic!("a limit is out of range; this stops the build, not the program"),
    }
}
