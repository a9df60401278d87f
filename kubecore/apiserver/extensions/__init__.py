"""CustomResourceDefinitions at work: their lifecycle, and the resources they define, served as all others are."""
