"""Work that ends: Jobs, CronJobs, and what becomes of finished ones."""
