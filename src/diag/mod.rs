//! Diagnostics: codes, messages, rendering.
