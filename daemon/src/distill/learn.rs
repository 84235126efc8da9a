//! From a few answers to a student.

use super::choice;
use super::space::Space;
use super::spread::{Graph, Labelled};
use crate::training::{
    Examples, ExamplesError, Progress, Recipe, Targets, TargetsError, TrainError, train_soft,
};
use consilium_protocol::graph::{Layer, Network, NetworkError, Shape, Window};
use consilium_protocol::model::Model;

/// From this side on, images get a convolutional student.
const IMAGE_SIDE_MIN: u32 = 16;
/// From this many values on, a vector gets a wide student.
const WIDE_MIN: usize = 100;

/// Why there is no student.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// The network does not fit the rows.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The training failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The beliefs are none.
    #[error(transparent)]
    Targets(#[from] TargetsError),
    /// A row that is none.
    #[error(transparent)]
    Rows(#[from] ExamplesError),
    /// Nothing to learn from.
    #[error("the consortium gave no label, so there is nothing to learn from")]
    NoLabels,
}

/// Unlabelled rows with everything that follows from them alone.
#[derive(Debug)]
pub struct Ground<'a> {
    rows: &'a Examples,
    space: Space,
    graph: Graph,
    seed: u64,
}

/// A student and what it was taught.
#[derive(Clone, Debug)]
pub struct Taught {
    /// The student.
    pub model: Model,
    /// Belief in each class for each unlabelled row.
    pub targets: Targets,
}

impl<'a> Ground<'a> {
    /// Coordinates and neighbours of the rows. Time grows with the square of their number.
    pub fn of(rows: &'a Examples, seed: u64) -> Self {
        let space = Space::of(rows, seed);
        let graph = Graph::of(&space);
        Self { rows, space, graph, seed }
    }

    /// The rows.
    pub fn rows(&self) -> &Examples {
        self.rows
    }

    /// As [`clusters`](super::clusters): which rows to ask about.
    pub fn clusters(&self, count: usize) -> Vec<Vec<usize>> {
        choice::clusters(&self.space, count, self.seed)
    }

    /// Trains a student from the answers and all rows: answers spread to the rows that are alike, and the
    /// student learns the beliefs that result. Equal arguments give equal students.
    ///
    /// # Errors
    /// [`LearnError`].
    ///
    /// # Panics
    /// Where an answer names a row that does not exist, or a class that the network does not have.
    pub fn teach(
        &self,
        network: &Network,
        answers: &[Labelled],
        progress: Progress<'_>,
    ) -> Result<Taught, LearnError> {
        if answers.is_empty() {
            return Err(LearnError::NoLabels);
        }
        let targets = self.graph.spread(answers, network.output().len())?;
        let recipe = recipe(network, self.rows.rows());
        let model = train_soft(network, self.rows, &targets, &recipe, self.seed, progress)?;
        Ok(Taught { model, targets })
    }
}

fn recipe(network: &Network, rows: usize) -> Recipe {
    let convolves = |layer: &Layer| matches!(layer, Layer::Conv { .. });
    match network.input().len() {
        _ if network.layers().iter().any(convolves) => Recipe::convolution(rows),
        WIDE_MIN.. => Recipe::images(rows),
        _ => Recipe::table(rows),
    }
}

/// A network for rows of this shape: convolutions for images, dense layers for anything else.
///
/// # Errors
/// Too many values or classes.
pub fn student_network(input: Shape, classes: u32) -> Result<Network, NetworkError> {
    let dense = |outputs| Layer::Dense { outputs };
    let conv = |outputs| Layer::Conv { outputs, window: Window::plain(5, 1) };
    let pool = Layer::MaxPool { window: Window::plain(2, 2) };
    let layers = if input.height.min(input.width) >= IMAGE_SIDE_MIN {
        let features = [conv(8), Layer::Relu, pool, conv(16), Layer::Relu, pool];
        features.into_iter().chain([dense(64), Layer::Relu, dense(classes)]).collect()
    } else if input.len() >= WIDE_MIN {
        vec![dense(128), Layer::Relu, dense(128), Layer::Relu, dense(classes)]
    } else {
        vec![dense(32), Layer::Relu, dense(16), Layer::Relu, dense(classes)]
    };
    Network::new(input, layers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::{Normalisation, breast_cancer, split};
    use crate::distill::{TestRows, curve};

    fn tumours() -> (Examples, Examples) {
        let (train, test) = split(&breast_cancer(), 0.3, 2).unwrap();
        let scale = Normalisation::fit(&train, 6.0).unwrap();
        (scale.apply(&train).unwrap(), scale.apply(&test).unwrap())
    }

    /// Twenty answers about 398 tumours, two of them wrong.
    #[test]
    fn few_answers_make_a_good_student() {
        let (rows, test) = tumours();
        let ground = Ground::of(&rows, 6);
        let clusters = ground.clusters(20);
        let answer = |(index, cluster): (usize, &Vec<usize>)| {
            let row = cluster[0];
            Labelled { row, class: rows.labels()[row] ^ u8::from(index % 10 == 9) }
        };
        let answers: Vec<Labelled> = clusters.iter().enumerate().map(answer).collect();
        let network = student_network(Shape::vector(30), 2).unwrap();
        let taught = ground.teach(&network, &answers, &mut |_, _| ()).unwrap();
        let test = TestRows { rows: test };
        let found = test.accuracy(&taught.model).unwrap();
        assert!(found > 0.88, "{found}");
        assert_eq!(taught.model, ground.teach(&network, &answers, &mut |_, _| ()).unwrap().model);
        let points =
            curve(&ground, &network, &answers, Some(&test), |labels| Some(labels as f64), &mut |_, _| ());
        let points = points.unwrap();
        assert_eq!(points.iter().map(|point| point.labels).collect::<Vec<_>>(), [2, 4, 8, 16]);
        assert!(points.iter().all(|point| point.epsilon == Some(point.labels as f64)));
        assert!(points[3].accuracy.unwrap() > 0.85, "{points:?}");
        assert!(curve(&ground, &network, &answers[..9], None, |_| None, &mut |_, _| ()).unwrap().is_empty());
    }

    #[test]
    fn nothing_is_learned_from_nothing() {
        let rows = Examples::new(2, vec![0.0; 8], vec![0; 4]).unwrap();
        let network = student_network(Shape::vector(2), 2).unwrap();
        let refused = Ground::of(&rows, 0).teach(&network, &[], &mut |_, _| ());
        assert!(matches!(refused, Err(LearnError::NoLabels)));
    }

    #[test]
    fn images_get_convolutions() {
        let summary = |shape| student_network(shape, 10).unwrap().summary();
        assert!(summary(Shape { channels: 1, height: 28, width: 28 }).contains("conv"));
        assert!(!summary(Shape::vector(784)).contains("conv"));
        assert_ne!(summary(Shape::vector(784)), summary(Shape::vector(30)));
    }
}
