//! Plain evaluation of one query in 64-bit floating point: the reference for everything else.

use crate::graph::{Layer, Shape, Window, for_each_tap};
use crate::model::{Model, OneClass, Weights};
use zeroize::Zeroizing;

/// Logits of one query; `input` has the order of the network's input shape, channels outermost.
///
/// # Panics
/// Where `input` has another length than the network's input.
pub fn logits(model: &Model, input: &[f32]) -> Vec<f64> {
    let network = model.network();
    assert_eq!(input.len(), network.input().len(), "length of the query");
    let mut values = Zeroizing::new(input.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>());
    let mut weights = model.weights().iter();
    for (index, layer) in network.layers().iter().enumerate() {
        let shapes = (network.shape_before(index), network.shape_before(index + 1));
        let entry = if layer.is_linear() { weights.next() } else { None };
        values = Zeroizing::new(apply(layer, entry, shapes, &values));
    }
    std::mem::take(&mut *values)
}

/// Distance of one query from what a user's model knows.
///
/// # Panics
/// Where `input` has another length than the model's input.
pub fn distance(model: &OneClass, input: &[f32]) -> f64 {
    let square = |value: f64| value * value;
    if let Some(network) = model.reconstructor() {
        let given = Zeroizing::new(logits(network, input));
        return given.iter().zip(input).map(|(output, value)| square(output - f64::from(*value))).sum();
    }
    let Some(projection) = model.directions() else { return 0.0 };
    assert_eq!(input.len(), projection.mean.len(), "length of the query");
    let centred =
        input.iter().zip(&projection.mean).map(|(value, mean)| f64::from(*value) - f64::from(*mean));
    let centred = Zeroizing::new(centred.collect::<Vec<f64>>());
    let along =
        |row: &[f32]| row.iter().zip(centred.iter()).map(|(weight, value)| f64::from(*weight) * value).sum();
    let explained: f64 = projection.rows.chunks(centred.len()).map(along).map(square).sum();
    centred.iter().map(|value| square(*value)).sum::<f64>() - explained
}

/// Position of the largest value, the first of equal ones; 0 where there are none.
pub fn argmax(values: &[f64]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

fn apply(layer: &Layer, weights: Option<&Weights>, shapes: (Shape, Shape), values: &[f64]) -> Vec<f64> {
    match (layer, weights) {
        (Layer::Dense { .. }, Some(weights)) => dense(weights, values),
        (Layer::Conv { window, .. }, Some(weights)) => conv(weights, window, shapes, values),
        (Layer::Relu, _) => values.iter().map(|value| value.max(0.0)).collect(),
        (Layer::LeakyRelu { slope }, _) => {
            values.iter().map(|value| if *value < 0.0 { slope.value() * value } else { *value }).collect()
        }
        (Layer::HardTanh, _) => values.iter().map(|value| value.clamp(-1.0, 1.0)).collect(),
        (Layer::PixelShuffle { .. }, _) => {
            let mut moved = vec![0.0; shapes.1.len()];
            for_each_tap(layer, shapes.0, shapes.1, |out, _, from| moved[out] = values[from]);
            moved
        }
        (Layer::Square, _) => values.iter().map(|value| value * value).collect(),
        (Layer::MaxPool { window }, _) => {
            pool(window, shapes, values, |patch| patch.fold(f64::NEG_INFINITY, f64::max))
        }
        (Layer::AveragePool { window }, _) => {
            pool(window, shapes, values, |patch| patch.sum::<f64>() / window.area() as f64)
        }
        (Layer::Dense { .. } | Layer::Conv { .. }, None) => {
            unreachable!("a model has weights for every linear layer")
        }
    }
}

fn dense(weights: &Weights, values: &[f64]) -> Vec<f64> {
    let rows = weights.weight.chunks(values.len()).zip(&weights.bias);
    let output = |(row, bias): (&[f32], &f32)| {
        let products = row.iter().zip(values).map(|(weight, value)| f64::from(*weight) * value);
        f64::from(*bias) + products.sum::<f64>()
    };
    rows.map(output).collect()
}

fn conv(weights: &Weights, window: &Window, (from, to): (Shape, Shape), values: &[f64]) -> Vec<f64> {
    let patch = window.area() * from.channels as usize;
    let mut output = Vec::with_capacity(to.len());
    for (kernel, bias) in weights.weight.chunks(patch).zip(&weights.bias) {
        for (row, column) in positions(to) {
            let mut sum = f64::from(*bias);
            for (plane, part) in values.chunks(plane_len(from)).zip(kernel.chunks(window.area())) {
                for (place, weight) in under(window, from, row, column).zip(part) {
                    sum += place.map_or(0.0, |place| f64::from(*weight) * plane[place]);
                }
            }
            output.push(sum);
        }
    }
    output
}

fn pool(
    window: &Window,
    (from, to): (Shape, Shape),
    values: &[f64],
    join: impl Fn(&mut dyn Iterator<Item = f64>) -> f64,
) -> Vec<f64> {
    let mut output = Vec::with_capacity(to.len());
    for plane in values.chunks(plane_len(from)) {
        for (row, column) in positions(to) {
            let mut patch = under(window, from, row, column).flatten().map(|place| plane[place]);
            output.push(join(&mut patch));
        }
    }
    output
}

fn plane_len(shape: Shape) -> usize {
    shape.height as usize * shape.width as usize
}

fn positions(shape: Shape) -> impl Iterator<Item = (u32, u32)> {
    (0..shape.height).flat_map(move |row| (0..shape.width).map(move |column| (row, column)))
}

/// Places in a plane under the window at an output position, `None` in the padding.
fn under(window: &Window, shape: Shape, row: u32, column: u32) -> impl Iterator<Item = Option<usize>> {
    let [kernel_rows, kernel_columns] = window.kernel;
    let [top, left, ..] = window.padding;
    let (first_row, first_column) = (row * window.stride[0], column * window.stride[1]);
    (0..kernel_rows).flat_map(move |down| {
        (0..kernel_columns).map(move |right| {
            let row = (first_row + down).checked_sub(top).filter(|row| *row < shape.height)?;
            let column = (first_column + right).checked_sub(left).filter(|column| *column < shape.width)?;
            Some(row as usize * shape.width as usize + column as usize)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Network;

    fn model(input: Shape, layers: Vec<Layer>, weights: Vec<(Vec<f32>, Vec<f32>)>) -> Model {
        let weights = weights.into_iter().map(|(weight, bias)| Weights { weight, bias }).collect();
        Model::new(Network::new(input, layers).unwrap(), weights).unwrap()
    }

    const IMAGE: Shape = Shape { channels: 2, height: 2, width: 3 };
    const VALUES: [f32; 12] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -1.0, -2.0, -3.0, -4.0, -5.0, -6.0];

    #[test]
    fn dense_layers_multiply_rows() {
        let model = model(
            Shape::vector(2),
            vec![Layer::Dense { outputs: 2 }],
            vec![(vec![1.0, 2.0, 3.0, 4.0], vec![0.5, -0.5])],
        );
        assert_eq!(logits(&model, &[10.0, 100.0]), [210.5, 429.5]);
    }

    #[test]
    fn activations_act_on_each_value() {
        let model = model(Shape::vector(3), vec![Layer::Relu, Layer::Square], vec![]);
        assert_eq!(logits(&model, &[-2.0, 0.5, 3.0]), [0.0, 0.25, 9.0]);
    }

    #[test]
    fn activations_bend_and_cut() {
        let slope = crate::graph::Slope { rise: 1, run: 4 };
        let leaky = model(Shape::vector(3), vec![Layer::LeakyRelu { slope }], vec![]);
        assert_eq!(logits(&leaky, &[-2.0, 0.0, 3.0]), [-0.5, 0.0, 3.0]);
        let cut = model(Shape::vector(4), vec![Layer::HardTanh], vec![]);
        assert_eq!(logits(&cut, &[-2.0, -0.5, 0.25, 3.0]), [-1.0, -0.5, 0.25, 1.0]);
    }

    #[test]
    fn distances_are_squared_and_leave_out_what_is_explained() {
        let double = model(
            Shape::vector(2),
            vec![Layer::Dense { outputs: 2 }],
            vec![(vec![2.0, 0.0, 0.0, 2.0], vec![0.0, 1.0])],
        );
        let whole = OneClass::reconstruction(double, 1.0).unwrap();
        assert_eq!(distance(&whole, &[3.0, 4.0]), 9.0 + 25.0);
        let projection = crate::model::Projection { mean: vec![1.0, 0.0], rows: vec![0.6, 0.8] };
        let plane = OneClass::projection(Shape::vector(2), projection, 1.0).unwrap();
        // (3, 4) from the mean, of which 5 lies along the row.
        assert!(distance(&plane, &[4.0, 4.0]).abs() < 1e-5);
        assert!((distance(&plane, &[5.0, 1.0]) - 6.76).abs() < 1e-5);
    }

    #[test]
    fn pooling_keeps_channels_apart() {
        let window = Window { kernel: [2, 2], stride: [1, 1], padding: [0; 4] };
        let largest = model(IMAGE, vec![Layer::MaxPool { window }], vec![]);
        assert_eq!(logits(&largest, &VALUES), [5.0, 6.0, -1.0, -2.0]);
        let mean = model(IMAGE, vec![Layer::AveragePool { window }], vec![]);
        assert_eq!(logits(&mean, &VALUES), [3.0, 4.0, -3.0, -4.0]);
    }

    #[test]
    fn convolutions_pad_where_the_window_says() {
        // Pads one row on top and one column at the right; the kernel tells its four places apart.
        let window = Window { kernel: [2, 2], stride: [1, 2], padding: [1, 0, 0, 1] };
        let kernel = vec![1.0, 10.0, 100.0, 1000.0, 0.0, 0.0, 0.0, 0.5];
        let model = model(IMAGE, vec![Layer::Conv { outputs: 1, window }], vec![(kernel, vec![0.25])]);
        let top = [100.0 + 2000.0 - 1.0 + 0.25, 300.0 + 0.25];
        let bottom = [1.0 + 20.0 + 400.0 + 5000.0 - 2.5 + 0.25, 3.0 + 600.0 + 0.25];
        assert_eq!(logits(&model, &VALUES), [top[0], top[1], bottom[0], bottom[1]]);
    }

    #[test]
    fn ties_go_to_the_lowest_index() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), 1);
        assert_eq!(argmax(&[f64::NEG_INFINITY, -1.0, -1.0]), 1);
        assert_eq!(argmax(&[]), 0);
    }

    #[test]
    #[should_panic(expected = "length of the query")]
    fn another_length_is_a_mistake_of_the_caller() {
        logits(&model(Shape::vector(3), vec![Layer::Relu], vec![]), &[1.0]);
    }
}
