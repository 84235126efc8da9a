//! One party's noise for one release.

use std::fmt;
use zeroize::Zeroizing;

/// Most classes of one release.
pub const CLASSES_MAX: usize = 4096;

/// Noise for each class count of one release, for one party to add to its shares.
///
/// Neither printed nor copied, and wiped when dropped. Taking the values consumes the share: noise that is
/// used twice cancels in the difference of two releases.
#[must_use = "dropping a share burns its noise"]
pub struct NoiseShare {
    values: Zeroizing<Vec<i64>>,
}

impl NoiseShare {
    pub(crate) fn new(values: Zeroizing<Vec<i64>>) -> Self {
        Self { values }
    }

    /// How many classes there is noise for.
    pub fn classes(&self) -> usize {
        self.values.len()
    }

    /// The noise, one integer for each class in class order. As a ring element each is its two's complement.
    pub fn into_values(self) -> Zeroizing<Vec<i64>> {
        self.values
    }
}

impl fmt::Debug for NoiseShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoiseShare({} classes)", self.classes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_not_printed() {
        let share = NoiseShare::new(Zeroizing::new(vec![987_654, -987_654]));
        assert_eq!(format!("{share:?}"), "NoiseShare(2 classes)");
        assert_eq!(*share.into_values(), vec![987_654, -987_654]);
    }
}
