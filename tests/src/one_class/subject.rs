//! Whose data: one user for each class.

use super::TrialError;
use crate::data::{Set, letters, letters_path, load_test, test_path};
use clap::ValueEnum;
use consilium::training::{Examples, ExamplesError};
use consilium_protocol::graph::Shape;
use std::path::{Path, PathBuf};

const LETTERS: usize = 26;

/// A data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// Handwritten digits: the 10,000 test images, 28 x 28
    Mnist,
    /// Printed capitals, 26 users with 16 features
    Letters,
    /// Garments: the 10,000 test images, 28 x 28
    Fashion,
}

/// Rows of all classes.
#[derive(Debug)]
pub struct Material {
    /// Shape of a row.
    pub shape: Shape,
    /// Names of the classes; a label is a position here.
    pub classes: Vec<String>,
    /// Values from 0 to 1.
    pub rows: Examples,
}

impl Material {
    /// The rows of a class among some positions.
    ///
    /// # Errors
    /// The class has no row among them.
    pub fn of(&self, class: usize, positions: &[usize]) -> Result<Examples, ExamplesError> {
        let own = |row: &usize| usize::from(self.rows.labels()[*row]) == class;
        self.rows.select(&positions.iter().copied().filter(own).collect::<Vec<_>>())
    }
}

impl Subject {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mnist => "mnist",
            Self::Letters => "letters",
            Self::Fashion => "fashion",
        }
    }

    /// How many classes it has.
    pub fn classes(self) -> usize {
        self.set().map_or(LETTERS, |set| set.classes().len())
    }

    /// Whether rows are images.
    pub fn is_image(self) -> bool {
        self != Self::Letters
    }

    fn set(self) -> Option<Set> {
        match self {
            Self::Mnist => Some(Set::Mnist),
            Self::Letters => None,
            Self::Fashion => Some(Set::FashionMnist),
        }
    }

    /// The file that is needed.
    pub fn path(self, shared: &Path) -> PathBuf {
        self.set().map_or_else(|| letters_path(shared), |set| test_path(set, shared))
    }

    /// Its rows.
    ///
    /// # Errors
    /// A file is damaged.
    pub fn load(self, shared: &Path) -> Result<Material, TrialError> {
        let (classes, (shape, rows)) = match self.set() {
            Some(set) => (set.classes().iter().map(ToString::to_string).collect(), load_test(set, shared)?),
            None => (('a'..='z').map(String::from).collect(), letters(shared)?),
        };
        Ok(Material { shape, classes, rows })
    }
}
