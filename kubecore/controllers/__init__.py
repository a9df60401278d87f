"""The control loops that make the cluster what its objects say; one file per controller, `manager` runs them all."""
