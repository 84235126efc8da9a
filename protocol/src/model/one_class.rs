//! What a user trains on its own data alone: a distance from what it knows, and how far is too far.

use super::Model;
use crate::graph::{Layer, Measure, MeasureError, Shape};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// How far the rows of a projection may be from orthonormal, and its two matrices from each other: what numbers of
/// single precision leave. Each part of an input's square may come into its distance so much too large or too small.
const ORTHONORMAL_ERROR_MAX: f64 = 1e-5;

/// Mean and principal directions.
#[derive(Clone, PartialEq, Zeroize, ZeroizeOnDrop)]
pub struct Projection {
    /// `m`, one per value of the input.
    pub mean: Vec<f32>,
    /// `B`, row-major, each row as long as the mean.
    pub rows: Vec<f32>,
}

impl std::fmt::Debug for Projection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Projection({} + {})", self.rows.len(), self.mean.len())
    }
}

/// Weights of a [`Measure`].
#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Reconstruction(Model),
    Projection { input: Shape, projection: Projection },
}

/// Why weights do not make a one-class model.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OneClassError {
    /// Nothing is measured.
    #[error(transparent)]
    Measure(#[from] MeasureError),
    /// Mean or rows do not fit the input.
    #[error(
        "an input of {values} values needs a mean of as many and rows as long; found {mean} and {rows} in rows"
    )]
    Length {
        /// Values of the input.
        values: usize,
        /// Length of the mean.
        mean: usize,
        /// Length of all rows.
        rows: usize,
    },
    /// NaN or infinity.
    #[error("{0} is not a finite number; retrain or repair the model")]
    NotFinite(&'static str),
    /// The rows are no orthonormal directions.
    #[error(
        "rows {0} and {1} are not orthonormal: publish the model as a reconstructor, or take the rows of a principal component analysis without whitening"
    )]
    Rows(usize, usize),
}

/// A measure with weights and a threshold.
#[derive(Clone, PartialEq)]
pub struct OneClass {
    kind: Kind,
    threshold: f64,
}

impl std::fmt::Debug for OneClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OneClass").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl OneClass {
    /// A network that gives back its input. `threshold` is the largest accepted sum of squared differences: as many
    /// times a mean squared error as the input has values.
    ///
    /// # Errors
    /// The network has other outputs than inputs, or the threshold is no number.
    pub fn reconstruction(model: Model, threshold: f64) -> Result<Self, OneClassError> {
        Self::new(Kind::Reconstruction(model), threshold)
    }

    /// Principal directions. `threshold` is the largest accepted squared distance from their plane.
    ///
    /// # Errors
    /// Lengths do not fit, something is no number, or rows are not orthonormal.
    pub fn projection(input: Shape, projection: Projection, threshold: f64) -> Result<Self, OneClassError> {
        let (values, mean, rows) = (input.len(), projection.mean.len(), projection.rows.len());
        if values == 0 || mean != values || rows == 0 || !rows.is_multiple_of(values) {
            return Err(OneClassError::Length { values, mean, rows });
        }
        let finite = |list: &[f32]| list.iter().all(|value| value.is_finite());
        if !finite(&projection.mean) || !finite(&projection.rows) {
            return Err(OneClassError::NotFinite("a mean or a row"));
        }
        let found = Self::new(Kind::Projection { input, projection }, threshold)?;
        found.directions().map_or(Ok(()), |directions| orthonormal(&directions.rows, values))?;
        Ok(found)
    }

    /// A reconstructor, as the projection that it is where it is one: `m + B' B (x - m)` as two dense layers, the
    /// second the first turned around, as scikit-learn's `PCA` is written to ONNX by `Sub`, `MatMul`, `MatMul` and
    /// `Add`. It is evaluated from as many values as `B` has rows instead of all. Anything else stays what it is.
    ///
    /// # Errors
    /// As [`OneClass::reconstruction`].
    pub fn simplest(model: Model, threshold: f64) -> Result<Self, OneClassError> {
        match projection_in(&model) {
            Some(projection) => {
                let found = Self::projection(model.network().input(), projection, threshold);
                found.or_else(|_| Self::reconstruction(model, threshold))
            }
            None => Self::reconstruction(model, threshold),
        }
    }

    fn new(kind: Kind, threshold: f64) -> Result<Self, OneClassError> {
        if !threshold.is_finite() {
            return Err(OneClassError::NotFinite("the threshold"));
        }
        let one_class = Self { kind, threshold };
        one_class.measure().check()?;
        Ok(one_class)
    }

    /// The public part.
    pub fn measure(&self) -> Measure {
        match &self.kind {
            Kind::Reconstruction(model) => Measure::Reconstruction(model.network().clone()),
            Kind::Projection { input, projection } => {
                let rank = projection.rows.len() / projection.mean.len();
                Measure::Projection { input: *input, rank: u32::try_from(rank).unwrap_or(u32::MAX) }
            }
        }
    }

    /// The largest distance that is accepted.
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// The network with its weights, where it is one.
    pub fn reconstructor(&self) -> Option<&Model> {
        match &self.kind {
            Kind::Reconstruction(model) => Some(model),
            Kind::Projection { .. } => None,
        }
    }

    /// Mean and rows, where it is a projection.
    pub fn directions(&self) -> Option<&Projection> {
        match &self.kind {
            Kind::Projection { projection, .. } => Some(projection),
            Kind::Reconstruction(_) => None,
        }
    }
}

/// Without orthonormal rows the difference of squares is not the distance from their plane.
fn orthonormal(rows: &[f32], values: usize) -> Result<(), OneClassError> {
    for (first, one) in rows.chunks(values).enumerate() {
        for (second, other) in rows.chunks(values).enumerate().take(first + 1) {
            let product: f64 = one.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let expected = if first == second { 1.0 } else { 0.0 };
            if (product - expected).abs() > ORTHONORMAL_ERROR_MAX {
                return Err(OneClassError::Rows(second, first));
            }
        }
    }
    Ok(())
}

/// Mean and rows of two dense layers that project, as far as their lengths and mirrored entries say so.
fn projection_in(model: &Model) -> Option<Projection> {
    let [Layer::Dense { .. }, Layer::Dense { .. }] = model.network().layers() else { return None };
    let [first, second] = model.weights() else { return None };
    let (rank, values) = (first.bias.len(), second.bias.len());
    if first.weight.len() != rank * values
        || second.weight.len() != rank * values
        || rank == 0
        || rank >= values
    {
        return None;
    }
    let close = |difference: f64, size: f64| difference.abs() <= ORTHONORMAL_ERROR_MAX * size;
    let mean = length(second.bias.iter().map(|mean| f64::from(*mean)));
    let mut rows = first.weight.chunks(values).zip(&first.bias).enumerate();
    let centred = rows.all(|(at, (row, bias))| {
        let numbers = || row.iter().map(|weight| f64::from(*weight));
        let mirrored = second.weight.iter().skip(at).step_by(rank).map(|weight| f64::from(*weight));
        let apart = length(numbers().zip(mirrored).map(|(one, other)| one - other));
        let shift: f64 = numbers().zip(&second.bias).map(|(weight, mean)| weight * f64::from(*mean)).sum();
        close(apart, length(numbers())) && close(shift + f64::from(*bias), 1.0 + mean)
    });
    centred.then(|| Projection { mean: second.bias.clone(), rows: first.weight.clone() })
}

fn length(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Network;
    use crate::model::Weights;

    /// Two directions in four dimensions.
    const ROWS: [f32; 8] = [0.6, 0.8, 0.0, 0.0, 0.0, 0.0, 0.8, -0.6];
    const MEAN: [f32; 4] = [1.0, 2.0, 3.0, 4.0];

    fn projection(rows: &[f32]) -> Projection {
        Projection { mean: MEAN.to_vec(), rows: rows.to_vec() }
    }

    /// `m + B' B (x - m)` as a network.
    fn autoencoder(rows: &[f32]) -> Model {
        let layers = vec![Layer::Dense { outputs: 2 }, Layer::Dense { outputs: 4 }];
        let bias = rows.chunks(4).map(|row| -row.iter().zip(MEAN).map(|(b, m)| b * m).sum::<f32>()).collect();
        let turned = (0..4).flat_map(|value| (0..2).map(move |row| rows[row * 4 + value])).collect();
        let weights =
            vec![Weights { weight: rows.to_vec(), bias }, Weights { weight: turned, bias: MEAN.to_vec() }];
        Model::new(Network::new(Shape::vector(4), layers).unwrap(), weights).unwrap()
    }

    #[test]
    fn a_linear_autoencoder_is_the_projection_that_it_is() {
        let simple = OneClass::simplest(autoencoder(&ROWS), 0.5).unwrap();
        assert_eq!(simple.measure(), Measure::Projection { input: Shape::vector(4), rank: 2 });
        assert_eq!(simple.directions(), Some(&projection(&ROWS)));
        assert_eq!(simple, OneClass::projection(Shape::vector(4), projection(&ROWS), 0.5).unwrap());
    }

    #[test]
    fn anything_else_stays_a_reconstructor() {
        let stays = |model: Model| {
            let simple = OneClass::simplest(model.clone(), 0.5).unwrap();
            assert_eq!(simple.reconstructor(), Some(&model));
        };
        // Rows that are longer than one, a mean that is not the one subtracted, a second matrix of its own.
        stays(autoencoder(&ROWS.map(|value| 1.1 * value)));
        for (layer, at) in [(0, None), (1, Some(3))] {
            let model = autoencoder(&ROWS);
            let mut weights = model.weights().to_vec();
            match at {
                None => weights[layer].bias[0] += 0.1,
                Some(at) => weights[layer].weight[at] += 0.1,
            }
            stays(Model::new(model.network().clone(), weights).unwrap());
        }
    }

    #[test]
    fn what_is_no_model_is_refused() {
        let of = |projection, threshold| OneClass::projection(Shape::vector(4), projection, threshold).err();
        assert_eq!(of(projection(&ROWS), f64::NAN), Some(OneClassError::NotFinite("the threshold")));
        let length = |rows| OneClassError::Length { values: 4, mean: 4, rows };
        assert_eq!(of(projection(&ROWS[..7]), 1.0), Some(length(7)));
        assert_eq!(of(projection(&[]), 1.0), Some(length(0)));
        let mut bad = projection(&ROWS);
        bad.mean[2] = f32::INFINITY;
        assert_eq!(of(bad, 1.0), Some(OneClassError::NotFinite("a mean or a row")));
        let mut bad = ROWS;
        bad[4] = 0.1;
        assert_eq!(of(projection(&bad), 1.0), Some(OneClassError::Rows(0, 1)));
        let network = Network::new(Shape::vector(4), vec![Layer::Relu, Layer::Dense { outputs: 3 }]).unwrap();
        let weights = Weights { weight: vec![0.0; 12], bias: vec![0.0; 3] };
        let model = Model::new(network, vec![weights]).unwrap();
        let refused = MeasureError::Outputs { expected: 4, found: 3 };
        assert_eq!(OneClass::reconstruction(model, 1.0).err(), Some(refused.into()));
    }

    #[test]
    fn debug_hides_weights_and_threshold() {
        let shown = format!("{:?}", OneClass::projection(Shape::vector(4), projection(&ROWS), 77.0).unwrap());
        assert!(
            shown.contains("Projection(8 + 4)") && !shown.contains("77") && !shown.contains("0.6"),
            "{shown}"
        );
    }
}
