//! Features brought to a common scale, and into a public bound.

use crate::training::{Examples, ExamplesError};

/// How raw features become a network's inputs: `clamp((x - offset) * scale, -bound, bound)`.
///
/// Part of a task's public description, so that every owner and client applies the same. In a consortium it
/// must come from public knowledge or be agreed: statistics of one owner's records tell about those records.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalisation {
    offset: Vec<f32>,
    scale: Vec<f32>,
    bound: f32,
}

/// Why a normalisation is not one.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum NormalisationError {
    /// Lists of different or no length.
    #[error("{offsets} offsets and {scales} scales; there must be one of each per feature")]
    Length {
        /// Offsets given.
        offsets: usize,
        /// Scales given.
        scales: usize,
    },
    /// An offset that is not finite, or a scale that is not finite and positive.
    #[error("feature {feature}: the offset must be finite, the scale finite and positive")]
    Feature {
        /// Position of the feature, from 0.
        feature: usize,
    },
    /// The clipping bound is not finite and positive.
    #[error("the clipping bound is {0}, it must be finite and positive")]
    Bound(f32),
    /// Rows of another width.
    #[error("the normalisation is for {expected} features, a row has {found}")]
    Features {
        /// Features of the normalisation.
        expected: usize,
        /// Features of a row.
        found: usize,
    },
    /// The result is not sound.
    #[error("normalised rows")]
    Rows(#[from] ExamplesError),
}

impl Normalisation {
    /// Checks one offset and one positive scale per feature, and a positive bound.
    ///
    /// # Errors
    /// [`NormalisationError`] names what is wrong.
    pub fn new(offset: Vec<f32>, scale: Vec<f32>, bound: f32) -> Result<Self, NormalisationError> {
        if offset.len() != scale.len() || offset.is_empty() {
            return Err(NormalisationError::Length { offsets: offset.len(), scales: scale.len() });
        }
        let sound = |(offset, scale): (&f32, &f32)| offset.is_finite() && scale.is_finite() && *scale > 0.0;
        if let Some(feature) = offset.iter().zip(&scale).position(|pair| !sound(pair)) {
            return Err(NormalisationError::Feature { feature });
        }
        if !(bound.is_finite() && bound > 0.0) {
            return Err(NormalisationError::Bound(bound));
        }
        Ok(Self { offset, scale, bound })
    }

    /// The same offset and scale for all features, as images want it.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn uniform(features: usize, offset: f32, scale: f32, bound: f32) -> Result<Self, NormalisationError> {
        Self::new(vec![offset; features], vec![scale; features], bound)
    }

    /// Mean 0 and variance 1 on these rows, which should be training rows of public data. A constant feature
    /// keeps scale 1, so it becomes 0 there.
    ///
    /// # Errors
    /// A bound that is not positive, or values so large that their variance is not finite.
    pub fn fit(rows: &Examples, bound: f32) -> Result<Self, NormalisationError> {
        let (mut offset, mut scale) = (Vec::new(), Vec::new());
        let count = rows.rows() as f64;
        for feature in 0..rows.features() {
            let column = || (0..rows.rows()).map(|row| f64::from(rows.row(row)[feature]));
            let mean = column().sum::<f64>() / count;
            let variance = column().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
            let deviation = variance.sqrt();
            // Below this, the spread is rounding of a constant.
            let constant = deviation <= 1e-6 * mean.abs().max(f64::from(f32::MIN_POSITIVE));
            offset.push(mean as f32);
            scale.push(if constant { 1.0 } else { (1.0 / deviation) as f32 });
        }
        Self::new(offset, scale, bound)
    }

    /// One value per feature that is taken off.
    pub fn offset(&self) -> &[f32] {
        &self.offset
    }

    /// One positive factor per feature.
    pub fn scale(&self) -> &[f32] {
        &self.scale
    }

    /// Largest magnitude of a normalised value.
    pub fn bound(&self) -> f32 {
        self.bound
    }

    /// Normalises one row.
    ///
    /// # Errors
    /// A row of another width, or with a value that is not finite.
    pub fn apply_row(&self, row: &[f32]) -> Result<Vec<f32>, NormalisationError> {
        if row.len() != self.offset.len() {
            return Err(NormalisationError::Features { expected: self.offset.len(), found: row.len() });
        }
        if !row.iter().all(|value| value.is_finite()) {
            return Err(ExamplesError::NotFinite { row: 0 }.into());
        }
        let public = self.offset.iter().zip(&self.scale);
        Ok(row
            .iter()
            .zip(public)
            .map(|(value, (offset, scale))| self.clip((value - offset) * scale))
            .collect())
    }

    /// Normalises every row.
    ///
    /// # Errors
    /// Rows of another width.
    pub fn apply(&self, rows: &Examples) -> Result<Examples, NormalisationError> {
        let mut inputs = Vec::with_capacity(rows.inputs().len());
        for row in 0..rows.rows() {
            inputs.extend(self.apply_row(rows.row(row))?);
        }
        Ok(Examples::new(rows.features(), inputs, rows.labels().to_vec())?)
    }

    fn clip(&self, value: f32) -> f32 {
        value.clamp(-self.bound, self.bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fitted_columns_are_standard_and_clipped() {
        let rows =
            Examples::new(3, vec![1.0, 7.3, 10.0, 3.0, 7.3, 10.0, 5.0, 7.3, 70.0], vec![0, 1, 0]).unwrap();
        let normalisation = Normalisation::fit(&rows, 1.25).unwrap();
        let normal = normalisation.apply(&rows).unwrap();
        let column = |feature: usize| -> Vec<f32> { (0..3).map(|row| normal.row(row)[feature]).collect() };
        let spread = 1.5f32.sqrt();
        let close = |found: Vec<f32>, expected: [f32; 3]| {
            found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-5)
        };
        assert!(close(column(0), [-spread, 0.0, spread]));
        assert!(close(column(1), [0.0; 3]));
        assert!(close(column(2), [-0.5f32.sqrt(), -0.5f32.sqrt(), 1.25]), "{:?}", column(2));
        assert_eq!(normal.labels(), rows.labels());
    }

    #[test]
    fn infinite_and_misfitting_values_are_refused() {
        let normalisation = Normalisation::uniform(2, 0.0, 0.5, 1.0).unwrap();
        assert_eq!(normalisation.apply_row(&[1.0, 9.0]).unwrap(), [0.5, 1.0]);
        let wide = NormalisationError::Features { expected: 2, found: 3 };
        assert_eq!(normalisation.apply_row(&[0.0; 3]).unwrap_err(), wide);
        assert!(normalisation.apply_row(&[f32::NAN, 0.0]).is_err());
        assert_eq!(
            Normalisation::uniform(2, 0.0, 0.0, 1.0).unwrap_err(),
            NormalisationError::Feature { feature: 0 }
        );
        assert_eq!(Normalisation::uniform(1, 0.0, 1.0, 0.0).unwrap_err(), NormalisationError::Bound(0.0));
        let uneven = Normalisation::new(vec![0.0], vec![], 1.0).unwrap_err();
        assert_eq!(uneven, NormalisationError::Length { offsets: 1, scales: 0 });
    }
}
