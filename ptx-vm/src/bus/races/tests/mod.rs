mod global;
mod global_random;
mod shared;
mod shared_random;
