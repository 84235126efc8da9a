//! One party's noise for one release.

use std::fmt;
use zeroize::Zeroizing;

/// Most classes of one release.
pub const CLASSES_MAX: usize = 4096;

/// Noise for each class count of one release, and for the largest count where a threshold asks for it, for one
/// party to add to its shares.
///
/// Neither printed nor copied, and wiped when dropped. Taking the values consumes the share: noise that is
/// used twice cancels in the difference of two releases.
#[must_use = "dropping a share burns its noise"]
pub struct NoiseShare {
    values: Zeroizing<Vec<i64>>,
    threshold: Option<Zeroizing<i64>>,
}

impl NoiseShare {
    pub(crate) fn new(values: Zeroizing<Vec<i64>>, threshold: Option<Zeroizing<i64>>) -> Self {
        Self { values, threshold }
    }

    /// How many classes there is noise for.
    pub fn classes(&self) -> usize {
        self.values.len()
    }

    /// The noise, one integer for each class in class order, and behind them the one for the largest count where
    /// there is a threshold. As a ring element each is its two's complement.
    pub fn into_values(self) -> Zeroizing<Vec<i64>> {
        let Some(threshold) = self.threshold else { return self.values };
        // One allocation of the right size, so that none is left behind unwiped.
        let mut all: Zeroizing<Vec<i64>> = Zeroizing::new(Vec::with_capacity(self.values.len() + 1));
        all.extend_from_slice(&self.values);
        all.push(*threshold);
        all
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
        let share = NoiseShare::new(Zeroizing::new(vec![987_654, -987_654]), Some(Zeroizing::new(5)));
        assert_eq!(format!("{share:?}"), "NoiseShare(2 classes)");
        assert_eq!(*share.into_values(), vec![987_654, -987_654, 5]);
    }
}
