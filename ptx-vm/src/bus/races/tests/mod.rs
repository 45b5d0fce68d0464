mod global;
mod global_random;
mod shared;
mod shared_edges;
mod shared_random;
