//! Data: sources, decoding, views, and the loader that keeps batches ready.
