//! How a one-class model measures what it is shown, apart from its weights.

use super::network::{Network, NetworkError, PARAMETERS_MAX, Shape, WIRE_VALUES_MAX};
use serde::{Deserialize, Serialize};

/// Most users of a one-class task.
pub const USERS_MAX: usize = 64;
/// Largest rank of a [`Measure::Projection`].
pub const RANK_MAX: u32 = 4096;

/// A distance between an input and what a user's model knows; public to everyone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", try_from = "RawMeasure")]
pub enum Measure {
    /// `|R(x) - x|^2` for a network `R` that gives back its input.
    Reconstruction(Network),
    /// `|x - m|^2 - |B (x - m)|^2` for `rank` rows `B`: the same for `R(x) = m + B' B (x - m)` with orthonormal
    /// rows, from `rank` values instead of all.
    Projection {
        /// Shape of one query.
        input: Shape,
        /// Rows of `B`.
        rank: u32,
    },
}

/// As it is read, before it is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
enum RawMeasure {
    Reconstruction(Network),
    Projection { input: Shape, rank: u32 },
}

impl TryFrom<RawMeasure> for Measure {
    type Error = MeasureError;

    fn try_from(raw: RawMeasure) -> Result<Self, MeasureError> {
        let measure = match raw {
            RawMeasure::Reconstruction(network) => Self::Reconstruction(network),
            RawMeasure::Projection { input, rank } => Self::Projection { input, rank },
        };
        measure.check()?;
        Ok(measure)
    }
}

impl Measure {
    /// Shape of one query.
    pub fn input(&self) -> Shape {
        match self {
            Self::Reconstruction(network) => network.input(),
            Self::Projection { input, .. } => *input,
        }
    }

    /// Checks what a network does not check for itself.
    ///
    /// # Errors
    /// [`MeasureError`] names the limit.
    pub fn check(&self) -> Result<(), MeasureError> {
        let values = self.input().len();
        match self {
            Self::Reconstruction(network) => {
                let found = network.output().len();
                if found == values { Ok(()) } else { Err(MeasureError::Outputs { expected: values, found }) }
            }
            Self::Projection { rank, .. } => {
                if values == 0 || values > WIRE_VALUES_MAX {
                    return Err(NetworkError::Wire { index: 0, values }.into());
                }
                if *rank == 0 || *rank > RANK_MAX || *rank as usize > values {
                    return Err(MeasureError::Rank { rank: *rank, values });
                }
                let parameters = (*rank as usize + 1).saturating_mul(values.saturating_add(1));
                if parameters > PARAMETERS_MAX {
                    return Err(NetworkError::Parameters(parameters).into());
                }
                Ok(())
            }
        }
    }

    /// A short description, such as `784x1x1 pca25`.
    pub fn summary(&self) -> String {
        match self {
            Self::Reconstruction(network) => network.summary(),
            Self::Projection { input, rank } => format!("{input} pca{rank}"),
        }
    }
}

/// Why a measure measures nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeasureError {
    /// A limit of networks.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The network gives back something else.
    #[error("a reconstructor gives back its input of {expected} values, this network has {found} outputs")]
    Outputs {
        /// Values of the input.
        expected: usize,
        /// Outputs of the network.
        found: usize,
    },
    /// No rank of a projection of so many values.
    #[error("rank {rank}; it is at least 1, at most {RANK_MAX} and at most the {values} values of the input")]
    Rank {
        /// The rank given.
        rank: u32,
        /// Values of the input.
        values: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Layer;

    #[test]
    fn what_measures_nothing_is_refused() {
        let input = Shape::vector(6);
        let network = |outputs| Network::new(input, vec![Layer::Dense { outputs }]).unwrap();
        assert_eq!(Measure::Reconstruction(network(6)).check(), Ok(()));
        let refused = Err(MeasureError::Outputs { expected: 6, found: 5 });
        assert_eq!(Measure::Reconstruction(network(5)).check(), refused);
        let rank = |input, rank| Measure::Projection { input, rank }.check();
        assert_eq!(rank(input, 6), Ok(()));
        for refused in [0, 7, u32::MAX] {
            assert_eq!(rank(input, refused), Err(MeasureError::Rank { rank: refused, values: 6 }));
        }
        let empty = NetworkError::Wire { index: 0, values: 0 };
        assert_eq!(rank(Shape::vector(0), 1), Err(empty.into()));
        let large = rank(Shape::vector(1 << 20), 64).unwrap_err();
        assert!(matches!(large, MeasureError::Network(NetworkError::Parameters(_))), "{large}");
    }
}
