"""Kinds that are served in versions which say the same in other words than the stored one."""
