//! Arithmetic of the ring Z_2^64, fixed point, packed bits and the kernels over them.
