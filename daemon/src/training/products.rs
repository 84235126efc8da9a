//! Products of tables with each other, for what is no training but needs the same library.

use super::{TrainError, library};
use candle_core::{Device, Result, Tensor};

/// For each table of a batch, the products of all rows of `left` with all rows of `right`, `rows x columns`.
/// `left` is `batch x rows x features`, `right` is `batch x columns x features`.
///
/// # Errors
/// The lengths do not go together.
pub fn products(
    left: &[f32],
    right: &[f32],
    [batch, rows, columns, features]: [usize; 4],
) -> std::result::Result<Vec<f32>, TrainError> {
    let multiply = || -> Result<Vec<f32>> {
        let left = Tensor::from_slice(left, (batch, rows, features), &Device::Cpu)?;
        let right = Tensor::from_slice(right, (batch, columns, features), &Device::Cpu)?;
        left.matmul(&right.transpose(1, 2)?)?.flatten_all()?.to_vec1()
    };
    multiply().map_err(library("multiplying tables"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_meet_rows() {
        let left = [1.0, 2.0, 3.0, 4.0, 0.0, 1.0, 1.0, 0.0];
        let right = [1.0, 1.0, 2.0, 5.0];
        assert_eq!(products(&left, &right, [2, 2, 1, 2]).unwrap(), [3.0, 7.0, 5.0, 2.0]);
        assert!(products(&left, &right, [2, 2, 2, 2]).is_err());
    }
}
