//! Text, spans, and the one door to files.
