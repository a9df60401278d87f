# Types of the Rust extension. Held true by stubtest.
