//! What several modules of these tests need.
