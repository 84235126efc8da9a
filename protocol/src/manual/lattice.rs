//! Products under lattice encryption.
