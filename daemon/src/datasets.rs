//! Data that travels with the program, and how it becomes the consortium of a demonstration.
//!
//! Both tables come from the UCI Machine Learning Repository by way of the `smartcore` crate, whose own names
//! for the digits are those of another set; the names and the class codes here are ours.

mod normalisation;
mod split;

pub use normalisation::{Normalisation, NormalisationError};
pub use split::{PART_ROWS_MIN, SplitError, deal, partition, split};

/// A labelled table of public data.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Short name, lower case.
    pub name: &'static str,
    /// Whom to credit.
    pub credit: &'static str,
    /// One name per column.
    pub feature_names: Vec<String>,
    /// One name per class; a label is a position here.
    pub class_names: Vec<String>,
    /// Values as published, row-major, one row per label.
    pub inputs: Vec<f32>,
    /// One class per row.
    pub labels: Vec<u8>,
}

/// Breast Cancer Wisconsin (Diagnostic): 569 aspirates, 30 measures of cell nuclei, class 0 benign (357) and
/// class 1 malignant (212). The values span 0 to 4254: normalise them before training.
pub fn breast_cancer() -> Table {
    let source = smartcore::dataset::breast_cancer::load_dataset();
    Table {
        name: "breast-cancer",
        credit: "Breast Cancer Wisconsin (Diagnostic): W. Wolberg, W. Street, O. Mangasarian (1995), \
                 UCI Machine Learning Repository",
        feature_names: source.feature_names,
        class_names: ["benign", "malignant"].map(String::from).to_vec(),
        inputs: source.data,
        // The source writes malignant as 0; here the disease is the higher class.
        labels: source.target.into_iter().map(|target| u8::from(target == 0)).collect(),
    }
}

/// Optical Recognition of Handwritten Digits: 1,797 images of 8 x 8 cells, row-major, each 0 to
/// [`DIGITS_DEPTH`].
pub fn digits() -> Table {
    let source = smartcore::dataset::digits::load_dataset();
    Table {
        name: "digits",
        credit: "Optical Recognition of Handwritten Digits: E. Alpaydin, C. Kaynak (1998), \
                 UCI Machine Learning Repository",
        feature_names: (0..64).map(|cell| format!("row {} column {}", cell / 8, cell % 8)).collect(),
        class_names: (0..10).map(|digit| digit.to_string()).collect(),
        inputs: source.data,
        // Whole numbers 0 to 9 stored as floats; the cast is exact.
        labels: source.target.into_iter().map(|target| target as u8).collect(),
    }
}

/// The darkest value of a cell of [`digits`].
pub const DIGITS_DEPTH: f32 = 16.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::{Recipe, classify, train};
    use consilium_protocol::graph::{Layer, Network, Shape, Window};

    fn check(table: &Table, counts: &[usize]) {
        assert_eq!(table.class_names.len(), counts.len());
        assert_eq!(table.inputs.len(), table.labels.len() * table.feature_names.len());
        for (class, &count) in counts.iter().enumerate() {
            let found = table.labels.iter().filter(|&&label| usize::from(label) == class).count();
            assert_eq!(found, count, "{} {}", table.name, table.class_names[class]);
        }
        assert_eq!(counts.iter().sum::<usize>(), table.labels.len());
        assert!(table.credit.contains("UCI"));
    }

    #[test]
    fn malignant_is_class_one() {
        let table = breast_cancer();
        check(&table, &[357, 212]);
        let mean_radius = |class: u8| {
            let rows = table.inputs.chunks(30).zip(&table.labels).filter(|(_, label)| **label == class);
            let radii: Vec<f32> = rows.map(|(row, _)| row[0]).collect();
            radii.iter().sum::<f32>() / radii.len() as f32
        };
        assert_eq!(table.feature_names[0], "mean radius");
        assert!(mean_radius(1) > mean_radius(0) + 4.0);
        assert_eq!((table.inputs[0], table.labels[0]), (17.99, 1));
    }

    #[test]
    fn digits_are_eight_by_eight() {
        let table = digits();
        check(&table, &[178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        assert_eq!(table.feature_names[63], "row 7 column 7");
        assert!(table.inputs.iter().all(|value| (0.0..=DIGITS_DEPTH).contains(value)));
        assert_eq!(table.labels[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }

    fn accuracy(found: &[u8], labels: &[u8]) -> f64 {
        found.iter().zip(labels).filter(|(found, label)| found == label).count() as f64 / labels.len() as f64
    }

    #[test]
    fn ten_owners_of_a_part_of_the_tumours_agree_well() {
        let (train_rows, test_rows) = split(&breast_cancer(), 0.2, 1).unwrap();
        let normalisation = Normalisation::fit(&train_rows, 8.0).unwrap();
        let (train_rows, test_rows) =
            (normalisation.apply(&train_rows).unwrap(), normalisation.apply(&test_rows).unwrap());
        let layers = [32, 16, 2].map(|outputs| Layer::Dense { outputs });
        let layers = vec![layers[0], Layer::Relu, layers[1], Layer::Relu, layers[2]];
        let network = Network::new(Shape::vector(30), layers).unwrap();
        let mut malignant_votes = vec![0; test_rows.rows()];
        for (seed, part) in (0..).zip(partition(&train_rows, 10, 2).unwrap()) {
            let model = train(&network, &part, &Recipe::table(part.rows()), seed, &mut |_, _| ()).unwrap();
            let votes = classify(&model, &test_rows).unwrap();
            assert!(accuracy(&votes, test_rows.labels()) > 0.85);
            malignant_votes.iter_mut().zip(votes).for_each(|(sum, vote)| *sum += vote);
        }
        let majority: Vec<u8> = malignant_votes.into_iter().map(|votes: u8| u8::from(votes > 5)).collect();
        assert!(accuracy(&majority, test_rows.labels()) > 0.93);
    }

    /// Such networks suit homomorphic evaluation, and squares are the layer most prone to diverge.
    #[test]
    fn a_square_network_learns_digits() {
        let (train_rows, test_rows) = split(&digits(), 0.25, 3).unwrap();
        let scale = Normalisation::uniform(64, 0.0, 1.0 / DIGITS_DEPTH, 1.0).unwrap();
        let (train_rows, test_rows) = (scale.apply(&train_rows).unwrap(), scale.apply(&test_rows).unwrap());
        let conv = Layer::Conv { outputs: 8, window: Window::plain(3, 1) };
        let dense = |outputs| Layer::Dense { outputs };
        for (shape, layers) in [
            (Shape::vector(64), vec![dense(32), Layer::Square, dense(10)]),
            (Shape { channels: 1, height: 8, width: 8 }, vec![conv, Layer::Square, dense(10)]),
        ] {
            let network = Network::new(shape, layers).unwrap();
            let recipe = Recipe::table(train_rows.rows());
            let model = train(&network, &train_rows, &recipe, 4, &mut |_, _| ()).unwrap();
            let found = accuracy(&classify(&model, &test_rows).unwrap(), test_rows.labels());
            assert!(found > 0.93, "{}: {found}", network.summary());
        }
    }
}
