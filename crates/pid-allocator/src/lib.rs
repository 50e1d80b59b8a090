//! pid-allocator
