//! Sliding windows over a batch of planes, with their gradients.
//!
//! The library's own convolution and pooling take one stride and one padding for both axes, refuse the
//! gradient of overlapping pools, and are several times slower. Here a convolution is one matrix product over
//! unfolded patches of the whole batch. Planes are `channels x batch x height x width`, so that the product's
//! rows are again planes and nothing is transposed between layers.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Error, Layout, Result, Shape, Tensor};
use consilium_protocol::graph::Window;

/// Sizes of one sliding operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sweep {
    /// Channels of the input.
    pub(super) channels: usize,
    /// Examples.
    pub(super) batch: usize,
    /// Rows and columns of one input plane.
    pub(super) input: [usize; 2],
    /// Rows and columns of one output plane.
    pub(super) output: [usize; 2],
    /// The window.
    pub(super) window: Window,
}

/// Neighbouring outputs that read inputs a fixed step apart through one cell of the window.
struct Run {
    column: usize,
    pixel: usize,
    len: usize,
}

impl Sweep {
    fn kernel(&self) -> [usize; 2] {
        self.window.kernel.map(|size| size as usize)
    }

    fn stride(&self) -> [usize; 2] {
        self.window.stride.map(|step| step as usize)
    }

    fn input_len(&self) -> usize {
        self.channels * self.batch * self.input[0] * self.input[1]
    }

    fn output_len(&self) -> usize {
        self.channels * self.batch * self.output[0] * self.output[1]
    }

    fn patch_len(&self) -> usize {
        self.channels * self.kernel()[0] * self.kernel()[1]
    }

    fn positions(&self) -> usize {
        self.batch * self.output[0] * self.output[1]
    }

    /// Visits every pair of patch value and pixel outside the padding once, in runs along the columns.
    fn runs(&self, mut visit: impl FnMut(Run)) {
        let ([rows, columns], [out_rows, out_columns]) = (self.input, self.output);
        let [top, left, ..] = self.window.padding.map(|zeros| zeros as usize);
        let ([kernel_rows, kernel_columns], [down, across]) = (self.kernel(), self.stride());
        for patch in 0..self.patch_len() {
            let (channel, cell) =
                (patch / (kernel_rows * kernel_columns), patch % (kernel_rows * kernel_columns));
            let (cell_row, cell_column) = (cell / kernel_columns, cell % kernel_columns);
            let first = left.saturating_sub(cell_column).div_ceil(across);
            let last = (columns + left).saturating_sub(cell_column).div_ceil(across).min(out_columns);
            if first >= last {
                continue;
            }
            for example in 0..self.batch {
                let plane = (channel * self.batch + example) * rows * columns;
                for out_row in 0..out_rows {
                    let row = out_row * down + cell_row;
                    if row < top || row - top >= rows {
                        continue;
                    }
                    let position = (example * out_rows + out_row) * out_columns;
                    visit(Run {
                        column: patch * self.positions() + position + first,
                        pixel: plane + (row - top) * columns + first * across + cell_column - left,
                        len: last - first,
                    });
                }
            }
        }
    }

    /// Visits every output of a pool with the position of the first pixel under its window.
    fn windows(&self, mut visit: impl FnMut(usize, usize)) {
        let ([rows, columns], [out_rows, out_columns]) = (self.input, self.output);
        let [down, across] = self.stride();
        let mut output = 0;
        for plane in 0..self.channels * self.batch {
            for out_row in 0..out_rows {
                let row = (plane * rows + out_row * down) * columns;
                for out_column in 0..out_columns {
                    visit(output, row + out_column * across);
                    output += 1;
                }
            }
        }
    }

    /// Pixels under a window, relative to its first.
    fn cells(&self) -> Vec<usize> {
        let [rows, columns] = self.kernel();
        (0..rows * columns).map(|cell| cell / columns * self.input[1] + cell % columns).collect()
    }
}

fn values<'a>(storage: &'a CpuStorage, layout: &Layout, len: usize) -> Result<&'a [f32]> {
    let (start, end) =
        layout.contiguous_offsets().ok_or_else(|| Error::RequiresContiguous { op: "planes" }.bt())?;
    if end - start != len {
        candle_core::bail!("planes: {len} values expected, found {}", end - start)
    }
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// Patches as the columns of a matrix: `channels x kernel rows x kernel columns` by `batch x positions`.
pub(super) struct Unfold(pub(super) Sweep);

/// The adjoint of [`Unfold`]: adds every patch value to the pixel it was read from.
struct Fold(Sweep);

impl CustomOp1 for Unfold {
    fn name(&self) -> &'static str {
        "unfold"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let sweep = &self.0;
        let pixels = values(storage, layout, sweep.input_len())?;
        let across = sweep.stride()[1];
        let mut columns = vec![0.0f32; sweep.patch_len() * sweep.positions()];
        sweep.runs(|run| {
            let target = &mut columns[run.column..][..run.len];
            if across == 1 {
                target.copy_from_slice(&pixels[run.pixel..][..run.len]);
            } else {
                let source = pixels[run.pixel..].iter().step_by(across);
                target.iter_mut().zip(source).for_each(|(value, pixel)| *value = *pixel);
            }
        });
        Ok((CpuStorage::F32(columns), Shape::from((sweep.patch_len(), sweep.positions()))))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        gradient.contiguous()?.apply_op1_no_bwd(&Fold(self.0)).map(Some)
    }
}

impl CustomOp1 for Fold {
    fn name(&self) -> &'static str {
        "fold"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let sweep = &self.0;
        let columns = values(storage, layout, sweep.patch_len() * sweep.positions())?;
        let across = sweep.stride()[1];
        let mut pixels = vec![0.0f32; sweep.input_len()];
        sweep.runs(|run| {
            let source = &columns[run.column..][..run.len];
            let target = pixels[run.pixel..].iter_mut().step_by(across);
            target.zip(source).for_each(|(pixel, value)| *pixel += *value);
        });
        let [rows, columns] = sweep.input;
        Ok((CpuStorage::F32(pixels), Shape::from((sweep.channels, sweep.batch, rows, columns))))
    }
}

/// What a pool makes of the values under a window.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pooling {
    /// The largest; the first of equals takes the gradient.
    Largest,
    /// The mean.
    Mean,
}

/// Pools every plane; the output keeps channels outermost.
pub(super) struct Pool(pub(super) Sweep, pub(super) Pooling);

struct PoolGradient(Sweep, Pooling);

/// The first cell with the largest pixel. Written as selections: which cell wins is as good as random, so
/// that a branch would be mispredicted at every window.
fn largest(pixels: &[f32], cells: &[usize]) -> usize {
    let mut best = (f32::NEG_INFINITY, 0);
    for &cell in cells {
        let pixel = pixels[cell];
        let wins = pixel > best.0;
        best = (if wins { pixel } else { best.0 }, if wins { cell } else { best.1 });
    }
    best.1
}

impl CustomOp1 for Pool {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Self(sweep, pooling) = self;
        let pixels = values(storage, layout, sweep.input_len())?;
        let cells = sweep.cells();
        let mut pooled = vec![0.0f32; sweep.output_len()];
        sweep.windows(|output, first| {
            let under = &pixels[first..];
            pooled[output] = match pooling {
                Pooling::Largest => cells.iter().fold(f32::NEG_INFINITY, |best, &cell| best.max(under[cell])),
                Pooling::Mean => cells.iter().map(|&cell| under[cell]).sum::<f32>() / cells.len() as f32,
            };
        });
        let [rows, columns] = sweep.output;
        Ok((CpuStorage::F32(pooled), Shape::from((sweep.channels, sweep.batch, rows, columns))))
    }

    fn bwd(&self, argument: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let gradient = gradient.contiguous()?;
        argument.contiguous()?.apply_op2_no_bwd(&gradient, &PoolGradient(self.0, self.1)).map(Some)
    }
}

impl CustomOp2 for PoolGradient {
    fn name(&self) -> &'static str {
        "pool-gradient"
    }

    fn cpu_fwd(
        &self,
        argument: &CpuStorage,
        argument_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let Self(sweep, pooling) = self;
        let pixels = values(argument, argument_layout, sweep.input_len())?;
        let gradient = values(gradient, gradient_layout, sweep.output_len())?;
        let cells = sweep.cells();
        let mut back = vec![0.0f32; sweep.input_len()];
        sweep.windows(|output, first| match pooling {
            Pooling::Largest => back[first + largest(&pixels[first..], &cells)] += gradient[output],
            Pooling::Mean => {
                let share = gradient[output] / cells.len() as f32;
                cells.iter().for_each(|&cell| back[first + cell] += share);
            }
        });
        let [rows, columns] = sweep.input;
        Ok((CpuStorage::F32(back), Shape::from((sweep.channels, sweep.batch, rows, columns))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    fn sweep(window: Window, channels: usize, input: [usize; 2]) -> Sweep {
        let [top, left, bottom, right] = window.padding.map(|zeros| zeros as usize);
        let slide = |size: usize, axis: usize| {
            (size - window.kernel[axis] as usize) / window.stride[axis] as usize + 1
        };
        let output = [slide(input[0] + top + bottom, 0), slide(input[1] + left + right, 1)];
        Sweep { channels, batch: 3, input, output, window }
    }

    fn random(len: usize, seed: u64) -> Vec<f32> {
        let mut generator = StdRng::seed_from_u64(seed);
        (0..len).map(|_| generator.random_range(-1.0..1.0)).collect()
    }

    fn tensor(values: Vec<f32>, len: usize) -> Tensor {
        Tensor::from_vec(values, len, &Device::Cpu).unwrap()
    }

    fn list(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    const LOPSIDED: Window = Window { kernel: [3, 2], stride: [2, 1], padding: [1, 0, 2, 1] };
    const WIDE_STEPS: Window = Window { kernel: [2, 3], stride: [1, 3], padding: [0, 2, 0, 1] };

    #[test]
    fn unfold_reads_each_patch_and_zeros_beyond_the_edge() {
        for window in [Window::plain(2, 1), LOPSIDED, WIDE_STEPS] {
            let sweep = sweep(window, 2, [5, 6]);
            let pixels = random(sweep.input_len(), 1);
            let columns =
                list(&tensor(pixels.clone(), pixels.len()).apply_op1_no_bwd(&Unfold(sweep)).unwrap());
            let ([rows, width], [out_rows, out_width]) = (sweep.input, sweep.output);
            let [kernel_rows, kernel_width] = sweep.kernel();
            for (index, &found) in columns.iter().enumerate() {
                let (patch, position) = (index / sweep.positions(), index % sweep.positions());
                let (channel, cell) =
                    (patch / (kernel_rows * kernel_width), patch % (kernel_rows * kernel_width));
                let (example, place) = (position / (out_rows * out_width), position % (out_rows * out_width));
                let row = (place / out_width * sweep.stride()[0] + cell / kernel_width) as isize
                    - window.padding[0] as isize;
                let column = (place % out_width * sweep.stride()[1] + cell % kernel_width) as isize
                    - window.padding[1] as isize;
                let inside = (0..rows as isize).contains(&row) && (0..width as isize).contains(&column);
                let plane = (channel * sweep.batch + example) * rows * width;
                let expected =
                    if inside { pixels[plane + row as usize * width + column as usize] } else { 0.0 };
                assert_eq!(found, expected, "{window:?} at {index}");
            }
        }
    }

    #[test]
    fn fold_is_the_adjoint_of_unfold() {
        for window in [Window::plain(3, 1), LOPSIDED, WIDE_STEPS] {
            let sweep = sweep(window, 2, [7, 6]);
            let shape = (2, sweep.batch, 7, 6);
            let pixels = Var::from_vec(random(sweep.input_len(), 2), shape, &Device::Cpu).unwrap();
            let columns = pixels.as_tensor().apply_op1(Unfold(sweep)).unwrap();
            let weights = tensor(random(columns.elem_count(), 3), columns.elem_count());
            let product = (columns.flatten_all().unwrap() * &weights).unwrap().sum_all().unwrap();
            let gradient = product.backward().unwrap().remove(&pixels).unwrap();
            let other = (gradient * pixels.as_tensor()).unwrap().sum_all().unwrap();
            let (left, right) = (product.to_scalar::<f32>().unwrap(), other.to_scalar::<f32>().unwrap());
            assert!((left - right).abs() < 1e-3, "{window:?}: {left} against {right}");
        }
    }

    #[test]
    fn a_pool_sends_its_gradient_back_under_the_window() {
        let one = Sweep { batch: 1, ..sweep(Window::plain(2, 1), 1, [2, 3]) };
        let pixels =
            Var::from_vec(vec![1.0f32, 5.0, 5.0, 2.0, 3.0, 4.0], (1, 1, 2, 3), &Device::Cpu).unwrap();
        for (pooling, pooled, back) in [
            (Pooling::Largest, [5.0, 5.0], [0.0, 30.0, 0.0, 0.0, 0.0, 0.0]),
            (Pooling::Mean, [2.75, 4.25], [2.5, 7.5, 5.0, 2.5, 7.5, 5.0]),
        ] {
            let output = pixels.as_tensor().apply_op1(Pool(one, pooling)).unwrap();
            assert_eq!(list(&output), pooled);
            let weights = Tensor::new(&[[[[10.0f32, 20.0]]]], &Device::Cpu).unwrap();
            let loss = (output * weights).unwrap().sum_all().unwrap();
            assert_eq!(list(&loss.backward().unwrap().remove(&pixels).unwrap()), back);
        }
    }

    #[test]
    fn a_tensor_of_the_wrong_size_is_refused() {
        let sweep = sweep(Window::plain(2, 2), 1, [4, 4]);
        assert!(tensor(vec![0.0; 7], 7).apply_op1_no_bwd(&Unfold(sweep)).is_err());
        assert!(tensor(vec![0.0; 7], 7).apply_op1_no_bwd(&Pool(sweep, Pooling::Mean)).is_err());
    }
}
