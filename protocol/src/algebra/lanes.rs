//! Vector instructions for sums of 64-bit products, one implementation per instruction set.

use pulp::NullaryFnOnce;
use pulp::bytemuck::Pod;

/// Registers of one instruction set, seen as rows of 64-bit words.
///
/// A sum of products may be kept in several registers until [`Lanes::total`] joins them, since
/// AVX2 has no 64-bit product and pays less when the halves are joined once at the end.
pub(super) trait Lanes: Copy {
    /// Words in a register, as they lie in memory.
    type Vector: Pod;
    /// A register prepared to be the right operand of many products.
    type Right: Copy;
    /// A sum of products in progress.
    type Sum: Copy;
    /// Words of a vector.
    const LANES: usize = size_of::<Self::Vector>() / size_of::<u64>();

    /// All lanes equal to `value`.
    fn splat(self, value: u64) -> Self::Vector;
    /// Prepares a right operand.
    fn right(self, vector: Self::Vector) -> Self::Right;
    /// The empty sum.
    fn empty(self) -> Self::Sum;
    /// `sum + left * right`, lane by lane.
    fn multiply_add(self, sum: Self::Sum, left: Self::Vector, right: Self::Right) -> Self::Sum;
    /// The value of a sum.
    fn total(self, sum: Self::Sum) -> Self::Vector;
    /// Lane-wise sum.
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
}

/// Work that is written once over [`Lanes`].
pub(super) trait Kernel {
    /// Runs with the given instructions. Implementations are `#[inline(always)]`, else the
    /// instruction set does not reach their body. `ROWS` and `VECTORS` are the tile which the
    /// registers of the set can hold.
    fn run<L: Lanes, const ROWS: usize, const VECTORS: usize>(self, lanes: L);
}

struct Bound<L, K, const ROWS: usize, const VECTORS: usize> {
    lanes: L,
    kernel: K,
}

impl<L: Lanes, K: Kernel, const ROWS: usize, const VECTORS: usize> NullaryFnOnce
    for Bound<L, K, ROWS, VECTORS>
{
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.kernel.run::<L, ROWS, VECTORS>(self.lanes);
    }
}

/// An instruction set, chosen at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// No vector instructions beyond those of the compilation target.
    Scalar,
    /// AVX2 on x86-64.
    #[cfg(target_arch = "x86_64")]
    V3,
    /// AVX-512 F, DQ and VL on x86-64.
    #[cfg(target_arch = "x86_64")]
    V4,
}

impl Level {
    /// Every level that this machine can run, best first.
    pub(super) fn available() -> impl Iterator<Item = Self> {
        [
            #[cfg(target_arch = "x86_64")]
            pulp::x86::V4::is_available().then_some(Self::V4),
            #[cfg(target_arch = "x86_64")]
            pulp::x86::V3::is_available().then_some(Self::V3),
            Some(Self::Scalar),
        ]
        .into_iter()
        .flatten()
    }

    /// Runs the kernel at this level, or at `Scalar` where the machine lacks the level.
    pub(super) fn run(self, kernel: impl Kernel) {
        #[cfg(target_arch = "x86_64")]
        match self {
            Self::V4 => {
                if let Some(lanes) = pulp::x86::V4::try_new() {
                    return lanes.vectorize(Bound::<_, _, 8, 2> { lanes, kernel });
                }
            }
            Self::V3 => {
                if let Some(lanes) = pulp::x86::V3::try_new() {
                    return lanes.vectorize(Bound::<_, _, 2, 2> { lanes, kernel });
                }
            }
            Self::Scalar => {}
        }
        Bound::<_, _, 2, 4> { lanes: Plain, kernel }.call();
    }
}

/// Runs the kernel on the best level of this machine.
pub(super) fn run(kernel: impl Kernel) {
    if let Some(level) = Level::available().next() {
        level.run(kernel);
    }
}

#[derive(Clone, Copy)]
struct Plain;

impl Lanes for Plain {
    type Vector = u64;
    type Right = u64;
    type Sum = u64;

    #[inline(always)]
    fn splat(self, value: u64) -> u64 {
        value
    }

    #[inline(always)]
    fn right(self, vector: u64) -> u64 {
        vector
    }

    #[inline(always)]
    fn empty(self) -> u64 {
        0
    }

    #[inline(always)]
    fn multiply_add(self, sum: u64, left: u64, right: u64) -> u64 {
        sum.wrapping_add(left.wrapping_mul(right))
    }

    #[inline(always)]
    fn total(self, sum: u64) -> u64 {
        sum
    }

    #[inline(always)]
    fn add(self, a: u64, b: u64) -> u64 {
        a.wrapping_add(b)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use core::arch::x86_64::{__m256i, __m512i};
    use pulp::bytemuck::cast;
    use pulp::x86::{V3, V4};
    use pulp::{u64x4, u64x8};

    impl Lanes for V4 {
        type Vector = u64x8;
        type Right = u64x8;
        type Sum = u64x8;

        #[inline(always)]
        fn splat(self, value: u64) -> u64x8 {
            self.splat_u64x8(value)
        }

        #[inline(always)]
        fn right(self, vector: u64x8) -> u64x8 {
            vector
        }

        #[inline(always)]
        fn empty(self) -> u64x8 {
            self.splat_u64x8(0)
        }

        #[inline(always)]
        fn multiply_add(self, sum: u64x8, left: u64x8, right: u64x8) -> u64x8 {
            let product: __m512i = self.avx512dq._mm512_mullo_epi64(cast(left), cast(right));
            self.add(sum, cast(product))
        }

        #[inline(always)]
        fn total(self, sum: u64x8) -> u64x8 {
            sum
        }

        #[inline(always)]
        fn add(self, a: u64x8, b: u64x8) -> u64x8 {
            cast(self.avx512f._mm512_add_epi64(cast(a), cast(b)))
        }
    }

    /// Sums in progress under AVX2: full products of the low halves, and products of low with
    /// high halves, of which only 32 bits count, in both 32-bit halves of each lane.
    #[derive(Clone, Copy)]
    pub(in crate::algebra) struct Halves {
        low: __m256i,
        cross: __m256i,
    }

    impl Lanes for V3 {
        type Vector = u64x4;
        type Right = (__m256i, __m256i);
        type Sum = Halves;

        #[inline(always)]
        fn splat(self, value: u64) -> u64x4 {
            self.splat_u64x4(value)
        }

        #[inline(always)]
        fn right(self, vector: u64x4) -> (__m256i, __m256i) {
            let plain: __m256i = cast(vector);
            (plain, self.avx2._mm256_shuffle_epi32::<0b1011_0001>(plain))
        }

        #[inline(always)]
        fn empty(self) -> Halves {
            let zero = cast(self.splat_u64x4(0));
            Halves { low: zero, cross: zero }
        }

        #[inline(always)]
        fn multiply_add(self, sum: Halves, left: u64x4, right: (__m256i, __m256i)) -> Halves {
            let (plain, swapped) = right;
            let low = self.avx2._mm256_mul_epu32(cast(left), plain);
            let cross = self.avx2._mm256_mullo_epi32(cast(left), swapped);
            Halves {
                low: self.avx2._mm256_add_epi64(sum.low, low),
                cross: self.avx2._mm256_add_epi32(sum.cross, cross),
            }
        }

        #[inline(always)]
        fn total(self, sum: Halves) -> u64x4 {
            let swapped = self.avx2._mm256_shuffle_epi32::<0b1011_0001>(sum.cross);
            let cross = self.avx2._mm256_add_epi32(sum.cross, swapped);
            let high = self.avx2._mm256_slli_epi64::<32>(cross);
            cast(self.avx2._mm256_add_epi64(sum.low, high))
        }

        #[inline(always)]
        fn add(self, a: u64x4, b: u64x4) -> u64x4 {
            cast(self.avx2._mm256_add_epi64(cast(a), cast(b)))
        }
    }
}
