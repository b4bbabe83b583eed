//! JSON text that stays text.
