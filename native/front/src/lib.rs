//! The HTTP listener: reads are answered here, everything else is handed over in batches.
