//! The larger evaluations: the demo's processes on the data beside the repository.

mod distill;
mod live;
mod noise;
mod pair;
mod planned;
mod makers;
mod released;
mod scenario;
mod shipped;

pub use distill::{Distilled, Distilling, DistillingError, Division, Draws, distilled};
pub use live::{ClientFiles, LiveError, LiveOptions, client_files, distillable, live};
pub use makers::{Accuracy, Equal, Estimate, MakerRow, Makers, MakersError, makers};
pub use noise::{NoisyAccuracy, noisy_accuracies};
pub use pair::{ReleaseError, Released, draws, release_votes};
pub use planned::{Compared, Planned, PlannedError, planned, recorded, service};
pub use released::{Figures, ReleasedError, ReleasedRow, judge, released_rows};
pub use scenario::{Choice, EvaluationError, scenario};
pub use shipped::{ShippedVotes, shipped_votes};
